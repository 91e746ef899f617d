# SPDX-License-Identifier: Apache-2.0
"""The simulated RGB-D camera as it is unless told otherwise; the node has the same defaults."""

from __future__ import annotations

from lerf_ros.camera import PinholeCamera

# Pixels.
WIDTH, HEIGHT = 640, 480
FOCAL_PX = 550.0
# Of a colour, in grey levels of 256, and of the depth, as a part of it.
IMAGE_NOISE, DEPTH_NOISE = 2.0, 0.003
# Two turns round the table.
PATH_S = 60.0


def sensor_camera(width: int = WIDTH, height: int = HEIGHT) -> PinholeCamera:
    """The camera with this many pixels; its horizontal angle of view stays the same."""
    focal_px = FOCAL_PX * width / WIDTH
    return PinholeCamera(width, height, focal_px, focal_px, width / 2, height / 2)
