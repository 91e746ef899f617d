# SPDX-License-Identifier: Apache-2.0
"""How well the asked region is known: what of it was seen, and how finely that is mapped."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lerf_ros.config import QueryConfig
from lerf_ros.geometry.region import Region
from lerf_ros.index.coverage import Coverage
from lerf_ros.index.resolution import Resolution


@dataclass(frozen=True)
class MappedPlace:
    """A region, or all of a map, as a place where a thing may be missing.

    observed: the part that was seen, 0..1; NaN for a map without coverage, which counts as seen.
    resolved: the part of what keyframes looked at from close by that is mapped finely enough for a
    thing of query.thing_size, 0..1; 1 where that is not known. enough: whether a thing that is not
    found is absent from it. keyframes: that must have seen a place so that it is no longer in
    doubt. too_coarse: what is too coarse, and what to do, in words; empty where nothing is.
    """

    observed: float
    resolved: float = 1.0
    enough: bool = True
    keyframes: int = 0
    too_coarse: str = ''

    @classmethod
    def of(cls, coverage: Coverage | None, resolution: Resolution | None, region: Region | None,
           config: QueryConfig, unit: float = 1.0, metric: bool = True) -> MappedPlace:
        """Measures a region, or all of the map where it is None.

        unit: in world units, what query.thing_size counts in.
        """
        observed = math.nan if coverage is None else coverage.observed(region)
        resolved = 1.0 if resolution is None else resolution.share(
            config.thing_size * unit, config.min_points, region)
        fine = resolved >= config.min_resolved
        words = '' if fine or resolution is None else in_words(resolved, resolution, region, config,
                                                              metric)
        return cls(observed, resolved, fine and not observed < config.min_observed,
                   0 if coverage is None else int(coverage.needed[1]), words)

    @property
    def known(self) -> float:
        """The part, 0..1, of which the map can tell what it holds; NaN for one without coverage."""
        return self.observed * self.resolved


def in_words(resolved: float, resolution: Resolution, region: Region | None, config: QueryConfig,
             metric: bool) -> str:
    """Returns how much is too coarse for what, where, and what to do about it."""
    where = resolution.coarsest(region)
    assert where is not None, 'a place without surfaces is not too coarse'
    size = f'{config.thing_size:g} {"m" if metric else "scene radii"}'
    x, y, z = where
    return (f'{1 - resolved:.0%} of what the camera looked at is mapped too coarsely to tell '
            f'whether a thing of {size} (query.thing_size) is there, worst near ({x:.2f}, {y:.2f}, '
            f'{z:.2f}): train longer, or map that place by itself, with scene.radius and '
            'scene.center set or in another map_directory')
