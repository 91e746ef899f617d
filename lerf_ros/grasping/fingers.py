# SPDX-License-Identifier: Apache-2.0
"""Where the fingers find room on either side of what they are to grip, all tries at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.config import GraspConfig
from lerf_ros.grasping.proposals import Proposals

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


BIN = 0.002     # metres: how finely room is measured along the closing line
CHUNK = 128     # tries in the hand's coordinates at once: what fits a processor's cache
REGION = 0.05   # metres: tries that aim into the same cube are looked at together


@dataclass(frozen=True)
class Fit:
    """How each of C tries fits. low, high (C,): ends, along y from the anchor, of what is between
    the fingers, metres. room (C,): free on its tighter side, metres."""

    low: np.ndarray
    high: np.ndarray
    room: np.ndarray

    @property
    def width(self) -> np.ndarray:
        """Of what is between the fingers (C,), metres."""
        return self.high - self.low


def in_hand(points: np.ndarray, tries: Proposals) -> np.ndarray:
    """points (P, 3) of the world, seen from the fingertips: (C, 3, P) float32, rows x, y, z."""
    tips = tries.anchors + tries.reaches[:, None] * tries.rotations[:, :, 2]
    turned = tries.rotations.transpose(0, 2, 1)
    offset = np.einsum('cij,cj->ci', turned, tips)
    # One large product, of points with a one behind them, is far faster than many small ones.
    rows = np.concatenate([turned, -offset[:, :, None]], 2).astype(np.float32).reshape(-1, 4)
    behind = np.ones((4, len(points)), np.float32)
    behind[:3] = points.T
    return (rows @ behind).reshape(len(tries), 3, len(points))


def regions(points: np.ndarray, tries: Proposals,
            reach: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of tries that aim at about the same place, CHUNK at most, and of all points (P, 3)
    within `reach` metres of what they aim at."""
    cell = np.floor(tries.anchors / REGION).astype(np.int64)
    cubes, cube = np.unique(cell, axis=0, return_inverse=True)
    for k, corner in enumerate(cubes):
        aimed = np.flatnonzero(cube.ravel() == k)
        middle = (corner + 0.5) * REGION
        near = np.flatnonzero((np.abs(points - middle) <= REGION / 2 + reach).all(1))
        for part in np.array_split(aimed, max(1, len(aimed) // CHUNK)):
            yield part, near


def fit_fingers(points: np.ndarray, tries: Proposals, config: GraspConfig) -> Fit:
    """Finds, for each try, what lies between two gaps into which the fingers fit.

    A gap is free along all of the fingers. So a wall of a cup, a handle and a whole object are all
    found, however much of it was seen.
    """
    span = config.max_opening + config.finger_thickness + 2 * config.clearance
    reach = float(np.linalg.norm([config.finger_width, span, config.finger_depth]))
    out = np.zeros((3, len(tries)))
    for part, near in regions(points, tries, reach):
        fit = _fit(in_hand(points[near], tries[part]), config)
        out[:, part] = fit.low, fit.high, fit.room
    return Fit(*out)


def _fit(local: np.ndarray, config: GraspConfig) -> Fit:
    reach = config.max_opening + config.finger_thickness + 2 * config.clearance
    half = int(np.ceil(reach / BIN))
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    swept = (np.abs(x) <= config.finger_width / 2 + config.clearance) & (np.abs(y) < half * BIN)
    swept &= (z <= config.clearance) & (z >= -config.finger_depth)
    row, column = np.nonzero(swept)
    at = y[row, column]
    cell = np.floor(at / BIN).astype(np.int64) + half
    count = len(local)
    taken = np.zeros((count, 2 * half), bool)
    taken[row, cell] = True
    taken[:, half - 1:half + 1] = True            # the anchor itself
    needed = int(np.ceil((config.finger_thickness + 2 * config.clearance) / BIN))
    right, right_room = _next_gap(taken[:, half:], needed)
    left, left_room = _next_gap(taken[:, half - 1::-1], needed)
    low, high = half - 1 - left, half + right      # bins of the outermost points
    # Exact ends: of the points in the outermost bins.
    inside = (cell >= low[row]) & (cell <= high[row])
    left_end, right_end = _ends(row[inside], at[inside], count)
    return Fit(left_end, right_end, np.minimum(left_room, right_room) * BIN)


def _ends(row: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    """The lowest and the highest (2, count) of 0 and the values `at` (K,) of each row (K,), rows
    ascending: what follows one another is reduced far faster than what is told by index."""
    ends = np.zeros((2, count))
    if len(row):
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        ends[0, row[starts]] = np.minimum(np.minimum.reduceat(at, starts), 0)
        ends[1, row[starts]] = np.maximum(np.maximum.reduceat(at, starts), 0)
    return ends


def _next_gap(taken: np.ndarray, needed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bins outward from the anchor: the last taken one before `needed` free ones, and how many are
    free there; 0 free where there is no such gap within the reach."""
    count, bins = taken.shape
    index = np.arange(bins)
    # The next taken bin at or after each, `bins` where there is none.
    upcoming = np.minimum.accumulate(np.where(taken, index, bins)[:, ::-1], 1)[:, ::-1]
    after = np.concatenate([upcoming[:, 1:], np.full((count, 1), bins)], 1)
    free = after - index - 1
    # Beyond the reach nothing is known: a gap may end there, but must begin within the opening.
    wide = taken & (free >= needed)
    first = wide.argmax(1)
    rows = np.arange(count)
    return first, np.where(wide[rows, first], free[rows, first], 0)
