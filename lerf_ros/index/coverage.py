# SPDX-License-Identifier: Apache-2.0
"""Which part of space the keyframes saw, to tell "it is not there" from "nobody looked there".

A keyframe sees the voxels along its rays, up to the depth that the field renders. A voxel that is
in the image of many keyframes, but always behind a surface, is the inside of a table or of a wall:
it holds nothing that one could look for, and counts neither as seen nor as unseen.

Empty space is known once two keyframes saw through it, since one may be wrong. A surface is known
once as many keyframes saw it as the index asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from lerf_ros.geometry.camera import transform_points
from lerf_ros.geometry.region import Region
from lerf_ros.geometry.scene_frame import SceneFrame, contract, uncontract
from lerf_ros.index.surface import ViewGrid, columns, in_image, needed_views

SEEN_THROUGH = 2      # keyframes that must see through a voxel that is empty
NEAR = 2              # voxels from a surface within which a thing may lie
REGION_SAMPLES = 20   # points along each edge of a region


class SeenSpace(Protocol):
    """Which part of space was seen: of one map, or of submaps together.

    frame (4,): middle and radius, world units, of what it is about.
    """

    @property
    def frame(self) -> np.ndarray:
        """The middle and the radius (4,), world units."""

    def observed(self, region: Region | None = None) -> float:
        """Returns the part of the space for things that was seen, 0..1."""

    def unseen(self, region: Region | None = None) -> np.ndarray:
        """Returns the middles (M, 3), world, of the voxels that `observed` misses."""

    def seen_through(self, points_world: np.ndarray) -> np.ndarray:
        """Returns at which points (N, 3) keyframes saw that the space is empty, (N,) bool."""


@dataclass(frozen=True)
class Coverage:
    """Counts of keyframes on a grid of G x G x G voxels over contracted space.

    free, surface, hidden (G, G, G) uint16: keyframes that saw through the voxel, that saw a
    surface in it, and that had it in their image behind a surface. frame (4,): centre and radius
    of the scene frame, world units. needed (2,) int32: how many keyframes make a surface of this
    map count as seen, and how many a longer capture would need.
    """

    free: np.ndarray
    surface: np.ndarray
    hidden: np.ndarray
    frame: np.ndarray
    needed: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all arrays by name, as they are stored."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Coverage:
        """Makes a coverage of what `arrays` returned; KeyError when one is missing."""
        return cls(*(arrays[name] for name in cls.__dataclass_fields__))

    def observed(self, region: Region | None = None) -> float:
        """Returns the part of the space for things that was seen, 0..1.

        Without a region that space lies within two voxels of the map's surfaces, since things lie
        on, stand at or hang from something. 0 where all of it is behind surfaces, and for an empty
        map.
        """
        if region is None:
            return self._everywhere
        return self._observed(self._voxels(region_points(region)))

    @cached_property
    def _everywhere(self) -> float:
        """`observed` for the many queries without a region."""
        return self._observed(np.nonzero(near(self.surface >= self.needed[0])))

    def unseen(self, region: Region | None = None) -> np.ndarray:
        """Returns the middles (M, 3), world, of the voxels that `observed` misses.

        They are those that may hold a thing and that too few keyframes saw.
        """
        voxels = np.nonzero(near(self.surface >= self.needed[0])) if region is None else tuple(
            np.unique(np.stack(self._voxels(region_points(region))), axis=1))
        open_space, well = self._judged(voxels)
        missing = np.stack(voxels, -1)[open_space & ~well]
        unit = torch.from_numpy((missing + 0.5).astype(np.float32) / len(self.free))
        return np.asarray(uncontract(unit).numpy() * self.frame[3] + self.frame[:3], np.float64)

    def seen_through(self, points_world: np.ndarray) -> np.ndarray:
        """Returns at which points (N, 3) keyframes saw that the space is empty, (N,) bool."""
        return np.asarray(self.free[self._voxels(points_world)]
                          >= min(SEEN_THROUGH, int(self.needed[0])))

    def _judged(self, voxels: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Returns which of M voxels may hold a thing, and which were seen well, (M,) bool each."""
        free, surface, hidden = (counts[voxels].astype(np.int32)
                                 for counts in (self.free, self.surface, self.hidden))
        needed = int(self.needed[0])
        return ((free + surface > 0) | (hidden < needed),
                (free >= min(SEEN_THROUGH, needed)) | (free + surface >= needed))

    def _observed(self, voxels: tuple[np.ndarray, ...]) -> float:
        """Returns the part of these voxels that was seen; those inside of things do not count."""
        open_space, well = self._judged(voxels)
        return float(well[open_space].mean()) if open_space.any() else 0.0

    def _voxels(self, points_world: np.ndarray) -> tuple[np.ndarray, ...]:
        scene = (points_world - self.frame[:3]) / self.frame[3]
        unit = contract(torch.from_numpy(scene.astype(np.float32))).numpy()
        size = len(self.free)
        return tuple(np.clip((unit * size).astype(np.int64), 0, size - 1).T)


