# SPDX-License-Identifier: Apache-2.0
"""What a map knows of the space around a robot, also where it consists of submaps.

Of submaps those around a place are joined: their surfaces as one index that answers no phrase, and
what each of them saw of its own cube.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lerf_ros.config import QueryConfig
from lerf_ros.geometry.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.geometry.region import Region
from lerf_ros.index.coverage import SeenSpace
from lerf_ros.index.language_index import LanguageIndex, shifted_planes
from lerf_ros.index.resolution import Resolution
from lerf_ros.query.submap_answers import Cubes, Surface, all_places, spoken_for

LEVEL = 0.97        # cosine of the largest tilt of a floor, 14 degrees
SAME_FLOOR = 0.05   # metres: floors of two submaps whose heights differ by less are one


@dataclass(frozen=True)
class MappedSpace:
    """Surfaces, what was seen, and from where: T_world_cameras (K, 4, 4) of the keyframes, world.

    camera: of the newest of them; None without any. query: the settings that answers are given
    with. metric: whether world units are metres.
    """

    index: LanguageIndex
    coverage: SeenSpace | None
    resolution: Resolution | None
    T_world_cameras: np.ndarray
    camera: PinholeCamera | None
    query: QueryConfig
    metric: bool


@dataclass(frozen=True)
class JoinedCoverage:
    """What several submaps, by number, saw: each of its own cube. frame (4,): see Coverage."""

    cubes: Cubes
    parts: Mapping[int, SeenSpace]
    frame: np.ndarray

    def observed(self, region: Region | None = None) -> float:
        """Returns the part of the space for things that was seen, 0..1.

        A region lies in one submap, or in the overlap of several that know it alike.
        """
        known = [part.observed(region and Region(
            invert_pose(self.cubes.T_map_submap(k)) @ region.T_world_region, region.size))
            for k, part in self.parts.items()]
        return float(max(known) if region else np.mean(known))

    def unseen(self, region: Region | None = None) -> np.ndarray:
        """Returns the middles (M, 3), world, of the voxels that `observed` misses."""
        out = [np.zeros((0, 3))]
        for number, part in self.parts.items():
            T = self.cubes.T_map_submap(number)
            points = transform_points(T, part.unseen(region and Region(
                invert_pose(T) @ region.T_world_region, region.size)))
            out.append(points[(self.cubes.depth(number, points) <= 1.0)
                              & spoken_for(self.cubes, number, list(self.parts), points)])
        return np.concatenate(out)

    def seen_through(self, points_world: np.ndarray) -> np.ndarray:
        """Returns at which points (N, 3) keyframes saw that the space is empty, (N,) bool."""
        out = np.zeros(len(points_world), bool)
        for number, part in self.parts.items():
            inside = self.cubes.depth(number, points_world) <= 1.0
            own = transform_points(invert_pose(self.cubes.T_map_submap(number)),
                                   points_world[inside])
            out[inside] |= part.seen_through(own)
        return out


def joined_space(cubes: Cubes, spaces: Mapping[int, MappedSpace],
                 middle: np.ndarray) -> MappedSpace:
    """Joins what submaps, by number, know, in the frame of the map.

    middle (3,): of the place that is asked for.
    """
    seen = {k: space.coverage for k, space in spaces.items() if space.coverage is not None}
    cameras = [cubes.T_map_submap(k) @ space.T_world_cameras for k, space in spaces.items()]
    last = list(spaces.values())[-1]
    return MappedSpace(
        joined_index(cubes, {k: space.index for k, space in spaces.items()}),
        JoinedCoverage(cubes, seen, np.array([*middle, 1.0])) if seen else None,
        all_places(cubes, {k: space.resolution for k, space in spaces.items()}),
        np.concatenate(cameras), next((space.camera for space in spaces.values()
                                       if space.camera is not None), None),
        last.query, last.metric)


def joined_index(cubes: Cubes, indexes: Mapping[int, LanguageIndex]) -> LanguageIndex:
    """Joins the surfaces of submaps, by number, each as far as it speaks for it.

    The result has no codes and answers no phrase. Its segments are counted on from one submap to
    the next, supporting planes first; the lowest level planes of two submaps that are one floor
    are one segment.
    """
    surface = Surface.of(cubes, indexes)
    origin = surface.points.mean(0) if len(surface.points) else np.zeros(3)
    planes, number = joined_planes(cubes, indexes)
    segments, normals, free = [], [], len(planes)
    for k, index in indexes.items():
        own, mine = surface.own[k], index.segments
        things = int(mine.max(initial=-1)) + 1 - len(index.planes)
        renumbered = np.concatenate([number[k], free + np.arange(max(things, 0)), [-1]])
        segments.append(renumbered[mine[own]])
        normals.append(index.normals[own].astype(np.float32) @ cubes.T_map_submap(k)[:3, :3].T)
        free += max(things, 0)

    def own_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(index, name)[surface.own[k]]
                               for k, index in indexes.items()])

    first = next(iter(indexes.values()))
    return LanguageIndex(
        (surface.points - origin).astype(np.float32), surface.colors, own_of('keyframes'),
        np.zeros((0, len(surface.points), 0), np.int16), np.zeros((len(first.basis), 0)),
        first.scales, np.concatenate(normals).astype(np.float16),
        np.concatenate(segments).astype(np.int32), shifted_planes(planes, -origin), origin)


def joined_planes(cubes: Cubes, indexes: Mapping[int, LanguageIndex]
                  ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Returns the supporting planes (P, 4) of submaps in the map, and which is which of theirs."""
    planes: list[np.ndarray] = []
    floors: list[tuple[float, int]] = []      # height and number
    numbers: dict[int, np.ndarray] = {}
    for k, index in indexes.items():
        heights = plane_heights(cubes.T_map_submap(k), index)
        lowest = int(np.nanargmin(heights)) if np.isfinite(heights).any() else -1
        own = []
        for plane, row in enumerate(planes_in_map(cubes.T_map_submap(k), index)):
            same = [number for height, number in floors if plane == lowest
                    and abs(height - heights[plane]) <= SAME_FLOOR]
            own.append(same[0] if same else len(planes))
            if not same:
                planes.append(row)
                floors += [(float(heights[plane]), own[-1])] if plane == lowest else []
        numbers[k] = np.array(own, np.int64)
    return np.array(planes).reshape(-1, 4), numbers


def plane_heights(T_map_submap: np.ndarray, index: LanguageIndex) -> np.ndarray:
    """Returns z in the map (P,) of the points on each level plane; NaN for one that is not."""
    out = np.full(len(index.planes), np.nan)
    for k, normal in enumerate(index.planes[:, :3] @ T_map_submap[:3, :3].T):
        members = index.points_world[index.segments == k]
        if normal[2] >= LEVEL and len(members):
            out[k] = float(np.median(transform_points(T_map_submap, members)[:, 2]))
    return out


def planes_in_map(T_map_submap: np.ndarray, index: LanguageIndex) -> np.ndarray:
    """Returns the planes (P, 4) of a submap in the coordinates of the map."""
    world = shifted_planes(index.planes, index.origin)
    turned = np.concatenate([world[:, :3] @ T_map_submap[:3, :3].T, world[:, 3:]], 1)
    return shifted_planes(turned, T_map_submap[:3, 3])
