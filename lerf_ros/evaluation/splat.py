# SPDX-License-Identifier: Apache-2.0
"""Points drawn into a camera as small discs, with occlusion among themselves."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.camera import PinholeCamera, invert_pose, transform_points

# Largest disc, so that a point just before the lens does not cost a whole image.
MAX_RADIUS_PX = 12
# A point is hidden only by a disc that is nearer than this part of its depth.
DEPTH_TOLERANCE = 0.03


def disc_radius(points_world: np.ndarray, sample: int = 2000) -> float:
    """A radius (world units) at which discs close the gaps of a surface of points (N, 3).

    Three quarters of the distance to the third nearest neighbour: on a square grid of pitch p
    that is 0.75 p, a little more than half its diagonal. Nine in ten points are that close, so
    that sparse parts close their gaps as well.
    """
    if len(points_world) < 4:
        return 0.0
    chosen = np.random.default_rng(0).permutation(len(points_world))[:sample]
    distance, _ = cKDTree(points_world).query(points_world[chosen], k=4)
    return 0.75 * float(np.quantile(distance[:, 3], 0.9))


def splat(points_world: np.ndarray, camera: PinholeCamera, T_world_camera: np.ndarray,
          radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Which point each pixel shows, and how far it is.

    points_world: (N, 3). radius: of the discs, world units. Returns the index of the nearest
    point (H, W) int64, -1 where there is none, and its depth (H, W) float64, inf where none.
    """
    index = np.full((camera.height, camera.width), -1, np.int64)
    depth = np.full((camera.height, camera.width), np.inf)
    columns, rows, z = _pixels(points_world, camera, T_world_camera)
    seen = np.flatnonzero(columns > -10**6)
    if not len(seen):
        return index, depth
    reach = np.clip(radius * camera.fx / z[seen], 0, MAX_RADIUS_PX)
    owner, u, v = [], [], []
    for step in range(int(np.ceil(reach.max())) + 1):
        group = seen[np.ceil(reach).astype(int) == step]
        dx, dy = _disc(step)
        owner.append(np.repeat(group, len(dx)))
        u.append((columns[group, None] + dx).ravel())
        v.append((rows[group, None] + dy).ravel())
    points, x, y = (np.concatenate(part) for part in (owner, u, v))
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    points, x, y = points[inside], x[inside], y[inside]
    far_first = np.argsort(-z[points], kind='stable')   # the nearest is written last and stays
    points, x, y = points[far_first], x[far_first], y[far_first]
    index[y, x] = points
    depth[y, x] = z[points]
    return index, depth


def visible(points_world: np.ndarray, camera: PinholeCamera, T_world_camera: np.ndarray,
            radius: float) -> np.ndarray:
    """Which of the points (N, 3) the camera sees: in the image and behind no other; (N,) bool."""
    _, nearest = splat(points_world, camera, T_world_camera, radius)
    columns, rows, z = _pixels(points_world, camera, T_world_camera)
    inside = (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    seen = np.zeros(len(points_world), bool)
    limit = nearest[rows[inside], columns[inside]] * (1 + DEPTH_TOLERANCE) + radius
    seen[inside] = z[inside] <= limit
    return seen


def depth_of(points_world: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """The z-depth (N,) of points (N, 3), negative behind the camera."""
    return transform_points(invert_pose(T_world_camera), np.asarray(points_world, np.float64))[:, 2]


def _pixels(points_world: np.ndarray, camera: PinholeCamera,
            T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, row (far outside for points behind the camera) and depth of points (N, 3)."""
    points_camera = transform_points(
        invert_pose(T_world_camera), np.asarray(points_world, np.float64))
    pixels = camera.project(points_camera)
    # The lens polynomial folds far outside of the image: such points may come back inside it.
    direction = points_camera[:, :2] / np.maximum(points_camera[:, 2:], 1e-9)
    limit = 1.5 * np.array([camera.width / camera.fx, camera.height / camera.fy])
    good = np.isfinite(pixels).all(1) & (np.abs(direction) < limit).all(1)
    whole = np.where(good[:, None], np.floor(np.nan_to_num(pixels)), -10**7).astype(np.int64)
    return whole[:, 0], whole[:, 1], points_camera[:, 2]


def _disc(radius: int) -> tuple[np.ndarray, np.ndarray]:
    dy, dx = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    inside = dx * dx + dy * dy <= (radius + 0.5) ** 2   # with the diagonals, which close gaps
    return dx[inside], dy[inside]
