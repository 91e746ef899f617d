# SPDX-License-Identifier: Apache-2.0
"""What the simulated camera of the demo films, by name: a table, a corridor or an apartment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lerf_ros.simulation.corridor import SPEED
from lerf_ros.simulation.driven_world import KINDS, driven_world
from lerf_ros.simulation.models import Kind
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.sensor import StereoDepth, noisy_depth
from lerf_ros.simulation.trajectory import PATH_S, hand_held_path

TABLE = 'table'
WORLDS = (TABLE, *KINDS)


@dataclass(frozen=True)
class Stage:
    """A scene and a camera in it.

    path: T_world_camera (4, 4), OpenCV axes, as a function of the seconds from 0 to duration_s.
    places_of: the table or room of each object, by number. measured: depth (H, W) as the sensor
    measures a true one, with noise of the given size drawn from the generator.
    """

    scene: TabletopScene
    path: Callable[[float], np.ndarray]
    duration_s: float
    places_of: tuple[int, ...]
    measured: Callable[[np.ndarray, float, np.random.Generator], np.ndarray] = noisy_depth

    def asked(self) -> list[str]:
        """Returns a phrase for each kind of object, from all places in turn."""
        places: dict[int, list[str]] = {}
        for thing, place in zip(self.scene.objects, self.places_of, strict=True):
            places.setdefault(place, []).append(thing.query)
        most = max(map(len, places.values()), default=0)
        return list(dict.fromkeys(things[k] for k in range(most) for things in places.values()
                                  if k < len(things)))


class StopAndGo:
    """Where a robot is on its way that stops for each picture, and goes on once it was taken.

    So a machine that is busy takes as many pictures of the way as any other, only later.
    """

    def __init__(self, period_s: float) -> None:
        """period_s: how long it drives from one picture to the next."""
        self._period_s = period_s
        self._left_ns: list[int] = []

    def go(self, now_ns: int) -> None:
        """Drives on to where the next picture is taken."""
        self._left_ns.append(now_ns)

    def path_time(self, time_ns: int) -> float:
        """Returns the seconds on the path at a time that is not in the future."""
        stops = bisect_right(self._left_ns, time_ns)
        if not stops:
            return 0.0
        driven_s = (time_ns - self._left_ns[stops - 1]) * 1e-9
        return (stops - 1) * self._period_s + min(driven_s, self._period_s)


def stage(world: str, seed: int, places: int, duration_s: float = PATH_S,
          speed: float = SPEED) -> Stage:
    """Draws a world of so many tables or rooms, or one table.

    duration_s: of the way around one table. speed: of the robot in another world, metres a second.
    Raises LerfError for a world or a number of places that there is not.
    """
    if world == TABLE:
        scene = TabletopScene.generate(seed)
        return Stage(scene, hand_held_path(seed, scene, duration_s), duration_s,
                     (0,) * len(scene.objects))
    driven = driven_world(world, seed, places, one_of_each_group(seed))
    return Stage(driven.scene, lambda t_s: driven.path(float(np.clip(speed * t_s, 0.0,
                                                                     driven.length))),
                 driven.length / speed, driven.places_of, stereo_depth)


def one_of_each_group(seed: int) -> tuple[Kind, ...]:
    """Draws a kind of each group: the offline encoder confuses those of one group."""
    rng = np.random.default_rng([seed, 29])
    groups: dict[str, list[Kind]] = {}
    for kind in CATALOGUE:
        groups.setdefault(kind.group, []).append(kind)
    return tuple(members[rng.integers(len(members))] for members in groups.values())


def stereo_depth(depth_m: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Returns depth (H, W) as two imagers measure it: holes at edges, and an end.

    noise: standard deviation at a metre as a part of it; it grows with the square of the depth.
    """
    return StereoDepth(noise).measure(depth_m, rng)
