# SPDX-License-Identifier: Apache-2.0
"""The simulated RGB-D sensor: its intrinsics, its noise and its automatic exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from lerf_ros.geometry.camera import PinholeCamera

WIDTH, HEIGHT, FOCAL_PX = 640, 480, 550.0    # pixels
IMAGE_NOISE = 2.0       # of a colour, grey levels of 256
DEPTH_NOISE = 0.003     # of a depth, fraction of it
# Parts of red, green and blue in the luminance (ITU-R BT.709).
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class StereoDepth:
    """What a depth camera that triangulates measures of a view.

    noise: standard deviation at a metre, metres; it grows with the square of the z-depth. near and
    far: metres between which there is depth. edge: step between neighbouring pixels, as a fraction
    of the depth, beside which there is none, because only one of the two imagers sees it.
    """

    noise: float = 0.0015
    near: float = 0.25
    far: float = 6.0
    edge: float = 0.06

    def measure(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns what is measured (H, W) float32 of z-depths (H, W); 0 where there is nothing."""
        noise = rng.standard_normal(depth_m.shape, np.float32) * np.float32(self.noise)
        measured = depth_m + noise * depth_m ** 2
        known = (depth_m >= self.near) & (depth_m <= self.far) & ~self.beside_edges(depth_m)
        return np.where(known, measured, 0).astype(np.float32)

    def beside_edges(self, depth_m: np.ndarray) -> np.ndarray:
        """Returns which pixels (H, W) bool lie behind an edge, beside the nearer surface."""
        nearest = cv2.erode(depth_m.astype(np.float32), np.ones((3, 3), np.uint8))
        return nearest < depth_m * (1 - self.edge)


@dataclass(frozen=True)
class AutoExposure:
    """Automatic exposure, which follows the brightness of the view with a lag.

    target: mean luminance that it aims at, linear, 1 is white. lag_s: time in which it corrects
    63 % of the error of the gain in stops. low, high: limits of the gain.
    """

    target: float = 0.25
    lag_s: float = 1.5
    low: float = 0.4
    high: float = 2.5

    def wanted_gain(self, image: np.ndarray) -> float:
        """Returns the gain, within limits, that brings an image (H, W, 3) uint8 to the target."""
        mean = float(luminance(image).mean())
        return float(np.clip(self.target / max(mean, 1e-6), self.low, self.high))


def luminance(image: np.ndarray) -> np.ndarray:
    """Returns the linear luminance (H, W), 0 to 1, of a rendered image (H, W, 3) uint8."""
    return np.square(image.astype(np.float32) / 255) @ LUMINANCE.astype(np.float32)


def expose(image: np.ndarray, gain: float | None, exposure: AutoExposure | None,
           step_s: float) -> tuple[np.ndarray, float | None]:
    """Returns the rendered image (H, W, 3) uint8 as exposed, and the gain for the next one.

    gain: from the previous call; None for the first image, which is exposed correctly. step_s:
    seconds until the next image. Without `exposure` the image is returned as it is.
    """
    if exposure is None:
        return image, None
    wanted = exposure.wanted_gain(image)
    current = wanted if gain is None else gain
    reached = 1 - math.exp(-step_s / exposure.lag_s)
    return with_gain(image, current), current * (wanted / current) ** reached


def with_gain(image: np.ndarray, gain: float) -> np.ndarray:
    """Returns the image (H, W, 3) uint8 with its light multiplied by `gain`, clipped to white.

    The renderer's gamma is 2, so grey levels are multiplied by the square root of the gain.
    """
    return np.clip(np.rint(image * np.float32(math.sqrt(gain))), 0, 255).astype(np.uint8)


def noisy_image(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Returns the image (H, W, 3) uint8 with Gaussian noise of `sigma` grey levels."""
    if sigma <= 0:
        return image
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def noisy_depth(depth_m: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Returns the depth (H, W) float32 with Gaussian noise of `sigma` times the depth."""
    if sigma <= 0:
        return depth_m
    noise = rng.standard_normal(depth_m.shape, np.float32) * np.float32(sigma)
    return (depth_m * np.maximum(1 + noise, 0)).astype(np.float32)


def sensor_camera(width: int = WIDTH, height: int = HEIGHT) -> PinholeCamera:
    """Returns the camera with this many pixels and the same horizontal angle of view."""
    focal_px = FOCAL_PX * width / WIDTH
    return PinholeCamera(width, height, focal_px, focal_px, width / 2, height / 2)
