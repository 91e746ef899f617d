# SPDX-License-Identifier: Apache-2.0
"""Poses and transforms to and from rigid (4, 4) matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import Pose, Transform
from scipy.spatial.transform import Rotation

from lerf_ros.errors import FrameError


def rigid_matrix(translation: Any, rotation: Any) -> np.ndarray:
    """(4, 4) of a translation and a quaternion message; FrameError where they say nothing."""
    q = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    largest = np.abs(q).max()
    if not 1e-6 < largest < np.inf:     # NaN compares as False
        raise FrameError(f'the quaternion {q.tolist()} is not a rotation')
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(q / largest).as_matrix()  # squares overflow
    T[:3, 3] = translation.x, translation.y, translation.z
    if not np.isfinite(T).all():
        raise FrameError(f'the translation {T[:3, 3].tolist()} is not finite')
    return T


def transform_to_matrix(msg: Transform) -> np.ndarray:
    """(4, 4) float64 of a transform."""
    return rigid_matrix(msg.translation, msg.rotation)


def pose_to_matrix(msg: Pose) -> np.ndarray:
    """(4, 4) float64 of a pose."""
    return rigid_matrix(msg.position, msg.orientation)


def matrix_to_transform(T: np.ndarray) -> Transform:
    """The transform message of a rigid (4, 4)."""
    msg = Transform()
    _write(T, msg.translation, msg.rotation)
    return msg


def matrix_to_pose(T: np.ndarray) -> Pose:
    """The pose message of a rigid (4, 4)."""
    msg = Pose()
    _write(T, msg.position, msg.orientation)
    return msg


def _write(T: np.ndarray, translation: Any, rotation: Any) -> None:
    translation.x, translation.y, translation.z = (float(v) for v in T[:3, 3])
    q = Rotation.from_matrix(T[:3, :3]).as_quat(canonical=True)
    rotation.x, rotation.y, rotation.z, rotation.w = (float(v) for v in q)
