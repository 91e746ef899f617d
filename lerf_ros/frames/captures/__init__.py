# SPDX-License-Identifier: Apache-2.0
"""Captures on disk, each layout read by a file of its own; load.py opens any of them."""
