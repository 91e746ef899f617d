# SPDX-License-Identifier: Apache-2.0
"""The surface around a hit as depth images show it, which is finer than the points of a map.

A map keeps points 6 to 8 mm apart, too few to show the side of a keyboard or the wall of a cup. The
depth images of its keyframes show them 1 to 2 mm apart. Pixels of some views from different sides
are averaged in small cells, each side of a thin wall by itself, and take the place of the map's
points. Only what lies at a point of the map counts: what has moved since is not in the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.grasping.surface import smoothed

VIEWS, MOST_READ = 6, 12    # depth images that are used, and frames that are looked at for them
MARGIN_M = 0.03         # around a hit in which its surface is taken from them
CELL_M = 0.005          # side of the cells in which pixels are averaged
LEAST_PIXELS = 2        # of a cell: one alone may be noise
STEP_PX = 2             # from one pixel to the next that is taken: a normal spans two such steps
STEEP = 5.0             # times that distance, from which on a step in depth is an edge
FACING = 0.2            # least cosine between a normal and the way to the camera
AT_MAP_M = 0.012        # from the map's points to what the images show of the same surface
REPLACED_M = 0.008      # from such a point to the map's points that it takes the place of
NEIGHBOURS, RADIUS_M = 24, 0.009    # over which the result is smoothed
AHEAD = 0.8             # least cosine between a camera's axis and the way to what it shows


class Surface(NamedTuple):
    """Points (N, 3) with normals (N, 3), the indices of a hit's members, relevancies (N,)."""

    points: np.ndarray
    normals: np.ndarray
    members: np.ndarray
    relevancy: np.ndarray


def refined(surface: Surface, origin: np.ndarray, frames: Iterable[Frame]) -> Surface:
    """Returns the surface with the points of depth images around the hit.

    origin (3,): of the points in the world. frames: of keyframes that show the hit, the most useful
    first; no more are taken than are needed. Without depth the surface stays as it is.
    """
    hit = surface.points[surface.members].astype(np.float64)
    low, high = hit.min(0) - MARGIN_M, hit.max(0) + MARGIN_M
    seen = (part for frame in islice(frames, MOST_READ)
            if len(part := seen_points(frame, low, high, origin)))
    parts = list(islice(seen, VIEWS))
    points, normals = smoothed(*averaged(np.concatenate(parts)), NEIGHBOURS, RADIUS_M) \
        if parts else (np.zeros((0, 3)),) * 2
    if not len(points):
        return surface
    away, near = cKDTree(surface.points).query(points, distance_upper_bound=AT_MAP_M)
    points, normals, near = (part[np.isfinite(away)] for part in (points, normals, near))
    return merged(surface, points, normals, near) if len(points) else surface


def merged(surface: Surface, points: np.ndarray, normals: np.ndarray,
           near: np.ndarray) -> Surface:
    """Returns the surface in which points (K, 3) take the place of those that they lie at.

    near (K,): which of the old points lies next to each: what that is part of it is part of.
    """
    member = np.zeros(len(surface.points), bool)
    member[surface.members] = True
    away = cKDTree(points).query(surface.points, distance_upper_bound=REPLACED_M)[0]
    kept = ~np.isfinite(away)
    return Surface(
        np.concatenate([surface.points[kept], points]).astype(np.float32),
        np.concatenate([surface.normals[kept], normals]).astype(np.float32),
        np.flatnonzero(np.concatenate([member[kept], member[near]])),
        np.concatenate([surface.relevancy[kept], surface.relevancy[near]]))


def seen_points(frame: Frame, low: np.ndarray, high: np.ndarray,
                origin: np.ndarray) -> np.ndarray:
    """Returns what a depth image shows inside of a box, (K, 6): points, then their normals.

    low, high (3,): corners of the box, relative to the origin (3,), as the points are.
    """
    R, center = frame.T_world_camera[:3, :3], frame.T_world_camera[:3, 3] - origin
    window = window_of(frame.camera, (box_corners(low, high) - center) @ R)
    if frame.depth_m is None or window is None:
        return np.zeros((0, 6))
    depth = frame.depth_m[window].astype(np.float64)
    shown, known = frame.camera.back_project(
        frame.camera.pixel_grid()[window].reshape(-1, 2), depth.reshape(-1))
    points = np.full((*depth.shape, 3), np.nan)
    points[known.reshape(depth.shape)] = shown
    normals, usable = normals_of(points, STEP_PX / frame.camera.fx)
    if frame.valid is not None:
        usable &= frame.valid[window]
    out = np.concatenate([points[usable] @ R.T + center, normals[usable] @ R.T], 1)
    return out[((out[:, :3] >= low) & (out[:, :3] <= high)).all(1)]


