# SPDX-License-Identifier: Apache-2.0
"""The automatic exposure of a camera: brightness follows what is in view, late."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lerf_ros.geometry.camera import PinholeCamera

# Parts of red, green and blue in the luminance (ITU-R BT.709).
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class AutoExposure:
    """target: mean luminance aimed at, linear, 1 is white. lag_s: time in which the camera makes
    up 63 % of what the gain (in stops) is off. low, high: limits of the gain."""

    target: float = 0.25
    lag_s: float = 1.5
    low: float = 0.4
    high: float = 2.5

    def wanted_gain(self, image: np.ndarray) -> float:
        """The gain that would bring an image (H, W, 3) uint8 to the target, within the limits."""
        mean = float(luminance(image).mean())
        return float(np.clip(self.target / max(mean, 1e-6), self.low, self.high))


def luminance(image: np.ndarray) -> np.ndarray:
    """Linear luminance (H, W), 0 to 1, of an image (H, W, 3) uint8 as rendered (gamma 2)."""
    return np.square(image.astype(np.float32) / 255) @ LUMINANCE.astype(np.float32)


def expose(image: np.ndarray, gain: float | None, exposure: AutoExposure | None,
           step_s: float) -> tuple[np.ndarray, float | None]:
    """The rendered image (H, W, 3) uint8 as the camera gives it, and the gain of the next one.

    gain: from the call before, None for the first image, which is exposed as it should be.
    step_s: seconds until the next image. Without `exposure` the image itself comes back.
    """
    if exposure is None:
        return image, None
    wanted = exposure.wanted_gain(image)
    current = wanted if gain is None else gain
    reached = 1 - math.exp(-step_s / exposure.lag_s)
    return with_gain(image, current), current * (wanted / current) ** reached


def with_gain(image: np.ndarray, gain: float) -> np.ndarray:
    """The image (H, W, 3) uint8 with its light multiplied by `gain`; what is too bright is cut.

    Gamma is 2 in the renderer, so light times gain is grey times the root of it.
    """
    return np.clip(np.rint(image * np.float32(math.sqrt(gain))), 0, 255).astype(np.uint8)


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
