# SPDX-License-Identifier: Apache-2.0
"""Procedural colours: functions from points (N, 3) of a part, metres, to sRGB (N, 3) in 0..1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Color = Callable[[np.ndarray], np.ndarray]
RGB = Sequence[float] | np.ndarray
LATTICE = 32


def f32(values: npt.ArrayLike) -> np.ndarray:
    """Returns values as float32, since single precision halves the time of each pixel."""
    return np.asarray(values, np.float32)


def solid(rgb: RGB) -> Color:
    """Returns one colour everywhere."""
    value = f32(rgb)

    def color(points: np.ndarray) -> np.ndarray:
        return np.broadcast_to(value, (len(points), 3))
    return color


def mixed(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Returns a where weight (N,) is 0, b where it is 1, and a mixture between."""
    return a + (b - a) * np.clip(weight, 0, 1)[:, None].astype(np.float32)


def step(x: np.ndarray, edge: float | np.ndarray, width: float) -> np.ndarray:
    """Returns 0 below the edge and 1 above it, with a ramp of that width against aliasing."""
    return np.clip((x - edge) / width + 0.5, 0, 1)


@lru_cache(64)
def lattice_of(seed: int) -> np.ndarray:
    """Returns random values (32, 32, 32) float32 in 0..1."""
    return np.random.default_rng(seed).random((LATTICE,) * 3, dtype=np.float32)


def noise(points: np.ndarray, scale: float, seed: int = 0) -> np.ndarray:
    """Returns smooth value noise (N,) in 0..1 on a lattice with `scale` metres spacing."""
    lattice = lattice_of(seed)
    p = f32(points) / f32(scale)
    cell = np.floor(p)
    f = p - cell
    f = f * f * (3 - 2 * f)
    i = cell.astype(np.int64) % LATTICE
    j = (i + 1) % LATTICE
    value = np.zeros(len(p), np.float32)
    for corner in range(8):
        pick = [(corner >> k) & 1 for k in range(3)]
        index = [j[:, k] if pick[k] else i[:, k] for k in range(3)]
        weight = np.ones(len(p), np.float32)
        for k in range(3):
            weight *= f[:, k] if pick[k] else 1 - f[:, k]
        value += weight * lattice[index[0], index[1], index[2]]
    return value


def mottled(a: RGB, b: RGB, scale: float, seed: int = 0) -> Color:
    """Returns two colours, mixed by two octaves of noise."""
    first, second = f32(a), f32(b)

    def color(points: np.ndarray) -> np.ndarray:
        n = 0.65 * noise(points, scale, seed) + 0.35 * noise(points, scale / 2.7, seed + 1)
        return mixed(first[None], second[None], (n - 0.25) * 2)
    return color


def wood(light: RGB, dark: RGB, axis: int = 0, ring: float = 0.02, seed: int = 0) -> Color:
    """Returns wood with its grain along an axis."""
    a, b = np.asarray(light, np.float32), np.asarray(dark, np.float32)

    def color(points: np.ndarray) -> np.ndarray:
        squeeze = np.ones(3, np.float32)
        squeeze[axis] = 0.08
        p = points * squeeze
        across = points[:, (axis + 1) % 3] + 0.6 * ring * noise(p, ring * 3, seed)
        wave = 0.5 + 0.5 * np.sin(across / ring * 2 * np.pi + 6 * noise(p, ring * 4, seed + 1))
        fibre = noise(p, ring / 8, seed + 2)
        return mixed(a[None], b[None], 0.55 * wave + 0.35 * fibre - 0.1)
    return color


def from_image(image: np.ndarray, place: Callable[[np.ndarray], np.ndarray]) -> Color:
    """Returns the colours of an image (h, w, 3) in 0..1. place: maps points to (x, y) in 0..1."""
    height, width = image.shape[:2]
    picture = np.ascontiguousarray(image, np.float32)

    def color(points: np.ndarray) -> np.ndarray:
        xy = place(points).astype(np.float32) * f32([width, height]) - 0.5
        return sample(picture, xy)
    return color


def sample(picture: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Returns bilinear values (N, C) of a picture (h, w, C) float32 at pixel indices (N, 2)."""
    # cv2.remap allows at most 32767 pixels a side, so the points are folded into rows.
    count, fold = len(xy), 1024
    padded = np.zeros((-(-count // fold) * fold, 2), np.float32)
    padded[:count] = xy
    folded = padded.reshape(-1, fold, 2)
    values = cv2.remap(picture, folded[..., 0], folded[..., 1], cv2.INTER_LINEAR,
                       borderMode=cv2.BORDER_REPLICATE)
    return values.reshape(len(padded), -1)[:count]
