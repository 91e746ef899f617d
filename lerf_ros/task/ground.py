# SPDX-License-Identifier: Apache-2.0
"""What a base meets on the ground of a simulated place: its tables and its walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.config.robot import RobotConfig
from lerf_ros.simulation.corridor import EYE_HEIGHT, HALL_HALF_WIDTH, SPACING, hall_size
from lerf_ros.simulation.room import ROOM_HALF, TABLE_SIZE


@dataclass(frozen=True)
class Ground:
    """A rectangle with tables in it. tables: the middles (x, y) of their tops. low, high: (x, y) of
    the corners where the walls meet; world, metres. robot: what drives there, and has mapped it.
    """

    tables: tuple[tuple[float, float], ...]
    low: tuple[float, float]
    high: tuple[float, float]
    robot: RobotConfig = RobotConfig()

    def meets(self, place: np.ndarray, radius: float) -> str:
        """Returns what a base of a radius at a place (2,) meets; empty for nothing."""
        beside = np.abs(place - np.asarray(self.tables)) - np.asarray(TABLE_SIZE) / 2
        if np.linalg.norm(np.maximum(beside, 0.0), axis=1).min() < radius:
            return 'table'
        outside = np.maximum(np.asarray(self.low) - place, place - np.asarray(self.high)).max()
        return 'wall' if outside > -radius else ''


ROOM = Ground(((0.0, 0.0),), (-ROOM_HALF, -ROOM_HALF), (ROOM_HALF, ROOM_HALF))


def hall(tables: int) -> Ground:
    """Returns the ground of the corridor of so many tables."""
    length, _ = hall_size(tables)
    return Ground(tuple((SPACING * k, 0.0) for k in range(tables)),
                  (-HALL_HALF_WIDTH, -HALL_HALF_WIDTH),
                  (length - HALL_HALF_WIDTH, HALL_HALF_WIDTH),
                  RobotConfig(camera_height=EYE_HEIGHT))
