# SPDX-License-Identifier: Apache-2.0
"""Which part of space the keyframes saw, so that "it is not there" can be told from "not looked".

A voxel was seen by a keyframe when the light that the keyframe caught came through it or from it,
up to the depth that the field renders. A voxel that many keyframes had before them, always behind
a surface, is the inside of a table or of a wall: it holds nothing that one could look for, and it
counts neither as seen nor as unseen.

Empty space is known once two keyframes saw through it: one of them may be wrong. What is on a
surface is known once as many saw it as the index asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from lerf_ros.geometry.camera import transform_points
from lerf_ros.geometry.region import Region
from lerf_ros.geometry.scene_frame import SceneFrame, contract, uncontract
from lerf_ros.index.surface import View, columns, in_picture, needed_views

SEEN_THROUGH = 2      # keyframes that must see through a place that is empty
NEAR = 2              # voxels from a surface at which a thing may lie
REGION_SAMPLES = 20   # points along each edge of a region that is asked about


@dataclass(frozen=True)
class Coverage:
    """Counts of keyframes on a grid of G x G x G voxels over contracted space.

    free, surface, hidden (G, G, G) uint16: keyframes that saw through the voxel, that saw a
    surface in it, and that had it before them behind a surface. frame (4,): centre and radius of
    the scene frame, world units. needed (2,) int32: keyframes that must see a surface of this map
    so that it counts as seen well enough, and those that one would wish for.
    """

    free: np.ndarray
    surface: np.ndarray
    hidden: np.ndarray
    frame: np.ndarray
    needed: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as they are stored."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Coverage:
        """The reverse of `arrays`; KeyError when one is missing."""
        return cls(*(arrays[name] for name in cls.__dataclass_fields__))

    def observed(self, region: Region | None = None) -> float:
        """Part of the space that could hold a thing which was seen well enough, 0..1.

        Without a region that space is the mapped one: within two voxels of the surfaces that the
        map holds, since things lie on, stand at or hang from something. 0 where everything lies
        behind surfaces, and for a map that holds nothing.
        """
        if region is None:
            return self._everywhere
        return self._observed(self._voxels(region_points(region)))

    @cached_property
    def _everywhere(self) -> float:
        """Asked with every query that names no region."""
        return self._observed(np.nonzero(near(self.surface >= self.needed[0])))

    def _observed(self, voxels: tuple[np.ndarray, ...]) -> float:
        """Part of these voxels that was seen well enough, those inside of things left out."""
        free, surface, hidden = (counts[voxels].astype(np.int32)
                                 for counts in (self.free, self.surface, self.hidden))
        needed = int(self.needed[0])
        open_space = (free + surface > 0) | (hidden < needed)
        well = (free >= min(SEEN_THROUGH, needed)) | (free + surface >= needed)
        return float(well[open_space].mean()) if open_space.any() else 0.0

    def _voxels(self, points_world: np.ndarray) -> tuple[np.ndarray, ...]:
        scene = (points_world - self.frame[:3]) / self.frame[3]
        unit = contract(torch.from_numpy(scene.astype(np.float32))).numpy()
        size = len(self.free)
        return tuple(np.clip((unit * size).astype(np.int64), 0, size - 1).T)


def near(voxels: np.ndarray) -> np.ndarray:
    """Voxels (G, G, G) bool within NEAR voxels of the given ones (G, G, G) bool."""
    given = torch.from_numpy(voxels.astype(np.float32))[None, None]
    return torch.nn.functional.max_pool3d(given, 2 * NEAR + 1, 1, NEAR)[0, 0].numpy() > 0


def region_points(region: Region) -> np.ndarray:
    """Points (M, 3), world, spread evenly over the box."""
    steps = (np.arange(REGION_SAMPLES) + 0.5) / REGION_SAMPLES - 0.5
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing='ij'), -1).reshape(-1, 3)
    return transform_points(region.T_world_region, grid * region.size)


def voxel_centers(size: int) -> np.ndarray:
    """Centres (size ** 3, 3) float32 of the voxels, scene frame."""
    steps = (torch.arange(size) + 0.5) / size
    grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing='ij'), -1).reshape(-1, 3)
    return uncontract(grid).numpy()


class CoverageCounts:
    """How many views saw through each voxel, a surface in it, and had it behind a surface."""

    def __init__(self, cells: int) -> None:
        centers = voxel_centers(cells)
        self.cells, self.points = cells, columns(centers)
        # Voxels grow with the distance from the scene frame as contraction does.
        self.half = 2 / cells * np.maximum(np.abs(centers).max(1), 1.0)
        self.free, self.surface, self.hidden = np.zeros((3, len(centers)), np.int32)
        # By the pose and the id of the depths, which are kept here so that it stays theirs.
        self._counted: dict[tuple[bytes, int], tuple[View, np.ndarray]] = {}
        self._times: Counter[tuple[bytes, int]] = Counter()

    def update(self, views: Sequence[View], depths: Sequence[np.ndarray]) -> None:
        """Counts these views and no others; arrays of depths that it knows change nothing."""
        pairs = list(zip(views, depths, strict=True))
        keys = [(view.T_scene_camera.tobytes(), id(depth)) for view, depth in pairs]
        now, times = dict(zip(keys, pairs, strict=True)), Counter(keys)
        for key in now.keys() | self._counted.keys():
            change = times[key] - self._times[key]
            if change:
                self._count(*(now.get(key) or self._counted[key]), change)
        self._counted, self._times = now, times

    def _count(self, view: View, depth: np.ndarray, times: int) -> None:
        shown = in_picture(view.camera, view.T_scene_camera, view.step, self.points)
        beyond = shown.distance - depth[shown.row, shown.column]
        near = self.half[shown.index]
        # Where depth is unknown none of them holds.
        self.free[shown.index] += times * (beyond < -near)
        self.surface[shown.index] += times * (np.abs(beyond) <= near)
        self.hidden[shown.index] += times * (beyond > near)

    def grids(self) -> list[np.ndarray]:
        """The three counts (G, G, G) uint16."""
        return [counts.astype(np.uint16).reshape((self.cells,) * 3)
                for counts in (self.free, self.surface, self.hidden)]


def measure_coverage(views: Sequence[View], depths: Sequence[np.ndarray], scene: SceneFrame,
                     cells: int, min_keyframes: int,
                     counts: CoverageCounts | None = None) -> Coverage:
    """The coverage of views with their rendered depths (rows, columns), scene radii.

    cells: voxels along each edge of contracted space. min_keyframes: see IndexConfig. counts: of
    an earlier time, in which only the views that changed are counted anew.
    """
    counts = counts or CoverageCounts(cells)
    counts.update(views, depths)
    free, surface, hidden = counts.grids()
    return Coverage(free, surface, hidden, np.array([*scene.center, scene.radius]),
                    np.array([needed_views(min_keyframes, len(views)), min_keyframes], np.int32))
