# SPDX-License-Identifier: Apache-2.0
"""Light that does not depend on the camera, computed once for a scene."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from lerf_ros.simulation.scene import Light
from lerf_ros.simulation.textures import f32, sample

# Casts `(rays (N, 6), tfar)` and tells which are blocked (N,) bool.
Occlusion = Callable[[np.ndarray, np.ndarray], np.ndarray]
LIFT = 1e-4


def hemisphere(count: int) -> np.ndarray:
    """Directions (count, 3) about +z, as dense as the cosine: their mean is ambient light."""
    k = np.arange(count) + 0.5
    radius, angle = np.sqrt(k / count), k * 2.399963
    return np.stack([radius * np.cos(angle), radius * np.sin(angle),
                     np.sqrt(1 - radius * radius)], 1)


def disc(light: Light, count: int) -> np.ndarray:
    """Points (count, 3) on the round lamp, which faces down."""
    k = np.arange(count) + 0.5
    radius, angle = light.radius * np.sqrt(k / count), k * 2.399963
    offset = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)], 1)
    return light.position + offset


def openness(points: np.ndarray, normals: np.ndarray, occluded: Occlusion, count: int,
             reach: float = 0.4) -> np.ndarray:
    """The part (N,) in 0..1 of ambient light that reaches points (N, 3) with normals (N, 3)."""
    helper = np.where(np.abs(normals[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    x = np.cross(helper, normals)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    y = np.cross(normals, x)
    total = np.zeros(len(points))
    for d in hemisphere(count):
        direction = d[0] * x + d[1] * y + d[2] * normals
        rays = np.concatenate([points + 1e-3 * normals, direction], 1)
        total += ~occluded(rays, np.full(len(points), reach))
    return total / count


def visibility(points: np.ndarray, light: Light, occluded: Occlusion, count: int) -> np.ndarray:
    """The part (N,) of the lamp that points (N, 3) see: soft shadows."""
    total = np.zeros(len(points))
    for spot in disc(light, count):
        rays = np.concatenate([points, spot - points], 1)
        total += ~occluded(rays, np.full(len(points), 0.999))
    return total / count


class PlaneLight:
    """Shadow and openness of a horizontal rectangle about the z axis, as a picture."""

    def __init__(self, height: float, half: tuple[float, float], texel: float, light: Light,
                 occluded: Occlusion) -> None:
        columns, rows = (round(2 * h / texel) for h in half)
        x, y = np.meshgrid((np.arange(columns) + 0.5) * texel - half[0],
                           (np.arange(rows) + 0.5) * texel - half[1])
        points = np.stack([x, y, np.full_like(x, height + LIFT)], -1).reshape(-1, 3)
        up = np.broadcast_to([0.0, 0.0, 1.0], points.shape)
        seen = visibility(points, light, occluded, 12).reshape(rows, columns)
        open_ = openness(points, up, occluded, 20).reshape(rows, columns)
        # Few rays a texel are noisy; the blur is finer than the penumbra.
        self.picture = np.dstack([cv2.GaussianBlur(a.astype(np.float32), (0, 0), 0.8)
                                  for a in (seen, open_)])
        self.half, self.texel = f32(half), f32(texel)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Visibility of the lamp and openness, (N,) each, at world points (N, 3)."""
        xy = (points[:, :2] + self.half) / self.texel - f32(0.5)
        values = sample(self.picture, xy)
        return values[:, 0], values[:, 1]
