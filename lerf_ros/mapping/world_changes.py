# SPDX-License-Identifier: Apache-2.0
"""Notices that the world has changed: newer depth looks through what older depth ended at.

Two things show it. A newer image looks through the place of an old surface point: the thing has
gone. A newer surface point lies where an old image looked through: a thing has come. In both cases
the old ray is stale. Everything is tested on a coarse grid of pixels, and cautiously: a cell looks
through a place only if all depth around it does, so that neither edges nor noise count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera, invert_pose, transform_points

GRID_COLUMNS = 64       # cells across an image
SCREEN = 12             # one of so many points tells whether two images overlap at all
# Where two images contradict each other in more than this part of their overlap, the world has not
# changed: one of the poses is wrong.
MOST_CHANGED = 0.5
TOGETHER = np.ones((3, 3), np.uint8)
# Pairs of keyframes that are compared when poses move; if there are more, only the newest ones are.
MOST_PAIRS, RECHECK = 4000, 20


@dataclass
class DepthGrid:
    """The depth of one keyframe on a grid of cells of `step` pixels.

    cells (M, 2) (column, row) with known depth and their points_camera (M, 3). nearest (rows,
    columns): the smallest z-depth in and around each cell, 0 where some of it is unknown. center
    (rows, columns): z-depth in its middle, NaN where unknown. votes: the cells (rows, columns)
    bool that each newer keyframe contradicts, by its index. World units.
    """

    stamp_ns: int
    camera: PinholeCamera
    T_world_camera: np.ndarray
    step: int
    cells: np.ndarray
    points_camera: np.ndarray
    nearest: np.ndarray
    center: np.ndarray
    votes: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: Frame) -> DepthGrid | None:
        """Makes the grid of a frame; None for one without depth."""
        if frame.depth_m is None:
            return None
        camera, step = frame.camera, max(1, round(frame.camera.width / GRID_COLUMNS))
        depth = np.where(np.isfinite(frame.depth_m), frame.depth_m, 0).astype(np.float32)
        if frame.valid is not None:
            depth = np.where(frame.valid, depth, np.float32(0))
        around = cv2.erode(depth, np.ones((2 * step + 1, 2 * step + 1), np.uint8))
        middle = np.s_[step // 2::step, step // 2::step]
        center = np.where(depth[middle] > 0, depth[middle], np.nan)
        row, column = np.nonzero(np.isfinite(center))
        cells = np.stack([column, row], -1)
        points, known = camera.back_project(cells * step + step // 2 + 0.5, center[row, column])
        return cls(frame.stamp_ns, camera, frame.T_world_camera, step, cells[known], points,
                   around[middle], center)

    def points_world(self) -> np.ndarray:
        """Returns the surface points (M, 3) of all cells with known depth."""
        return transform_points(self.T_world_camera, self.points_camera)

    def stale(self, views: int) -> np.ndarray:
        """Returns the cells (rows, columns) bool that `views` or more keyframes contradict."""
        if len(self.votes) < views:
            return np.zeros(self.center.shape, bool)
        return np.sum(list(self.votes.values()), axis=0) >= views

    def look_at(self, points_world: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Finds the points (N, 3) in the image: indices (K,), cells (K, 2), z-depths (K,)."""
        in_camera = transform_points(invert_pose(self.T_world_camera), points_world)
        chosen = np.flatnonzero(in_camera[:, 2] > 1e-6)
        pixels = self.camera.project(in_camera[chosen])
        cells = np.floor(np.nan_to_num(np.clip(pixels, -1e6, 1e6), nan=-1e6) / self.step).astype(
            np.int64)
        inside = (cells >= 0).all(1) & (cells < self.center.shape[::-1]).all(1)
        return chosen[inside], cells[inside], in_camera[chosen[inside], 2]

    def seen_through(self, cells: np.ndarray, depth: np.ndarray, tolerance: float) -> np.ndarray:
        """Returns whether everything around cells (K, 2) lies behind z-depths (K,), (K,) bool."""
        return self.nearest[cells[:, 1], cells[:, 0]] > depth * (1 + tolerance)

    def pixels(self, cells: np.ndarray) -> np.ndarray:
        """Returns the pixels (H, W) bool that belong to cells (rows, columns) bool."""
        shape = (self.camera.height, self.camera.width)
        row = np.minimum(np.arange(shape[0]) // self.step, cells.shape[0] - 1)
        column = np.minimum(np.arange(shape[1]) // self.step, cells.shape[1] - 1)
        return cells[row[:, None], column]


class WorldChanges:
    """The depth grids of all keyframes that have depth, by index."""

    def __init__(self, views: int, tolerance: float) -> None:
        """views: newer keyframes that must contradict a ray; 0 takes the world as it first was.

        tolerance: part of its depth by which a point must lie before what is seen behind it.
        """
        self.views, self.tolerance = views, tolerance
        self._grids: dict[int, DepthGrid] = {}

    def add(self, index: int, frame: Frame) -> dict[int, np.ndarray]:
        """Takes a keyframe; returns stale pixels (H, W) bool by index, where more became so."""
        grid = DepthGrid.of(frame)
        if grid is None:
            return {}
        others = list(self._grids)
        self._grids[index] = grid
        return self._compare(index, others) if self.views else {}

    def forget(self, index: int) -> None:
        """Removes a keyframe; what it has contradicted stays stale."""
        self._grids.pop(index, None)

    @property
    def grids(self) -> Mapping[int, DepthGrid]:
        """The grids of all keyframes with depth, by index."""
        return self._grids

    def move(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Takes better poses (4, 4) by index; forgets what the old ones seemed to contradict.

        Returns the stale pixels (H, W) bool by index, of all keyframes where they may differ now.
        """
        moved = {index for index in poses if index in self._grids}
        changed = set(moved)
        for index, grid in self._grids.items() if moved else ():
            wrong = set(grid.votes) if index in poses else moved & set(grid.votes)
            for voter in wrong:
                del grid.votes[voter]
                changed.add(index)
        for index in moved:
            self._grids[index].T_world_camera = poses[index]
        others = sorted(self._grids, key=lambda i: self._grids[i].stamp_ns)
        if len(moved) * len(others) > MOST_PAIRS:
            others = others[-RECHECK:]
        for index in sorted(moved) if self.views else ():
            # Of two that have moved each pair is compared once.
            changed |= set(self._compare(index, [i for i in others if i not in poses or i < index]))
        return {index: self.stale(index) for index in changed} if self.views else {}

    def stale(self, index: int) -> np.ndarray:
        """Returns the pixels (H, W) bool of a keyframe that newer ones contradict."""
        grid = self._grids[index]
        return grid.pixels(grid.stale(self.views))

    def stale_if_known(self, index: int) -> np.ndarray | None:
        """Returns `stale`; None for a keyframe without depth, of which nothing is known."""
        return self.stale(index) if index in self._grids else None

    def contradicted(self, points_world: np.ndarray) -> np.ndarray:
        """Returns which surface points (N, 3) newer depth contradicts, (N,) bool.

        These lie near the ends of stale rays, and enough keyframes have looked through them since
        the last one that saw something there.
        """
        gone = np.zeros(len(points_world), bool)
        near = self._near_stale(points_world)
        points = points_world[near]
        through = np.zeros(len(points), np.int64)
        for grid in sorted(self._grids.values(), key=lambda g: g.stamp_ns) if len(points) else ():
            at, cells, depth = grid.look_at(points)
            there = np.abs(grid.center[cells[:, 1], cells[:, 0]] - depth) <= self.tolerance * depth
            through[at[there]] = 0
            through[at[grid.seen_through(cells, depth, self.tolerance)]] += 1
        gone[near] = through >= self.views
        return gone

    def _near_stale(self, points_world: np.ndarray) -> np.ndarray:
        """Returns the indices of points (N, 3) within two cells of the end of a stale ray."""
        ends, reach = [np.zeros((0, 3))], 0.0
        for grid in self._grids.values() if self.views else ():
            stale = grid.stale(self.views)[grid.cells[:, 1], grid.cells[:, 0]]
            if stale.any():
                ends.append(grid.points_world()[stale])
                depth = float(grid.points_camera[stale, 2].max())
                reach = max(reach, 2 * grid.step * depth / grid.camera.fx)
        stale_ends = np.concatenate(ends)
        if not len(stale_ends) or not len(points_world):
            return np.zeros(0, np.int64)
        distance, _ = cKDTree(stale_ends).query(points_world, distance_upper_bound=reach)
        return np.flatnonzero(distance < math.inf)

    def _compare(self, index: int, others: Iterable[int]) -> dict[int, np.ndarray]:
        """Notes where a keyframe and others contradict each other; returns what became stale."""
        before: dict[int, np.ndarray] = {}
        mine = self._grids[index]
        for other in others:
            theirs = self._grids[other]
            old, new = (other, index) if theirs.stamp_ns <= mine.stamp_ns else (index, other)
            cells = self._contradicted_cells(self._grids[old], self._grids[new])
            if cells.any():
                before.setdefault(old, self._grids[old].stale(self.views))
                self._grids[old].votes[new] = cells
        return {old: self.stale(old) for old, was in before.items()
                if (self._grids[old].stale(self.views) & ~was).any()}

    def _contradicted_cells(self, old: DepthGrid, new: DepthGrid) -> np.ndarray:
        """Returns the old grid's cells (rows, columns) bool that the new one shows to be stale."""
        cells, points = np.zeros(old.center.shape, bool), old.points_world()
        if not len(new.look_at(points[::SCREEN])[0]):
            return cells
        gone, seen, depth = new.look_at(points)
        through = new.seen_through(seen, depth, self.tolerance)
        at = old.cells[gone[through]]
        cells[at[:, 1], at[:, 0]] = True
        _, before, depth = old.look_at(new.points_world())
        come = old.seen_through(before, depth, self.tolerance)
        cells[before[come, 1], before[come, 0]] = True
        most = max(through.mean(), come.mean() if len(come) else 0.0)
        if most > MOST_CHANGED:
            return np.zeros_like(cells)
        # Noise contradicts single cells, a thing that moved many neighbours. A new image that saw
        # it from farther away leaves gaps between them.
        closed = cv2.morphologyEx(cells.astype(np.uint8), cv2.MORPH_CLOSE, TOGETHER)
        return (cv2.morphologyEx(closed, cv2.MORPH_OPEN, TOGETHER) > 0) & (old.nearest > 0)