def box_corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the corners (8, 3) of a box along the axes."""
    return np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, 3)


def window_of(camera: PinholeCamera, corners: np.ndarray) -> tuple[slice, slice] | None:
    """Returns rows and columns that may show a box of corners (8, 3) in the camera's frame.

    None where part of it lies behind the camera or its lens, or too little of it in the image.
    """
    pixels = camera.project(corners)
    if not np.isfinite(pixels).all() or (corners[:, 2] <= 0).any():
        return None
    first = np.maximum(np.floor(pixels.min(0)).astype(int) - STEP_PX, 0)
    last = np.minimum(np.ceil(pixels.max(0)).astype(int) + STEP_PX + 1,
                      [camera.width, camera.height])
    if (last - first <= 4 * STEP_PX).any():
        return None
    return slice(first[1], last[1], STEP_PX), slice(first[0], last[0], STEP_PX)


def normals_of(points: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit normals (H, W, 3), towards the camera, of an image of points (H, W, 3).

    Also (H, W) bool, where they can be trusted: not at edges, nor where the surface is seen from
    the side. The points are in the frame of the camera, NaN where unknown. pixel: their distance at
    unit depth.
    """
    across, down = np.full_like(points, np.nan), np.full_like(points, np.nan)
    across[:, 1:-1] = points[:, 2:] - points[:, :-2]
    down[1:-1] = points[2:] - points[:-2]
    normals = np.cross(down, across)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    distance = np.maximum(np.linalg.norm(points, axis=2), 1e-9)
    facing = -(normals * points).sum(2) / distance
    step = np.maximum(np.linalg.norm(across, axis=2), np.linalg.norm(down, axis=2))
    usable = (np.abs(facing) > FACING) & (step < 2 * STEEP * pixel * points[..., 2])
    return normals * np.sign(facing)[..., None], usable


def averaged(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (C, 3) and unit normals (C, 3): the means in cells of pixels (K, 6).

    Normals along different axes, or against each other, belong to different surfaces.
    """
    points, normals = seen[:, :3], seen[:, 3:]
    axis = np.abs(normals).argmax(1)
    side = 2 * axis + (normals[np.arange(len(normals)), axis] > 0)
    cells = np.floor((points - points.min(0)) / CELL_M).astype(np.int64)
    *_, rows, layers = cells.max(0) + 1
    keys = ((cells[:, 0] * rows + cells[:, 1]) * layers + cells[:, 2]) * 6 + side
    cell = np.unique(keys, return_inverse=True)[1]
    count = np.bincount(cell)
    means = np.stack([np.bincount(cell, column) for column in seen.T], 1) / count[:, None]
    means = means[count >= LEAST_PIXELS]
    length = np.linalg.norm(means[:, 3:], axis=1, keepdims=True)
    return means[:, :3], means[:, 3:] / np.maximum(length, 1e-9)


def useful_views(T_world_cameras: np.ndarray, middle: np.ndarray) -> list[int]:
    """Returns which of poses (M, 4, 4) look at a place (3,), world, in a good order.

    The nearest comes first, then always the one whose direction differs most from those before it,
    near ones rather than far ones.
    """
    way = middle - T_world_cameras[:, :3, 3]
    distance = np.maximum(np.linalg.norm(way, axis=1), 1e-9)
    way /= distance[:, None]
    left = np.flatnonzero((way * T_world_cameras[:, :3, 2]).sum(1) >= AHEAD)
    apart, order = np.ones(len(left)), list[int]()
    while len(left):
        best = int(np.argmax(apart / distance[left])) if order else int(distance[left].argmin())
        order.append(int(left[best]))
        apart = np.minimum(apart, 1 - way[left] @ way[left[best]])
        left, apart = np.delete(left, best), np.delete(apart, best)
    return order
