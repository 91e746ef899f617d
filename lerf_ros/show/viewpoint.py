# SPDX-License-Identifier: Apache-2.0
"""From where a map is looked at first: from where somebody stood who took its photographs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lerf_ros.geometry.camera import PinholeCamera, nearest_to_axes
from lerf_ros.geometry.up_direction import rotation_to

SMALLEST = 1e-4
STEP_BACK = 0.15                        # of the distance, so that a little more is seen
# Vertical fields of view of a page: a long lens looked at through a wide one makes things tiny.
NARROWEST_RAD, WIDEST_RAD = math.radians(20), math.radians(75)
VIEW_FROM = np.array([0.8, -0.9, 1.2])  # without photographs, times the extent; z is up


def first_view(points_world: np.ndarray, poses: Sequence[np.ndarray], up: np.ndarray
               ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the position (3,) and the target (3,) of the first view of a map.

    poses: T_world_camera (4, 4) of keyframes: the view is that of the one that looks at the middle
    of what all look at from a usual distance, a step further back. Without any, the view shows most
    of the points (N, 3) from above. up: unit vector (3,).
    """
    if len(poses):
        return _as_a_keyframe(np.stack(list(poses)))
    points = np.asarray(points_world, np.float64).reshape(-1, 3)
    if not len(points):
        return VIEW_FROM, np.zeros(3)
    low, high = np.percentile(points, (10, 90), axis=0)
    extent = max(float(np.linalg.norm(high - low)), SMALLEST)
    return (low + high) / 2 + extent * rotation_to(up) @ VIEW_FROM, (low + high) / 2


def usual_fov(cameras: Sequence[PinholeCamera]) -> float:
    """Returns the vertical field of view, radians, at which a map is looked at: its cameras' own.

    cameras: of its keyframes; without any, the widest.
    """
    if not cameras:
        return WIDEST_RAD
    own = np.median([2 * math.atan(camera.height / 2 / camera.fy) for camera in cameras])
    return float(np.clip(own, NARROWEST_RAD, WIDEST_RAD))


def pointed_at(points: np.ndarray, origin: np.ndarray, direction: np.ndarray,
               reach: float) -> int | None:
    """Returns the index of the first point (N, 3) that a ray passes within a distance of.

    origin (3,), direction (3,): of the ray. reach: that distance, in the units of the points. None
    where it passes none.
    """
    offsets = np.asarray(points, np.float64) - origin
    way = direction / np.linalg.norm(direction)
    along = offsets @ way
    aside = np.linalg.norm(offsets - along[:, None] * way, axis=1)
    near = np.flatnonzero((along > 0) & (aside <= reach))
    return int(near[np.argmin(along[near])]) if len(near) else None


def _as_a_keyframe(T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places, axes = T_world_camera[:, :3, 3], T_world_camera[:, :3, 2]
    center, _ = nearest_to_axes(T_world_camera)
    offsets = center - places
    distances = np.maximum(np.linalg.norm(offsets, axis=1), SMALLEST)
    cosines = (axes * offsets).sum(1) / distances
    unusual = np.abs(np.log(distances / np.median(distances)))
    best = int(np.argmax(cosines - 0.5 * unusual))
    reach = distances[best]
    return places[best] - STEP_BACK * reach * axes[best], places[best] + reach * axes[best]
