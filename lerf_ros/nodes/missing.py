# SPDX-License-Identifier: Apache-2.0
"""What an image waits for, and what no wait would mend."""

from __future__ import annotations


class Missing(Exception):
    """Something of a frame has not arrived; (reason, message) if it never does."""


class Unusable(Missing):
    """What has arrived cannot be used: the image is refused at once, with (reason, message)."""
