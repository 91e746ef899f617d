# SPDX-License-Identifier: Apache-2.0
"""Moves of keyframes, as after a loop closure: those that depth speaks against are not made.

A localisation may be wrong about its own past, as when it started anew somewhere else. So a move
that makes the depth of keyframes agree less is refused, and one that keyframes which come later
speak against is undone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lerf_ros.frames.selection import motion
from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.mapping.keyframes import LearnedKeyframes
from lerf_ros.mapping.world_changes import DepthGrid

# A move is refused or undone where so much less of the depth agrees, of 1; noise makes as much.
WORSE = 0.1
TRIAL = 30              # keyframes after a move that are asked whether it was right
NOTE_S = 60.0           # how long a refused or undone move stays in the status
TOLERANCE = 0.05        # part of the depth by which two keyframes may differ
FEWEST_CELLS = 20       # that two keyframes must share
FEWEST_PAIRS = 4        # of keyframes that must tell
MOVED, NEAREST = 16, 4  # keyframes that are asked, and of each so many others, before and after
# Pairs that move less against each other hardly tell (parts of the depth, degrees).
LEAST_SHIFT, LEAST_TURN_DEG = 0.02, 1.0

log = logging.getLogger(__name__)


class MoveCheck:
    """Checks moves of learned keyframes against depth, before they are made and afterwards."""

    def __init__(self, learned: LearnedKeyframes) -> None:
        self._learned = learned
        self._trial: dict[int, np.ndarray] = {}     # the poses before the newest move, by index
        self._since: list[int] = []                 # keyframes that came after it, by index
        self._note, self._noted_s = '', 0.0

    @property
    def message(self) -> str:
        """Says what was refused or undone within the last minute."""
        return self._note if time.monotonic() - self._noted_s < NOTE_S else ''

    def refused(self, poses: Mapping[int, np.ndarray]) -> bool:
        """Returns whether depth speaks against new poses (4, 4) by index."""
        fit = self._fit(poses)
        if fit is None or fit.after >= fit.before - WORSE:
            return False
        self._say(f'{len(poses)} keyframes are not moved as the localisation says: depth would '
                  f'agree less ({fit}). If it started anew, start a new map or '
                  'put it where it was')
        return True

    def made(self, before: Mapping[int, np.ndarray]) -> None:
        """Puts a move on trial; before: the poses (4, 4) by index that it replaced."""
        self._trial, self._since = dict(before), []

    def undone(self) -> None:
        """Ends the trial of the newest move."""
        self._trial, self._since = {}, []

    def learned(self, index: int) -> bool:
        """Asks a keyframe that came after a move; returns whether that move has to be undone."""
        if not self._trial:
            return False
        self._since.append(index)
        fit = self._fit(self._trial, self._since)
        if fit is not None and fit.after > fit.before + WORSE:
            self._say(f'the newest move of {len(self._trial)} keyframes is undone: depth of '
                      f'keyframes that came later speaks against it ({fit})')
            return True
        if len(self._since) >= TRIAL or (fit is not None and fit.after < fit.before - WORSE):
            self.undone()
        return False

    def _fit(self, poses: Mapping[int, np.ndarray],
             others: Collection[int] | None = None) -> MoveFit | None:
        moved = {index: T for index, T in poses.items() if index in self._learned}
        return fit_of_move(self._learned.changes.grids, moved, others)

    def _say(self, text: str) -> None:
        log.warning('%s', text)
        self._note, self._noted_s = text, time.monotonic()


@dataclass(frozen=True)
class MoveFit:
    """Part of the depth shared by pairs of keyframes that agrees, 0..1, before and after a move."""

    before: float
    after: float

    def __str__(self) -> str:
        return (f'{self.before:.0%} of what two keyframes share agrees as it is, '
                f'{self.after:.0%} then')


def fit_of_move(grids: Mapping[int, DepthGrid], moved: Mapping[int, np.ndarray],
                others: Collection[int] | None = None) -> MoveFit | None:
    """Measures how well depth agrees with new poses (4, 4) of keyframes, all by index.

    Compares pairs that change against each other: a moved one and any other, or one of `others`.
    Returns None where too few pairs share enough depth to tell.
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
    """Yields evenly chosen moved keyframes, each with the nearest ones that move otherwise."""
    known = sorted(i for i in moved if i in grids)
    chosen = [known[i] for i in np.linspace(0, len(known) - 1, min(len(known), MOVED)).astype(int)]
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
    """Returns T_b_a (4, 4), of keyframes where `moved` puts them, else where they are."""
    T_a, T_b = (moved.get(k, grids[k].T_world_camera) for k in (a, b))
    return np.asarray(invert_pose(T_b) @ T_a)


def agreement(a: DepthGrid, b: DepthGrid, T_b_a: np.ndarray) -> float | None:
    """Returns the part of `a`'s surface points in the image of `b` that `b` measured as well.

    None where they share too little. T_b_a (4, 4).
    """
    points = transform_points(T_b_a, a.points_camera)
    points = points[points[:, 2] > 1e-6]
    cells = np.floor(np.nan_to_num(b.camera.project(points), nan=-1.0) / b.step).astype(int)
    inside = (cells >= 0).all(1) & (cells < b.center.shape[::-1]).all(1)
    measured = b.center[cells[inside, 1], cells[inside, 0]]
    known, z = np.isfinite(measured), points[inside, 2]
    if known.sum() < FEWEST_CELLS:
        return None
    return float((np.abs(measured - z)[known] <= TOLERANCE * z[known]).mean())
