# SPDX-License-Identifier: Apache-2.0
"""Colour, depth and mask images on disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lerf_ros.camera import PinholeCamera
from lerf_ros.errors import DatasetError


def read_color(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB, not turned by the camera's orientation tag (poses are not either)."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DatasetError(f'{path} is not an image that OpenCV can read')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_depth(path: Path, unit_m: float) -> np.ndarray:
    """(H, W) float32 metres of a one-channel image or a NumPy file; 0 where unknown."""
    try:
        raw = np.load(path) if path.suffix == '.npy' else cv2.imread(str(path),
                                                                     cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} is not a depth image: {error}') from error
    if raw is None or raw.ndim != 2:
        raise DatasetError(f'{path} is not a depth image: one channel is needed')
    return raw.astype(np.float32) * np.float32(unit_m)


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, False where the image is black."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if mask is None:
        raise DatasetError(f'{path} is not an image that OpenCV can read')
    return mask > 0


def shrink(array: np.ndarray, camera: PinholeCamera, interpolation: int) -> np.ndarray:
    """Resizes to the camera's size."""
    return cv2.resize(array, (camera.width, camera.height), interpolation=interpolation)
