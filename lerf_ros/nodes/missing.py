# SPDX-License-Identifier: Apache-2.0
"""What an image waits for."""

from __future__ import annotations


class Missing(Exception):
    """Something of a frame has not arrived; (reason, message) if it never does."""
