# SPDX-License-Identifier: Apache-2.0
"""Overlapping cubes of one size that fill the world: each can be the scene frame of a submap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
        from lerf_ros.geometry.scene_frame import SceneFrame  # loads torch, which nodes do not
        x, y, z = (float(v) for v in np.asarray(self.origin) + self.pitch * np.asarray(cell))
        return SceneFrame((x, y, z), self.radius)

    def depth(self, cell: Cell, points_world: np.ndarray) -> np.ndarray:
        """Returns how far from the middle of a cube points (..., 3) lie (...): 1 on its faces."""
        return np.asarray(np.abs(self.scene(cell).to_scene(points_world)).max(-1))

    def cell_of_most(self, points_world: np.ndarray) -> Cell:
        """Returns the cube whose middle is nearest to most of points (N, 3). ValueError for none.
        """
        if not len(points_world):
            raise ValueError('no point that could lie in a cube')
        rows = np.rint((points_world - np.asarray(self.origin)) / self.pitch).astype(np.int64)
        found, counts = np.unique(rows, axis=0, return_counts=True)
        i, j, k = (int(value) for value in found[counts.argmax()])
        return i, j, k
