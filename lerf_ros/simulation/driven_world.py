# SPDX-License-Identifier: Apache-2.0
"""Worlds larger than a table, and the way of a robot through each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.errors import LerfError
from lerf_ros.simulation import apartment, corridor
from lerf_ros.simulation.models import Kind
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.scene import TabletopScene

KINDS = {'corridor': 'table', 'apartment': 'room'}      # and what things stand in
DRIFT_WAY = 30.0        # metres, over which poses drift by these
DRIFT_M, DRIFT_DEG = (0.6, -0.8, 0.0), 5.0


@dataclass(frozen=True)
class DrivenWorld:
    """A world, and T_world_camera (4, 4), OpenCV axes, as a function of the metres driven in it.

    length: of the way, metres. area_m2: of the floor. places_of: the table or room of each object,
    by number, in the order in which they are passed.
    """

    name: str
    scene: TabletopScene
    path: Callable[[float], np.ndarray]
    length: float
    area_m2: float
    places_of: tuple[int, ...]


def driven_world(kind: str, seed: int, count: int,
                 catalogue: Sequence[Kind] = CATALOGUE) -> DrivenWorld:
    """Draws a corridor of `count` tables or an apartment of `count` rooms. Raises LerfError."""
    name = f'{kind}, {count} {KINDS.get(kind, "")}s, seed {seed}'
    if kind == 'corridor':
        hall, (length, width) = corridor.corridor(seed, count, catalogue), corridor.hall_size(count)
        each = len(hall.objects) // count
        return DrivenWorld(name, hall, corridor.driving_path(seed, count),
                           corridor.drive_length(count), length * width,
                           tuple(k // each for k in range(len(hall.objects))))
    if kind == 'apartment':
        home = apartment.apartment(seed, count, catalogue)
        return DrivenWorld(name, home.scene, apartment.driving_path(seed, home.plan),
                           apartment.route(home.plan).length, home.plan.area_m2, home.rooms_of)
    raise LerfError(f'no world is called {kind!r}: {", ".join(KINDS)}')


def drift(way: float) -> np.ndarray:
    """Returns how far off (4, 4), world, odometry is after so many metres: 1 m and 5 degrees at 30.
    """
    T, share = np.eye(4), way / DRIFT_WAY
    T[:3, :3] = Rotation.from_euler('z', share * DRIFT_DEG, degrees=True).as_matrix()
    T[:3, 3] = share * np.array(DRIFT_M)
    return T
