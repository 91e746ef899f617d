# SPDX-License-Identifier: Apache-2.0
"""Overlapping cubes of one size that fill the world: each can be the scene frame of a submap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.geometry.scene_frame import SceneFrame

Cell = tuple[int, int, int]


@dataclass(frozen=True)
class SubmapLattice:
    """Cubes whose half edge is `radius`, world units, one of them around origin (3,).

    overlap: part of its edge that a cube shares with the next one.
    """

    origin: tuple[float, float, float]
    radius: float
    overlap: float

    @property
    def pitch(self) -> float:
        """The distance of the centres of two neighbours, world units."""
        return 2 * self.radius * (1 - self.overlap)

    def scene(self, cell: Cell) -> SceneFrame:
        """Returns the scene frame that is centred in a cube; its radius reaches to the faces."""
        x, y, z = (float(v) for v in np.asarray(self.origin) + self.pitch * np.asarray(cell))
        return SceneFrame((x, y, z), self.radius)

    def depth(self, cell: Cell, points_world: np.ndarray) -> np.ndarray:
        """Returns how far from the middle of a cube points (..., 3) lie (...): 1 on its faces."""
        return np.asarray(np.abs(self.scene(cell).to_scene(points_world)).max(-1))

    def nearest(self, cells: Sequence[Cell], points_world: np.ndarray) -> np.ndarray:
        """Returns the position in `cells` of the cube whose middle is nearest to each point (N, 3).
        """
        return np.argmin([self.depth(cell, points_world) for cell in cells], axis=0)

    def inside(self, cells: Sequence[Cell], points_world: np.ndarray) -> np.ndarray:
        """Returns which points (N, 3) lie in each of C cubes, (C, N) bool."""
        return np.array([self.depth(cell, points_world) <= 1.0 for cell in cells],
                        bool).reshape(len(cells), len(points_world))

    def next_cell(self, cells: Sequence[Cell], points_world: np.ndarray,
                  least: float) -> Cell | None:
        """Returns the cube to open where a part `least` of points (N, 3), or more, lies in none.

        It is the one whose middle is nearest to most of these points; None where fewer left the
        open `cells`. Raises ValueError without a point.
        """
        if not len(points_world):
            raise ValueError('no point that could lie in a cube')
        left = points_world[~self.inside(cells, points_world).any(0)]
        if len(left) < least * len(points_world):
            return None
        rows = np.rint((left - np.asarray(self.origin)) / self.pitch).astype(np.int64)
        found, counts = np.unique(rows, axis=0, return_counts=True)
        i, j, k = (int(value) for value in found[counts.argmax()])
        return i, j, k
