# SPDX-License-Identifier: Apache-2.0
"""Whether depth speaks for moving keyframes: how well it agrees between them before and after."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lerf_ros.frames.selection import motion
from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.training.world_changes import DepthGrid

TOLERANCE = 0.05        # part of the depth by which two keyframes may differ
FEWEST_CELLS = 20       # that two keyframes must share
FEWEST_PAIRS = 4        # of keyframes that must tell
MOVED, NEAREST = 16, 4  # keyframes that are asked, and of each so many others, before and after
# Pairs that move less against each other hardly tell (parts of the depth, degrees).
LEAST_SHIFT, LEAST_TURN_DEG = 0.02, 1.0


@dataclass(frozen=True)
class MoveFit:
    """Part of what pairs of keyframes share that agrees, 0..1, as they are and after a move."""

    before: float
    after: float


def fit_of_move(grids: Mapping[int, DepthGrid], moved: Mapping[int, np.ndarray],
                others: Collection[int] | None = None) -> MoveFit | None:
    """What depth says of new poses (4, 4) by the key of their grid; None where it does not tell.

    Looked at are pairs that change against each other, of a moved one and any other, or one of
    `others`.
    """
    fits = []
    for a, b in pairs(grids, moved, grids if others is None else others):
        as_is = agreement(grids[a], grids[b], relative(grids, {}, a, b))
        then = agreement(grids[a], grids[b], relative(grids, moved, a, b))
        if as_is is not None and then is not None:
            fits.append((as_is, then))
    if len(fits) < FEWEST_PAIRS:
        return None
    before, after = np.mean(fits, axis=0)
    return MoveFit(float(before), float(after))


def pairs(grids: Mapping[int, DepthGrid], moved: Mapping[int, np.ndarray],
          others: Collection[int]) -> Iterator[tuple[int, int]]:
    """Keys of moved keyframes, evenly chosen, each with those nearest to it that move otherwise."""
    keys = sorted(k for k in moved if k in grids)
    chosen = [keys[i] for i in np.linspace(0, len(keys) - 1, min(len(keys), MOVED)).astype(int)]
    for a in chosen:
        # A turn by half a radian hides as much as a step of a quarter of the depth.
        depth = float(np.median(grids[a].points_camera[:, 2])) if len(grids[a].cells) else 1.0
        near: dict[str, list[tuple[float, int]]] = {'before': [], 'after': []}
        for b in others:
            if b == a or b not in grids:
                continue
            T, U = relative(grids, {}, a, b), relative(grids, moved, a, b)
            shift, turn = motion(T, U)
            if shift > LEAST_SHIFT * depth or turn > LEAST_TURN_DEG:
                for when, pose in (('before', T), ('after', U)):
                    distance, angle = motion(np.eye(4), pose)
                    near[when].append((distance / depth + angle / 120, b))
        best = {b for when in near.values() for _, b in sorted(when)[:NEAREST]}
        yield from ((a, b) for b in sorted(best))


def relative(grids: Mapping[int, DepthGrid], moved: Mapping[int, np.ndarray], a: int,
             b: int) -> np.ndarray:
    """T_b_a (4, 4)."""
    T_a, T_b = (moved.get(k, grids[k].T_world_camera) for k in (a, b))
    return np.asarray(invert_pose(T_b) @ T_a)


def agreement(a: DepthGrid, b: DepthGrid, T_b_a: np.ndarray) -> float | None:
    """Part of the surface points of `a` in the picture of `b` that lie where `b` measured one."""
    points = transform_points(T_b_a, a.points_camera)
    points = points[points[:, 2] > 1e-6]
    cells = np.floor(np.nan_to_num(b.camera.project(points), nan=-1.0) / b.step).astype(int)
    inside = (cells >= 0).all(1) & (cells < b.center.shape[::-1]).all(1)
    measured = b.center[cells[inside, 1], cells[inside, 0]]
    known, z = np.isfinite(measured), points[inside, 2]
    if known.sum() < FEWEST_CELLS:
        return None
    return float((np.abs(measured - z)[known] <= TOLERANCE * z[known]).mean())
