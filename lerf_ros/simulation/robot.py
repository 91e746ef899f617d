# SPDX-License-Identifier: Apache-2.0
"""A simulated robot that carries the camera: its chain of frames, its drift and its pose error."""

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
# Odometry drifts slowly by a few decimetres and degrees; localisation knows by how much.
DRIFT_M, DRIFT_DEGREES = 0.2, 6.0
DRIFT_PERIODS_S = (31.0, 53.0)
BASE_TURN_DEGREES, BASE_TURN_PERIODS_S = 10.0, (23.0, 41.0)
ERROR_PERIODS_S = (2.3, 5.7)


class Wobble:
    """A smooth random signal of `size` components, each with a root mean square of one."""

    def __init__(self, rng: np.random.Generator, size: int, periods_s: tuple[float, ...]):
        self._phase = rng.uniform(0, 2 * np.pi, (size, len(periods_s)))
        self._rate = 2 * np.pi / np.asarray(periods_s)

    def __call__(self, t_s: float) -> np.ndarray:
        """Returns the components (size,) at time t_s."""
        return np.sin(self._rate * t_s + self._phase).sum(1) * np.sqrt(2 / len(self._rate))


class SimulatedRobot:
    """The transforms map -> odom -> base_link -> camera_link of a robot with a given camera path.

    Their product is the pose of the camera. The base stands below the camera and turns a little,
    and map -> odom corrects the drift of the odometry. The pose that the robot reports may be
    wrong: it differs from the true one by a smooth error, as from an unmodelled bend or a poor
    calibration.
    """

    def __init__(self, path: Callable[[float], np.ndarray], seed: int,
                 error_m: float = 0.0, error_degrees: float = 0.0):
        """path: returns the true T_world_camera (4, 4), OpenCV axes, at a time in seconds.

        error_m, error_degrees: root mean square of the error of the reported camera pose.
        """
        rng = np.random.default_rng([seed, 7])
        self._path = path
        self._drift = Wobble(rng, 3, DRIFT_PERIODS_S)
        self._turn = Wobble(rng, 1, BASE_TURN_PERIODS_S)
        self._error = Wobble(rng, 6, ERROR_PERIODS_S)
        # A vector of three components with a root mean square of one has one of sqrt(3).
        self._error_m = error_m / np.sqrt(3)
        self._error_rad = np.radians(error_degrees) / np.sqrt(3)

    def T_map_camera(self, t_s: float) -> np.ndarray:
        """Returns the pose of the optical frame (4, 4) that the robot reports."""
        error = self._error(t_s)
        return self._path(t_s) @ _rigid(self._error_m * error[:3], self._error_rad * error[3:])

    def T_map_odom(self, t_s: float) -> np.ndarray:
        """Returns the drift of the odometry (4, 4): a slow motion in the plane."""
        x, y, turn = self._drift(t_s)
        return _rigid([DRIFT_M * x, DRIFT_M * y, 0], [0, 0, np.radians(DRIFT_DEGREES) * turn])

    def T_odom_base(self, t_s: float) -> np.ndarray:
        """Returns the pose of the base (4, 4) in the odometry frame."""
        return invert_pose(self.T_map_odom(t_s)) @ self._T_map_base(t_s)

    def T_base_camera_link(self, t_s: float) -> np.ndarray:
        """Returns the pose of the camera link (4, 4; x forward, z up) on the base."""
        T_map_link = self.T_map_camera(t_s) @ invert_pose(T_LINK_OPTICAL)
        return invert_pose(self._T_map_base(t_s)) @ T_map_link

    def _T_map_base(self, t_s: float) -> np.ndarray:
        x, y, _ = self._path(t_s)[:3, 3]
        return _rigid([x, y, 0], [0, 0, np.radians(BASE_TURN_DEGREES) * self._turn(t_s)[0]])


def _rigid(translation: np.ndarray | list, rotation_vector: np.ndarray | list) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    T[:3, 3] = translation
    return T
