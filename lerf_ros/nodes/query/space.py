# SPDX-License-Identifier: Apache-2.0
"""What the loaded snapshot knows of the space around a robot: stand-off poses and next views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lerf_ros.config.robot import RobotConfig
from lerf_ros.geometry.region import Region
from lerf_ros.query.answer import Answer
from lerf_ros.storage.keyframe_files import KeyframeFiles

if TYPE_CHECKING:
    from lerf_ros.asked_map import AskedMap
    from lerf_ros.map_query import LoadedSnapshot
    from lerf_ros.robot.known_space import KnownSpace

NOT_KNOWN = 'this map does not tell what a robot has room for: it consists of submaps'


class RobotSpace:
    """Keeps the space of the newest snapshot, whose floor takes a tenth of a second."""

    def __init__(self, directory: Path, config: RobotConfig) -> None:
        """directory: of the map."""
        self._directory, self._config = directory, config
        self._of: LoadedSnapshot | None = None
        self._space: KnownSpace | None = None

    def of(self, map_: AskedMap) -> KnownSpace | None:
        """Returns the space of what a map has loaded; None for a map without one snapshot.

        Raises MapUnreadableError where a keyframe cannot be read.
        """
        snapshot = map_.snapshot
        if snapshot is None:
            return None
        if snapshot is not self._of:
            from lerf_ros.robot.known_space import KnownSpace
            self._space, self._of = KnownSpace.of(
                snapshot.query.index, snapshot.coverage, snapshot.resolution,
                KeyframeFiles(self._directory), snapshot.query.config, snapshot.metric,
                self._config), snapshot
        return self._space

    def with_stand_off(self, answer: Answer, map_: AskedMap,
                       T_map_base: np.ndarray | None) -> Answer:
        """Returns the answer with where the base stands before its best hit, or why nowhere.

        T_map_base (4, 4): where it is now, if that is known.
        """
        space = self.of(map_)
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
        space = self.of(map_)
        if space is None:
            return (), NOT_KNOWN
        proposed = space.next_views(region, T_map_base)
        return tuple(view.T_world_camera for view in proposed.views), proposed.reason
