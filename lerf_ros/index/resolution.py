# SPDX-License-Identifier: Apache-2.0
"""How finely the map resolves what the keyframes looked at, to tell absent from too small to see.

A map has one scene frame, and space beyond its radius is contracted: there the fields blur things
that the camera saw sharply. How far apart the index's points are, at the surfaces that keyframes
saw from close by, is the measure of it: a hit needs a number of points, so a thing can be found
where so many of them fit onto it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.geometry.region import Region
from lerf_ros.index.language_index import LanguageIndex

PART = 'resolution'     # its file in a snapshot; maps without depth have none
CELLS = 12          # cells along a scene radius in which what was seen counts once
NEIGHBOURS = 12     # index points whose distance tells how densely they lie
REACH = 1.0         # scene radii: farther points are no neighbours


@dataclass(frozen=True)
class Resolution:
    """M places on surfaces that keyframes looked at, one in each cell, and how fine the map is.

    points (M, 3) float32, world units from origin (3,) float64; spacing (M,) float32: mean distance
    of index points there, world units, infinite where there are none.
    """

    points: np.ndarray
    spacing: np.ndarray
    origin: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all arrays by name, as they are stored."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Resolution:
        """Makes a resolution of what `arrays` returned; KeyError when one is missing."""
        return cls(*(arrays[name] for name in cls.__dataclass_fields__))

    def points_world(self) -> np.ndarray:
        """Returns the places (M, 3) float64 in the world."""
        return self.points.astype(np.float64) + self.origin

    def share(self, size: float, points: int, region: Region | None = None) -> float:
        """Returns the part of the places where a thing of this size (world units) can be found.

        points: of the index, that a hit needs: so many must fit onto a square as wide as the thing.
        Without a place in the region it is 1: then coverage alone tells whether it was seen.
        """
        fine = self.spacing * math.sqrt(points) <= size
        inside = self._inside(region)
        return float(fine[inside].mean()) if inside.any() else 1.0

    def coarse(self, size: float, points: int, region: Region | None = None) -> np.ndarray:
        """Returns the places (M, 3), world, that `share` misses."""
        missed = (self.spacing * math.sqrt(points) > size) & self._inside(region)
        return self.points[missed].astype(np.float64) + self.origin

    def coarsest(self, region: Region | None = None) -> np.ndarray | None:
        """Returns the middle (3,), world, of the coarsest tenth of the places; None without any."""
        inside = np.flatnonzero(self._inside(region))
        if not len(inside):
            return None
        worst = inside[np.argsort(-self.spacing[inside], kind='stable')][:max(1, len(inside) // 10)]
        return np.asarray(np.median(self.points[worst], axis=0) + self.origin, np.float64)

    def _inside(self, region: Region | None) -> np.ndarray:
        if region is None:
            return np.ones(len(self.points), bool)
        R, center = region.T_world_region[:3, :3], region.T_world_region[:3, 3] - self.origin
        return (np.abs((self.points - center) @ R) <= region.size / 2).all(1)


def measure_resolution(views: Sequence[np.ndarray], least: int, index: LanguageIndex,
                       radius: float) -> Resolution:
    """Measures how densely the points of an index lie where so many keyframes looked.

    views: surface points (M, 3), world, that each keyframe looked at. least: keyframes that must
    have looked at a place; of what fewer saw no map is made, and coverage says so. radius: of the
    scene frame, world units.
    """
    places = one_per_cell([points - index.origin for points in views], radius / CELLS, least)
    count = min(NEIGHBOURS, len(index.points))
    if not count or not len(places):
        return Resolution(places, np.full(len(places), np.inf, np.float32), index.origin)
    distance, _ = cKDTree(index.points).query(places, [count],
                                              distance_upper_bound=REACH * radius)
    # So many points on a disc of this radius: their density, and the side of the square of one.
    spacing = distance[:, 0] * math.sqrt(math.pi / count)
    return Resolution(places, spacing.astype(np.float32), index.origin)


def one_per_cell(views: Sequence[np.ndarray], edge: float, least: int) -> np.ndarray:
    """Returns one point (float32) in each cube of this edge where `least` views (N, 3) have some.
    """
    own, points = [np.zeros((0, 3), np.int64)], [np.zeros((0, 3))]
    for view in views:
        cells, first = np.unique(np.floor(view / edge).astype(np.int64), axis=0, return_index=True)
        own.append(cells)
        points.append(view[first])
    _, first, count = np.unique(np.concatenate(own), axis=0, return_index=True, return_counts=True)
    return np.concatenate(points)[first[count >= least]].astype(np.float32)


def nearer_half(points: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Returns those of a view's points (N, 3) whose depth (N,) is not beyond the median.

    That is what the camera looked at from close by; the rest is background.
    """
    return points[depth <= np.median(depth)] if len(depth) else points
