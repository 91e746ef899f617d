# SPDX-License-Identifier: Apache-2.0
"""The surface around a hit, prepared for grasping: its support, smoothed points, nearby points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.config import GraspConfig

SUPPORT_MARGIN = 0.05       # metres around an object in which its support is looked for
LEVEL = 0.9                 # cosine with up from which on a point may belong to the support
BELOW, ABOVE = 0.06, 0.02   # metres from the object's lowest points in which its support lies
MIN_SUPPORT = 12            # fewest points of a support
SIGMAS, MAX_NOISE = 2.5, 0.008   # noise of its height: standard deviations, and metres at most
NEIGHBOURS, RADIUS = 12, 0.012   # over which a point is smoothed; metres
ALIKE = 0.8                 # cosine between normals of points on the same side
FAR_VOXEL = 0.01            # metres: cells with one point each, out of reach of the fingers


@dataclass(frozen=True)
class LocalSurface:
    """Points around a hit that a hand may touch or meet.

    points, normals: (P, 3). member: (P,) bool, whether a point belongs to the hit. relevancy: (P,),
    1 for the best of the hit. middle: (3,) of the hit.
    """

    points: np.ndarray
    normals: np.ndarray
    member: np.ndarray
    relevancy: np.ndarray
    middle: np.ndarray

    def part(self, keep: np.ndarray) -> LocalSurface:
        """Returns some of the points, by index or mask."""
        return LocalSurface(self.points[keep], self.normals[keep], self.member[keep],
                            self.relevancy[keep], self.middle)


@dataclass(frozen=True)
class Support:
    """The level plane that an object stands on. noise: how far its points lie above it.

    height and noise are metres.
    """

    height: float
    noise: float


def find_support(points: np.ndarray, normals: np.ndarray, member: np.ndarray) -> Support:
    """Finds what the members of points (N, 3) stand on.

    normals: (N, 3) unit. member: (N,) bool. Where nothing of the support is seen, it is at the
    lowest members.
    """
    low, high = np.percentile(points[member], (2, 98), axis=0)
    found = ~member & (normals[:, 2] >= LEVEL)
    found &= (points[:, 2] >= low[2] - BELOW) & (points[:, 2] <= low[2] + ABOVE)
    found &= ((points[:, :2] >= low[:2] - SUPPORT_MARGIN)
              & (points[:, :2] <= high[:2] + SUPPORT_MARGIN)).all(1)
    if found.sum() < MIN_SUPPORT:
        return Support(float(low[2]), 0.0)
    heights = points[found, 2]
    height = float(np.median(heights))
    # 1.48 median deviations are one standard deviation of a normal distribution.
    sigma = 1.48 * float(np.median(np.abs(heights - height)))
    return Support(height, min(SIGMAS * sigma, MAX_NOISE))


def smoothed(points: np.ndarray, normals: np.ndarray, neighbours: int = NEIGHBOURS,
             radius: float = RADIUS) -> tuple[np.ndarray, np.ndarray]:
    """Returns smoothed points (N, 3) and unit normals (N, 3).

    Each point is moved along its normal to the mean of its neighbours on the same side, and gets
    their mean normal: moving least squares of degree 0. Edges stay sharp. neighbours: as many as
    count, itself included. radius: metres in which they lie.
    """
    if len(points) <= neighbours:
        return points, normals
    distance, near = cKDTree(points).query(points, k=neighbours, distance_upper_bound=radius)
    near = np.where(np.isfinite(distance), near, np.arange(len(points))[:, None])
    weight = np.isfinite(distance) & (np.einsum('nd,nkd->nk', normals, normals[near]) >= ALIKE)
    along = np.einsum('nkd,nd->nk', points[near] - points[:, None], normals)
    mean = (weight * along).sum(1) / np.maximum(weight.sum(1), 1)
    facing = np.einsum('nk,nkd->nd', weight.astype(float), normals[near])
    length = np.linalg.norm(facing, axis=1, keepdims=True)
    return (points + mean[:, None] * normals,
            np.where(length > 0, facing / np.maximum(length, 1e-9), normals))


def near_points(points: np.ndarray, hit: np.ndarray, config: GraspConfig) -> np.ndarray:
    """Returns the indices of the points that a hand at the hit (M, 3) could meet.

    Points that the fingers cannot reach, but the large hand can, are thinned.
    """
    fingers = config.max_opening + config.finger_thickness
    hand = config.finger_depth + config.hand_box[2] + config.pregrasp + config.max_opening
    low, high = hit.min(0), hit.max(0)
    close = ((points >= low - fingers) & (points <= high + fingers)).all(1)
    far = np.flatnonzero(((points >= low - hand) & (points <= high + hand)).all(1) & ~close)
    cells = np.floor((points[far] - low) / FAR_VOXEL).astype(np.int64)
    key = (cells - cells.min(0, initial=0)) @ [1 << 40, 1 << 20, 1]
    return np.concatenate([np.flatnonzero(close), far[np.unique(key, return_index=True)[1]]])
