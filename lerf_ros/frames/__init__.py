# SPDX-License-Identifier: Apache-2.0
"""Posed images: one at a time, chosen, forgotten, read from captures, checked."""
