# SPDX-License-Identifier: Apache-2.0
"""Which points fall into the picture of a view, asked for many points and many views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.camera import FISHEYE, PinholeCamera, invert_pose


@dataclass(frozen=True)
class InPicture:
    """Those n of many points that a view's grid shows, were nothing before them.

    index (n,) of the points, row and column (n,) of the nearest cell of the grid, distance (n,)
    from the camera.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    distance: np.ndarray


def columns(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) as (3, N) float32, as `in_picture` reads them fastest."""
    return np.ascontiguousarray(np.asarray(points).T, np.float32)


def in_picture(camera: PinholeCamera, T_scene_camera: np.ndarray, step: int,
               points: np.ndarray) -> InPicture:
    """Points (3, N) float32, scene frame, in a grid of every step-th pixel of a camera."""
    x, y, z = _in_camera(T_scene_camera, points)
    chosen = np.arange(points.shape[1])
    if camera.model != FISHEYE:
        # Most points are behind a camera or beside its picture; the lens is asked about the rest.
        slope_x, slope_y = widest_slopes(camera)
        chosen = np.flatnonzero((z > 1e-6) & (np.abs(x) <= slope_x * z)
                                & (np.abs(y) <= slope_y * z))
        x, y, z = x[chosen], y[chosen], z[chosen]
    at = grid_cells(camera.project(np.stack([x, y, z], -1)), step)
    size = (len(range(step // 2, camera.width, step)), len(range(step // 2, camera.height, step)))
    inside = ((at >= 0) & (at < size)).all(1)
    return InPicture(chosen[inside], at[inside, 1], at[inside, 0],
                     np.sqrt(x * x + y * y + z * z)[inside])


def _in_camera(T_scene_camera: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coordinates in the camera's frame; by hand, since a product with a 3 x 3 matrix is slow."""
    T = invert_pose(T_scene_camera).astype(np.float32)
    return tuple(row[0] * points[0] + row[1] * points[1] + row[2] * points[2] + row[3]
                 for row in T[:3])


def grid_cells(pixels: np.ndarray, step: int) -> np.ndarray:
    """Cells (N, 2) (column, row) of every step-th pixel nearest to pixels (N, 2); NaN is none."""
    # Far outside of the image a lens polynomial goes to where integers end.
    near = np.clip(np.nan_to_num(pixels, nan=-1e6), -1e6, 1e6)
    return np.rint((near - 0.5 - step // 2) / step).astype(np.int64)


def widest_slopes(camera: PinholeCamera) -> np.ndarray:
    """The largest |x / z| and |y / z| (2,) float32 that the rim of the picture sees."""
    x, y = np.linspace(0, camera.width, 9), np.linspace(0, camera.height, 9)
    rim = np.concatenate([np.stack([x, np.full(9, v)], -1) for v in (0, camera.height)]
                         + [np.stack([np.full(9, v), y], -1) for v in (0, camera.width)])
    directions = camera.directions(rim)
    slopes = np.abs(directions[:, :2] / np.maximum(directions[:, 2:], 1e-3))
    return slopes.max(0).astype(np.float32)
