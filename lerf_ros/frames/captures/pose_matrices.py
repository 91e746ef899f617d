# SPDX-License-Identifier: Apache-2.0
"""Pose matrices as captures hold them, made rigid or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.posed_folder import Notes
from lerf_ros.geometry.camera import opengl_to_opencv

# ARKit's world has y up. As nerfstudio does, z becomes up: (x, y, z) -> (z, x, y).
Z_UP = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def from_arkit(T_arkit_camera: np.ndarray) -> np.ndarray:
    """T_world_camera (4, 4), z up and OpenCV axes, of ARKit's pose, y up and OpenGL axes."""
    return Z_UP @ opengl_to_opencv(T_arkit_camera)


# So far from a rotation a matrix may be that was written with two digits.
ROUNDING = 0.02
EXACT = 1e-6
SCALE_NOTE = ('the rotations of the poses have a scale: it is dropped, positions are taken as '
              'they are written')


def parse_pose(matrix: Any, name: str, notes: Notes | None = None) -> np.ndarray:
    """A rigid camera-to-world matrix (4, 4); the last row may be missing.

    A scale of the whole rotation says nothing of a camera (scaled objects of modelling programs
    and chunks of photogrammetry leave it): it is dropped. Raises DatasetError for what is sheared
    or mirrored, and for a matrix that is none or transposed.
    """
    try:
        T = np.array(matrix, np.float64)
    except (TypeError, ValueError, OverflowError):
        T = np.empty(0)
    if T.shape == (3, 4):
        T = np.vstack([T, [0.0, 0.0, 0.0, 1.0]])
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise DatasetError(f'{name}: transform_matrix must be a finite 4x4 matrix')
    if not np.allclose(T[3], [0.0, 0.0, 0.0, 1.0], atol=1e-6):
        raise DatasetError(f'{name}: the last row of transform_matrix must be 0 0 0 1, not '
                           f'{" ".join(f"{value:g}" for value in T[3])}: is it transposed?')
    T[:3, :3] = rotation_of(T[:3, :3], name, notes)
    return T


def rotation_of(R: np.ndarray, name: str, notes: Notes | None = None) -> np.ndarray:
    """The rotation (3, 3) that a matrix means; raises DatasetError where it means none."""
    determinant = float(np.linalg.det(R))
    if determinant <= 1e-12:
        raise DatasetError(f'{name}: the rotation of the camera pose is not a rotation: it is '
                           f'{"mirrored" if determinant < -1e-12 else "flat"} (determinant '
                           f'{determinant:.3g}, expected 1)')
    scale = determinant ** (1 / 3)
    unit = R / scale
    if np.abs(unit.T @ unit - np.eye(3)).max() > ROUNDING:
        lengths = ', '.join(f'{length:.3g}' for length in np.linalg.norm(R, axis=0))
        raise DatasetError(
            f'{name}: the rotation of the camera pose is not a rotation: its axes are sheared or '
            f'of different lengths ({lengths}); orthonormalise the poses where they come from')
    if abs(scale - 1) > ROUNDING and notes is not None:
        notes.add(SCALE_NOTE, name)
    if np.abs(R.T @ R - np.eye(3)).max() < EXACT:
        return R
    u, _, vt = np.linalg.svd(R)
    return u @ vt


def pose_of_quaternion(xyzw: Any, position: Any, name: str) -> np.ndarray:
    """The pose (4, 4) of a quaternion, scalar last, and a position (3,)."""
    T = np.eye(4)
    try:
        T[:3, :3] = Rotation.from_quat(np.array(xyzw, np.float64)).as_matrix()
        T[:3, 3] = np.array(position, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f'{name}: its pose is not a quaternion and a position: '
                           f'{error}') from error
    if not np.isfinite(T).all():
        raise DatasetError(f'{name}: its pose is not finite')
    return T
