# SPDX-License-Identifier: Apache-2.0
"""Posed images: reading them from captures, checking them, and selecting keyframes."""
