# SPDX-License-Identifier: Apache-2.0
"""A posed camera image, and a keyframe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.errors import FrameError
from lerf_ros.geometry.camera import PinholeCamera

# Largest error of R^T R; that of the quaternions of robots is a millionth.
ROTATION_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Frame:
    """A colour image with its camera, pose and, if available, depth and mask.

    Raises FrameError if they do not fit together.
    image: (H, W, 3) uint8, RGB, as the sensor saw it (distorted).
    T_world_camera: (4, 4) float64, OpenCV camera axes (lerf_ros/geometry/camera.py).
    depth_m: (H, W) float32, z-depth in metres (world units), registered to the image; 0 or NaN
        where unknown.
    valid: (H, W) bool, False where the image shows the robot itself or nothing of use.
    """

    stamp_ns: int
    image: np.ndarray
    camera: PinholeCamera
    T_world_camera: np.ndarray
    depth_m: np.ndarray | None = None
    valid: np.ndarray | None = None

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise FrameError(f'image of shape {self.image.shape} {self.image.dtype}: '
                             'expected (H, W, 3) uint8')
        for name, array in (('image', self.image), ('depth', self.depth_m), ('mask', self.valid)):
            if array is not None and array.shape[:2] != size:
                raise FrameError(
                    f'{name} of {array.shape[1]}x{array.shape[0]} pixels with a camera of '
                    f'{size[1]}x{size[0]}: {name} and camera_info must describe the same image')
        T = np.asarray(self.T_world_camera)
        if T.shape != (4, 4) or not np.isfinite(T).all():
            raise FrameError('the camera pose is not a finite 4x4 matrix')
        check_rotation(T[:3, :3])


def check_rotation(R: np.ndarray) -> None:
    """Raises FrameError, which describes the matrix (3, 3), if it is not a rotation."""
    determinant = float(np.linalg.det(R))
    if np.abs(R.T @ R - np.eye(3)).max() <= ROTATION_TOLERANCE and determinant > 0:
        return
    lengths = np.linalg.norm(R, axis=0)
    if determinant < 0:
        what = 'it is mirrored, so its axes are left-handed'
    elif np.ptp(lengths) <= ROTATION_TOLERANCE and np.abs(
            R.T @ R - np.diag(lengths ** 2)).max() <= ROTATION_TOLERANCE:
        what = f'it is scaled by {lengths.mean():.3g}'
    else:
        what = ('it is sheared or its axes have different lengths '
                f'({", ".join(f"{length:.3g}" for length in lengths)})')
    raise FrameError(f'the rotation of the camera pose is not a rotation: {what} (determinant '
                     f'{determinant:.3f}, expected 1)')


@dataclass(frozen=True)
class Keyframe:
    """A frame that was selected for training; `index` numbers keyframes from 0 without gaps."""

    index: int
    frame: Frame
