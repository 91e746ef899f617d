# SPDX-License-Identifier: Apache-2.0
"""One snapshot of a map as a robot needs it: floor, lines of sight, and what was not seen.

Make one for each snapshot and ask it as often as you like: floor and sight are computed once, when
they are first needed, in a tenth of a second each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from lerf_ros.config.robot import RobotConfig
from lerf_ros.geometry.region import Region
from lerf_ros.query.answer import Hit
from lerf_ros.query.mapped_space import MappedSpace
from lerf_ros.robot import next_views, stand_off
from lerf_ros.robot.floor import FloorMap
from lerf_ros.robot.next_views import Missing, NextViews
from lerf_ros.robot.sight import SightLines
from lerf_ros.robot.stand_off import StandOff
from lerf_ros.robot.surroundings import Surroundings, surroundings


@dataclass(frozen=True)
class KnownSpace(MappedSpace):
    """What a map knows of the space that a robot is in, and what the robot is like."""

    config: RobotConfig = RobotConfig()

    @classmethod
    def on(cls, space: MappedSpace, config: RobotConfig) -> KnownSpace:
        """Takes what a map of either kind knows around a place."""
        return cls(**{part.name: getattr(space, part.name) for part in fields(MappedSpace)},
                   config=config)

    @cached_property
    def floor(self) -> FloorMap | None:
        """Returns the floor with its free places; None where the map shows none."""
        return FloorMap.of(self.index, self.coverage, self.T_world_cameras, self.config)

    @cached_property
    def _near_sight(self) -> SightLines:
        return SightLines(self.index.points_world, stand_off.SIGHT_EDGE)

    @cached_property
    def _far_sight(self) -> SightLines:
        return SightLines(self.index.points_world, next_views.SIGHT_EDGE)

    def stand_off(self, hit: Hit, T_world_base: np.ndarray | None = None) -> StandOff:
        """Returns where the base stands before a hit; T_world_base (4, 4): where it is now."""
        if not self.metric:
            return StandOff(None, reason=stand_off.NOT_METRIC)
        return stand_off.stand_off(hit, self.floor, self._near_sight, self.config, T_world_base)

    def next_views(self, region: Region | None = None,
                   T_world_base: np.ndarray | None = None) -> NextViews:
        """Returns from where most would be seen of what was not, in a region or everywhere.

        T_world_base (4, 4): where the base is now; views that it can drive to come first.
        """
        if not self.metric:
            return NextViews((), reason=stand_off.NOT_METRIC)
        if self.coverage is None or self.camera is None:
            return NextViews((), reason=next_views.NO_COVERAGE)
        missing = Missing.of(self.coverage, self.resolution, region, self.query.thing_size,
                             self.query.min_points, self.config.view_range)
        places = next_views.camera_places(self.floor, self.coverage, self.T_world_cameras,
                                          self.config, T_world_base)
        return next_views.next_views(missing, places, self._far_sight, self.camera, self.config)

    def surroundings(self, hit: Hit, reach: float) -> Surroundings:
        """Returns what an arm must not hit within `reach` metres of a hit."""
        return surroundings(hit, self.index, self.query, reach)