def near(voxels: np.ndarray) -> np.ndarray:
    """Returns the voxels (G, G, G) bool within NEAR voxels of the given ones (G, G, G) bool."""
    given = torch.from_numpy(voxels.astype(np.float32))[None, None]
    return torch.nn.functional.max_pool3d(given, 2 * NEAR + 1, 1, NEAR)[0, 0].numpy() > 0


def region_points(region: Region) -> np.ndarray:
    """Returns points (M, 3), world, spread evenly over the box of a region."""
    steps = (np.arange(REGION_SAMPLES) + 0.5) / REGION_SAMPLES - 0.5
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing='ij'), -1).reshape(-1, 3)
    return transform_points(region.T_world_region, grid * region.size)


def voxel_centers(size: int) -> np.ndarray:
    """Returns the centres (size ** 3, 3) float32 of the voxels, scene frame."""
    steps = (torch.arange(size) + 0.5) / size
    grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing='ij'), -1).reshape(-1, 3)
    return uncontract(grid).numpy()


class CoverageCounts:
    """Counts the views that saw through each voxel, a surface in it, or had it behind a surface."""

    def __init__(self, cells: int) -> None:
        centers = voxel_centers(cells)
        self.cells, self.points = cells, columns(centers)
        # Voxels grow with the distance from the scene frame as contraction does.
        self.half = 2 / cells * np.maximum(np.abs(centers).max(1), 1.0)
        self.free, self.surface, self.hidden = np.zeros((3, len(centers)), np.int32)
        # By pose and id of the depths; the depths are kept here, so that their id stays unique.
        self._counted: dict[tuple[bytes, int], tuple[ViewGrid, np.ndarray]] = {}
        self._times: Counter[tuple[bytes, int]] = Counter()

    def update(self, views: Sequence[ViewGrid], depths: Sequence[np.ndarray]) -> None:
        """Counts these views and no others; views with the same array of depths stay counted."""
        pairs = list(zip(views, depths, strict=True))
        keys = [(view.T_scene_camera.tobytes(), id(depth)) for view, depth in pairs]
        now, times = dict(zip(keys, pairs, strict=True)), Counter(keys)
        for key in now.keys() | self._counted.keys():
            change = times[key] - self._times[key]
            if change:
                self._count(*(now.get(key) or self._counted[key]), change)
        self._counted, self._times = now, times

    def _count(self, view: ViewGrid, depth: np.ndarray, times: int) -> None:
        shown = in_image(view.camera, view.T_scene_camera, view.step, self.points)
        beyond = shown.distance - depth[shown.row, shown.column]
        near = self.half[shown.index]
        # NaN, an unknown depth, compares as False each time.
        self.free[shown.index] += times * (beyond < -near)
        self.surface[shown.index] += times * (np.abs(beyond) <= near)
        self.hidden[shown.index] += times * (beyond > near)

    def grids(self) -> list[np.ndarray]:
        """Returns the three counts (G, G, G) uint16."""
        return [counts.astype(np.uint16).reshape((self.cells,) * 3)
                for counts in (self.free, self.surface, self.hidden)]


def measure_coverage(views: Sequence[ViewGrid], depths: Sequence[np.ndarray], scene: SceneFrame,
                     cells: int, min_keyframes: int,
                     counts: CoverageCounts | None = None) -> Coverage:
    """Measures the coverage of views with their rendered depths (rows, columns), scene radii.

    cells: voxels along each edge of contracted space. min_keyframes: see IndexConfig. counts: of
    the snapshot before, in which only the views that changed are counted anew.
    """
    counts = counts or CoverageCounts(cells)
    counts.update(views, depths)
    free, surface, hidden = counts.grids()
    return Coverage(free, surface, hidden, np.array([*scene.center, scene.radius]),
                    np.array([needed_views(min_keyframes, len(views)), min_keyframes], np.int32))
