# SPDX-License-Identifier: Apache-2.0
"""A simulated robot that carries the camera: its chain of frames, its drift and its errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.geometry.camera import invert_pose

# The optical frame of REP-103 (x right, y down, z forward) in its link (x forward, y left, z up).
T_LINK_OPTICAL = np.array([[0.0, 0.0, 1.0, 0.0],
                           [-1.0, 0.0, 0.0, 0.0],
                           [0.0, -1.0, 0.0, 0.0],
                           [0.0, 0.0, 0.0, 1.0]])
# Odometry is wrong by a few decimetres and degrees, slowly; localisation knows by how much.
DRIFT_M, DRIFT_DEGREES = 0.2, 6.0
DRIFT_PERIODS_S = (31.0, 53.0)
BASE_TURN_DEGREES, BASE_TURN_PERIODS_S = 10.0, (23.0, 41.0)
ERROR_PERIODS_S = (2.3, 5.7)
START_S = 1.0   # in which a camera at rest comes to speed, and stops at the end


class Wobble:
    """A smooth random signal of `size` components, each with a root mean square of one."""

    def __init__(self, rng: np.random.Generator, size: int, periods_s: tuple[float, ...]):
        self._phase = rng.uniform(0, 2 * np.pi, (size, len(periods_s)))
        self._rate = 2 * np.pi / np.asarray(periods_s)

    def __call__(self, t_s: float) -> np.ndarray:
        """The components (size,) at time t_s."""
        return np.sin(self._rate * t_s + self._phase).sum(1) * np.sqrt(2 / len(self._rate))


class SimulatedRobot:
    """map -> odom -> base_link -> camera_link of a robot whose camera follows a given path.

    The product of the three is the pose of the camera, but none of them is it alone: the base
    stands below the camera and turns a little, and odometry drifts, which map -> odom corrects.
    What the robot tells of itself may be wrong: its camera pose differs from the true one by a
    smooth error, as an unmodelled bend or a poor calibration would make it.
    """

    def __init__(self, path: Callable[[float], np.ndarray], seed: int,
                 error_m: float = 0.0, error_degrees: float = 0.0):
        """path: true T_world_camera (4, 4), OpenCV axes, at a time in seconds.

        error_m, error_degrees: root mean square of the error of the camera pose.
        """
        rng = np.random.default_rng([seed, 7])
        self._path = path
        self._drift = Wobble(rng, 3, DRIFT_PERIODS_S)
        self._turn = Wobble(rng, 1, BASE_TURN_PERIODS_S)
        self._error = Wobble(rng, 6, ERROR_PERIODS_S)
        # Three components of a root mean square of one make a vector of root mean square sqrt(3).
        self._error_m = error_m / np.sqrt(3)
        self._error_rad = np.radians(error_degrees) / np.sqrt(3)

    def T_map_camera(self, t_s: float) -> np.ndarray:
        """The pose of the optical frame (4, 4) that the robot believes in."""
        error = self._error(t_s)
        return self._path(t_s) @ _rigid(self._error_m * error[:3], self._error_rad * error[3:])

    def T_map_odom(self, t_s: float) -> np.ndarray:
        """How far odometry has drifted (4, 4): a slow motion in the plane."""
        x, y, turn = self._drift(t_s)
        return _rigid([DRIFT_M * x, DRIFT_M * y, 0], [0, 0, np.radians(DRIFT_DEGREES) * turn])

    def T_odom_base(self, t_s: float) -> np.ndarray:
        """The base (4, 4) as odometry sees it."""
        return invert_pose(self.T_map_odom(t_s)) @ self._T_map_base(t_s)

    def T_base_camera_link(self, t_s: float) -> np.ndarray:
        """The camera link (4, 4; x forward, z up) on the robot."""
        T_map_link = self.T_map_camera(t_s) @ invert_pose(T_LINK_OPTICAL)
        return invert_pose(self._T_map_base(t_s)) @ T_map_link

    def _T_map_base(self, t_s: float) -> np.ndarray:
        x, y, _ = self._path(t_s)[:3, 3]
        return _rigid([x, y, 0], [0, 0, np.radians(BASE_TURN_DEGREES) * self._turn(t_s)[0]])


def eased(t_s: float, duration_s: float) -> float:
    """Time on a path of `duration_s` for a camera that starts and ends at rest; t_s in seconds.

    The speed rises linearly, stays, and falls linearly; 0 before and `duration_s` after. A camera
    that jumped to full speed would be where no interpolation of its poses finds it.
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


def noisy_image(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """The image (H, W, 3) uint8 with normal noise of `sigma` grey levels."""
    if sigma <= 0:
        return image
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def noisy_depth(depth_m: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """The depth (H, W) float32 with normal noise of `sigma` times the depth; 0 stays 0."""
    if sigma <= 0:
        return depth_m
    noise = rng.standard_normal(depth_m.shape, np.float32) * np.float32(sigma)
    return (depth_m * np.maximum(1 + noise, 0)).astype(np.float32)


def _rigid(translation: np.ndarray | list, rotation_vector: np.ndarray | list) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    T[:3, 3] = translation
    return T
