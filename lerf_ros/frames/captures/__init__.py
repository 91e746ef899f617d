# SPDX-License-Identifier: Apache-2.0
"""Readers of captures on disk, one module for each layout; load.py opens any of them."""
