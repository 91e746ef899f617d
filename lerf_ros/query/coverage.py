# SPDX-License-Identifier: Apache-2.0
"""Which part of space the keyframes saw, so that "it is not there" can be told from "not looked".

A voxel was seen by a keyframe when the light that the keyframe caught came through it or from it,
up to the depth that the field renders. A voxel that many keyframes had before them, always behind
a surface, is the inside of a table or of a wall: it holds nothing that one could look for, and it
counts neither as seen nor as unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lerf_ros.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.field.scene_frame import SceneFrame, contract, uncontract
from lerf_ros.query.request import Region
from lerf_ros.query.surface import View, cells_of, needed_views

REGION_SAMPLES = 20   # points along each edge of a region that is asked about


@dataclass(frozen=True)
class Coverage:
    """Counts of keyframes on a grid of G x G x G voxels over contracted space.

    seen (G, G, G) uint16: keyframes that saw the voxel. hidden (G, G, G) uint16: keyframes that
    had it before them behind a surface. frame (4,): centre and radius of the scene frame, world
    units. needed (2,) int32: keyframes that must see a place of this map so that it counts as
    seen well enough, and those that one would wish for.
    """

    seen: np.ndarray
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

        Without a region that space is the mapped one: the ball of the scene frame, and all that
        any keyframe saw. 0 where everything lies behind surfaces.
        """
        voxels = self._mapped() if region is None else self._voxels(region_points(region))
        seen, hidden = self.seen[voxels], self.hidden[voxels]
        needed = int(self.needed[0])
        open_space = ~((seen == 0) & (hidden >= needed))
        return float((seen[open_space] >= needed).mean()) if open_space.any() else 0.0

    def _mapped(self) -> tuple[np.ndarray, ...]:
        centers = voxel_centers(len(self.seen))
        ball = (np.linalg.norm(centers, axis=1) <= 1).reshape(self.seen.shape)
        return np.nonzero(ball | (self.seen > 0))

    def _voxels(self, points_world: np.ndarray) -> tuple[np.ndarray, ...]:
        scene = (points_world - self.frame[:3]) / self.frame[3]
        unit = contract(torch.from_numpy(scene.astype(np.float32))).numpy()
        size = len(self.seen)
        return tuple(np.clip((unit * size).astype(np.int64), 0, size - 1).T)


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


def measure_coverage(views: Sequence[View], depths: Sequence[np.ndarray], scene: SceneFrame,
                     cells: int, min_keyframes: int) -> Coverage:
    """The coverage of views with their rendered depths (rows, columns), scene radii.

    cells: voxels along each edge of contracted space. min_keyframes: see IndexConfig.
    """
    centers = voxel_centers(cells)
    # Voxels grow with the distance from the scene frame as contraction does.
    half = 2 / cells * np.maximum(np.abs(centers).max(1), 1.0)
    seen, hidden = np.zeros(len(centers), np.uint16), np.zeros(len(centers), np.uint16)
    for view, depth in zip(views, depths, strict=True):
        in_view, distance = before_camera(view, centers)
        at = cells_of(view, view.camera.project(in_view[1]))
        inside = (at >= 0).all(1) & (at < depth.shape[::-1]).all(1)
        voxels, distance = in_view[0][inside], distance[inside]
        reach = depth[at[inside, 1], at[inside, 0]] + half[voxels]
        seen[voxels] += distance <= reach      # where depth is unknown neither holds
        hidden[voxels] += distance > reach
    shape = (cells, cells, cells)
    return Coverage(seen.reshape(shape), hidden.reshape(shape),
                    np.array([*scene.center, scene.radius]),
                    np.array([needed_views(min_keyframes, len(views)), min_keyframes], np.int32))


def before_camera(view: View,
                  points: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Points (N, 3) that may be in the picture: indices and camera coordinates, distances.

    Most of space is behind a camera or beside its picture; the lens is asked about the rest only.
    """
    T = invert_pose(view.T_scene_camera).astype(np.float32)
    in_camera = transform_points(T, points)
    slope = widest_slopes(view.camera)
    chosen = np.flatnonzero((in_camera[:, 2] > 1e-6) & (
        np.abs(in_camera[:, :2]) <= slope * in_camera[:, 2:]).all(1))
    in_camera = in_camera[chosen]
    return (chosen, in_camera), np.linalg.norm(in_camera, axis=1)


def widest_slopes(camera: PinholeCamera) -> np.ndarray:
    """The largest |x / z| and |y / z| (2,) float32 that the rim of the picture sees."""
    x, y = np.linspace(0, camera.width, 9), np.linspace(0, camera.height, 9)
    rim = np.concatenate([np.stack([x, np.full(9, v)], -1) for v in (0, camera.height)]
                         + [np.stack([np.full(9, v), y], -1) for v in (0, camera.width)])
    directions = camera.directions(rim)
    slopes = np.abs(directions[:, :2] / np.maximum(directions[:, 2:], 1e-3))
    return slopes.max(0).astype(np.float32)
