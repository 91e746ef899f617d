# SPDX-License-Identifier: Apache-2.0
"""When a map is ready to be asked: judged from the reports of the mapper, without ROS calls."""

from __future__ import annotations

import math
from typing import Any

from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.conversions import stamp_to_ns


class MapProgress:
    """What the images and the reports on lerf/status told so far; times are in seconds."""

    def __init__(self, quiet_s: float):
        """quiet_s: the capture is over when no image came for this long."""
        self._quiet_s = quiet_s
        self.first_image_ns: int | None = None
        self.status: Any = None
        self._last_image_s, self._last_image_ns = -math.inf, 0

    def image(self, stamp_ns: int, now_s: float) -> None:
        """An image with this stamp was published."""
        self.first_image_ns = stamp_ns if self.first_image_ns is None else self.first_image_ns
        self._last_image_s, self._last_image_ns = now_s, stamp_ns

    def report(self, status: Any) -> None:
        """A FieldStatus arrived."""
        self.status = status

    def capture_over(self, now_s: float) -> bool:
        """Whether images came, and no more do."""
        return self.first_image_ns is not None and now_s - self._last_image_s > self._quiet_s

    def ready(self, now_s: float) -> bool:
        """Whether no more images come and the mapper says that it has learned all of them.

        Steps that rest for a while mean nothing: they do so while a snapshot is written too.
        """
        status = self.status
        return (status is not None and self.capture_over(now_s)
                and stamp_to_ns(status.newest_snapshot) > 0
                and status.state == FieldStatus.SETTLED)

    def snapshot_after_capture(self) -> bool:
        """Whether the newest snapshot was taken after the last image."""
        return (self.status is not None
                and stamp_to_ns(self.status.newest_snapshot) > self._last_image_ns)

    def line(self) -> str:
        """For people: how far the map is."""
        status = self.status
        if status is None:
            return ('no report on lerf/status yet: the mapper is starting, or it does not run in '
                    'this ROS domain')
        if status.state == FieldStatus.WAITING and not status.keyframes_used:
            return status.message or 'the mapper waits'
        quality = '' if math.isnan(status.psnr) else f', PSNR {status.psnr:.1f} dB'
        words = f' ({status.message})' if status.message else ''
        return (f'{status.keyframes_used} keyframes, {status.steps} steps, '
                f'{status.rays_per_second:.0f} rays/s{quality}{words}')
