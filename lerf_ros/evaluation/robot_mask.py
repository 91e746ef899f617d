# SPDX-License-Identifier: Apache-2.0
"""Parts of the robot that its own camera always sees: what never changes while the camera moves."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

BLUR_PX = 5
# Levels of 255. On the shelf of an RGB-D arm the gripper varies by up to 15 (noise, exposure),
# 99 % of everything else by more than 24.
STILL = 16.0
# As parts of the image's longer side: holes that are filled, specks that are dropped, and a rim.
HOLE, SPECK, RIM = 0.05, 0.03, 0.012


def robot_mask(images: Sequence[np.ndarray]) -> np.ndarray:
    """Where (H, W) images (H, W, 3) uint8 of one size show anything but the robot, bool.

    The images must be of a camera that moves through its scene, at least three of them: a wall
    that fills the same pixels in all would be taken for the robot. Fewer give True everywhere.
    """
    shape = images[0].shape[:2]
    if len(images) < 3 or any(image.shape[:2] != shape for image in images):
        return np.ones(shape, bool)
    mean, square = np.zeros(images[0].shape), np.zeros(images[0].shape)
    for image in images:
        smooth = cv2.blur(image.astype(np.float64), (BLUR_PX, BLUR_PX))
        mean += smooth / len(images)
        square += smooth ** 2 / len(images)
    deviation = np.sqrt(np.maximum(square - mean ** 2, 0)).max(-1)
    still = (deviation < STILL).astype(np.uint8)
    # With a border of its own colours, so that what reaches the edge is not worn off there.
    pad = max(shape) // 10
    still = cv2.copyMakeBorder(still, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    for operation, part in ((cv2.MORPH_CLOSE, HOLE), (cv2.MORPH_OPEN, SPECK),
                            (cv2.MORPH_DILATE, RIM)):
        side = max(1, round(part * max(shape)))
        still = cv2.morphologyEx(still, operation, np.ones((side, side), np.uint8))
    return still[pad:-pad, pad:-pad] == 0
