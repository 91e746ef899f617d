# SPDX-License-Identifier: Apache-2.0
"""What a map knows of the space around a robot: stand-off poses and next views."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lerf_ros.config.robot import RobotConfig
from lerf_ros.errors import NoSnapshotError
from lerf_ros.geometry.region import Region
from lerf_ros.query.answer import Answer

if TYPE_CHECKING:
    from lerf_ros.asked_map import AskedMap
    from lerf_ros.query.mapped_space import MappedSpace
    from lerf_ros.robot.known_space import KnownSpace

NOT_KNOWN = 'the map has no snapshot yet, so nothing is known of the space around the robot'


class RobotSpace:
    """Keeps the space that was asked for last, whose floor takes a tenth of a second."""

    def __init__(self, config: RobotConfig) -> None:
        self._config = config
        self._of: MappedSpace | None = None
        self._space: KnownSpace | None = None

    def of(self, map_: AskedMap, around: np.ndarray | None = None) -> KnownSpace | None:
        """Returns the space around a place (3,), or the map's middle; None without a snapshot.

        Raises MapUnreadableError where a keyframe cannot be read.
        """
        try:
            space = map_.mapped_space(around)
        except NoSnapshotError:
            return None
        if space is not self._of:
            from lerf_ros.robot.known_space import KnownSpace
            self._space, self._of = KnownSpace.on(space, self._config), space
        return self._space

    def with_stand_off(self, answer: Answer, map_: AskedMap,
                       T_map_base: np.ndarray | None) -> Answer:
        """Returns the answer with where the base stands before its best hit, or why nowhere.

        T_map_base (4, 4): where it is now, if that is known.
        """
        space = self.of(map_, answer.hits[0].position)
        if space is None:
            return replace(answer, stand_off_note=NOT_KNOWN)
        place = space.stand_off(answer.hits[0], T_map_base)
        return replace(answer, T_world_stand_off=place.T_world_base,
                       stand_off_note=place.reason or place.doubt)

    def next_views(self, map_: AskedMap, region: Region | None,
                   T_map_base: np.ndarray | None) -> tuple[tuple[np.ndarray, ...], str]:
        """Returns poses of the camera (4, 4) that would show more of a region, or why there are
        none. The arguments are those of `with_stand_off`; region: None for everywhere.
        """
        space = self.of(map_, middle_of(region, T_map_base))
        if space is None:
            return (), NOT_KNOWN
        proposed = space.next_views(region, T_map_base)
        return tuple(view.T_world_camera for view in proposed.views), proposed.reason


def middle_of(region: Region | None, T_map_base: np.ndarray | None) -> np.ndarray | None:
    """Returns the place (3,) that is meant: a region's, or else where the base is, if known."""
    if region is not None:
        return np.asarray(region.T_world_region[:3, 3])
    return None if T_map_base is None else np.asarray(T_map_base[:3, 3])
