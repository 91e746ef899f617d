# SPDX-License-Identifier: Apache-2.0
"""Parses the pose matrices of captures: makes them rigid or refuses them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.posed_folder import Notes
from lerf_ros.geometry.camera import opengl_to_opencv

# ARKit's world has y up; here z is up. As in nerfstudio: (x, y, z) -> (z, x, y).
Z_UP = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def from_arkit(T_arkit_camera: np.ndarray) -> np.ndarray:
    """Converts ARKit's pose (4, 4), y up and OpenGL axes, to T_world_camera, z up, OpenCV axes."""
    return Z_UP @ opengl_to_opencv(T_arkit_camera)


ROUNDING = 0.02     # largest error of R^T R in a matrix that was written with two digits
EXACT = 1e-6        # error of R^T R below which a rotation is left as it is
SCALE_NOTE = ('the rotations of the poses have a scale: it is dropped, positions are taken as '
              'they are written')


def parse_pose(matrix: object, name: str, notes: Notes | None = None) -> np.ndarray:
    """Parses a rigid camera-to-world matrix (4, 4), whose last row may be missing.

    A uniform scale of the rotation has no meaning for a camera (scaled objects of modelling
    programs and chunks of photogrammetry have one) and is dropped. Raises DatasetError for a matrix
    that is malformed, sheared, mirrored or transposed.
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
    """Returns the rotation nearest to a matrix (3, 3); raises DatasetError if it is not close."""
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


def pose_of_quaternion(xyzw: object, position: object, name: str) -> np.ndarray:
    """Returns the pose (4, 4) of a quaternion (x, y, z, w) and a position; raises DatasetError."""
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
