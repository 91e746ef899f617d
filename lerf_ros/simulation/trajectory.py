# SPDX-License-Identifier: Apache-2.0
"""The path of a hand-held camera round the table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lerf_ros.simulation.room import TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import TabletopScene

PATH_S = 60.0       # for the whole path
TURNS = 2.0
SHAKE_M = 0.0025
SHAKE_RAD = 0.006
START_S = 1.0       # in which a camera at rest comes to speed, and in which it stops


def look_at(eye: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Returns T_world_camera (4, 4), OpenCV axes, of a camera at eye (3,) facing target (3,)."""
    z = np.asarray(target, np.float64) - eye
    z /= np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    T = np.eye(4)
    T[:3, 0] = np.cos(roll) * x + np.sin(roll) * y
    T[:3, 1] = np.cos(roll) * y - np.sin(roll) * x
    T[:3, 2], T[:3, 3] = z, eye
    return T


def hand_held_path(seed: int, scene: TabletopScene,
                   duration_s: float) -> Callable[[float], np.ndarray]:
    """Returns T_world_camera (4, 4) as a function of the time in seconds, from 0.

    The path makes two turns round the table in `duration_s`, at varying height and distance. The
    camera stays beside the table, so it never enters an object. It looks at a point that wanders
    over the table top, on the side of the camera.
    """
    rng = np.random.default_rng([seed, 21])
    start, turn = rng.uniform(0, 2 * np.pi), float(rng.choice([-1.0, 1.0]))
    phase = rng.uniform(0, 2 * np.pi, 12)
    shake = rng.uniform(0, 2 * np.pi, (6, 3))
    half = np.asarray(TABLE_SIZE) / 2
    tallest = max((o.box_max[2] for o in scene.objects), default=TABLE_HEIGHT) - TABLE_HEIGHT

    def jitter(t_s: float) -> np.ndarray:
        waves = np.sin(2 * np.pi * np.array([1.3, 2.9, 5.7]) * t_s + shake)
        return waves @ np.array([0.6, 0.3, 0.1])

    def T_world_camera(t_s: float) -> np.ndarray:
        u = 2 * np.pi * t_s / duration_s
        angle = start + turn * TURNS * u + 0.12 * np.sin(3 * u + phase[0])
        outward = np.array([np.cos(angle), np.sin(angle)])
        beside = half + 0.3 + 0.08 * np.sin(5 * u + phase[1])
        height = 0.6 + 0.15 * np.sin(u + phase[2]) + 0.05 * np.sin(7 * u + phase[3])
        eye = np.append(beside * outward, TABLE_HEIGHT + max(height, 0.6 * tallest))
        wander = np.array([np.sin(7.3 * u + phase[4]), np.sin(8.9 * u + phase[5])])
        spot = half * (0.15 * outward + 0.5 * wander)
        target = np.append(spot, TABLE_HEIGHT + 0.03)
        tremble = jitter(t_s)
        return look_at(eye + SHAKE_M * tremble[:3], target + SHAKE_RAD * tremble[3:],
                       0.04 * np.sin(2.3 * u + phase[6]) + SHAKE_RAD * tremble[0])
    return T_world_camera


def eased(t_s: float, duration_s: float) -> float:
    """Returns the time on a path of `duration_s` for a camera that starts and ends at rest.

    t_s: seconds since the start. The speed rises linearly, stays constant, and falls linearly. The
    result is 0 before and `duration_s` after the motion. If the camera jumped to full speed, the
    interpolation of its poses would be wrong.
    """
    ramp = min(START_S / duration_s, 0.5)
    u = min(max(t_s / duration_s, 0.0), 1.0)
    speed = 1 / (1 - ramp)
    if u < ramp:
        way = speed * u * u / (2 * ramp)
    elif u <= 1 - ramp:
        way = speed * (u - ramp / 2)
    else:
        way = 1 - speed * (1 - u) ** 2 / (2 * ramp)
    return duration_s * way
