# SPDX-License-Identifier: Apache-2.0
"""What a map's noise leaves of surfaces: the plane that bears a thing, and smoother points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

MARGIN = 0.05          # metres round a thing in which what bears it is looked for
LEVEL = 0.9            # cosine with up from which a point may belong to it
BELOW, ABOVE = 0.06, 0.02   # metres from the thing's lowest points in which it lies
MIN_BEARING = 12       # points that show it
SIGMAS, MOST_NOISE = 2.5, 0.008   # of its points in height, and metres at most
NEIGHBOURS, RADIUS = 12, 0.012    # over which a point is smoothed, metres
ALIKE = 0.8            # cosine between normals of points of the same side


@dataclass(frozen=True)
class Bearing:
    """The level that bears a thing. height: of it; noise: how far above it its points lie; both
    metres."""

    height: float
    noise: float


def find_bearing(points: np.ndarray, normals: np.ndarray, member: np.ndarray) -> Bearing:
    """What bears the members of points (N, 3) with unit normals (N, 3) and member (N,).

    Where none of it is seen, it is at their lowest points.
    """
    low, high = np.percentile(points[member], (2, 98), axis=0)
    found = ~member & (normals[:, 2] >= LEVEL)
    found &= (points[:, 2] >= low[2] - BELOW) & (points[:, 2] <= low[2] + ABOVE)
    found &= ((points[:, :2] >= low[:2] - MARGIN) & (points[:, :2] <= high[:2] + MARGIN)).all(1)
    if found.sum() < MIN_BEARING:
        return Bearing(float(low[2]), 0.0)
    heights = points[found, 2]
    height = float(np.median(heights))
    # 1.48 median deviations are the standard deviation of what is distributed normally.
    sigma = 1.48 * float(np.median(np.abs(heights - height)))
    return Bearing(height, min(SIGMAS * sigma, MOST_NOISE))


def smoothed(points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and unit normals (N, 3) without the noise of those given.

    A point is moved along its normal to the mean of its neighbours on the same side, and its normal
    is their mean: moving least squares of degree 0. Edges stay.
    """
    if len(points) <= NEIGHBOURS:
        return points, normals
    distance, near = cKDTree(points).query(points, k=NEIGHBOURS, distance_upper_bound=RADIUS)
    near = np.where(np.isfinite(distance), near, np.arange(len(points))[:, None])
    weight = np.isfinite(distance) & (np.einsum('nd,nkd->nk', normals, normals[near]) >= ALIKE)
    along = np.einsum('nkd,nd->nk', points[near] - points[:, None], normals)
    mean = (weight * along).sum(1) / np.maximum(weight.sum(1), 1)
    facing = np.einsum('nk,nkd->nd', weight.astype(float), normals[near])
    length = np.linalg.norm(facing, axis=1, keepdims=True)
    return (points + mean[:, None] * normals,
            np.where(length > 0, facing / np.maximum(length, 1e-9), normals))
