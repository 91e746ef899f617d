# SPDX-License-Identifier: Apache-2.0
"""Cameras, poses, transforms and time stamps to and from messages."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from lerf_ros.errors import FrameError
from lerf_ros.geometry.camera import COEFFICIENTS, FISHEYE, PINHOLE, PinholeCamera

DISTORTION_MODELS = ('plumb_bob', 'rational_polynomial')
COEFFICIENT_COUNTS = (5, 8, 12, COEFFICIENTS)   # that OpenCV accepts
# sensor_msgs/distortion_models.hpp says equidistant; some drivers use OpenCV's name.
FISHEYE_MODELS = ('equidistant', 'fisheye')
# OpenCV, and so camera_info, puts the centre of the first pixel at 0; this package puts it at 0.5.
PIXEL_CENTER = 0.5


def stamp_to_ns(stamp: Time) -> int:
    """Returns a stamp in integer nanoseconds; a float would round almost every stamp."""
    return stamp.sec * 10**9 + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Returns the message for a stamp in integer nanoseconds, which must not be negative."""
    return Time(sec=int(stamp_ns // 10**9), nanosec=int(stamp_ns % 10**9))


def rigid_matrix(translation: Vector3 | Point, rotation: Quaternion) -> np.ndarray:
    """Returns the rigid transform (4, 4) float64 of a translation and a quaternion.

    Raises FrameError when the quaternion has no length or a number is not finite.
    """
    q = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    largest = np.abs(q).max()
    if not 1e-6 < largest < np.inf:     # NaN compares as False
        raise FrameError(f'the quaternion {q.tolist()} is not a rotation')
    T = np.eye(4)
    # Divided first, because the squares of large numbers overflow.
    T[:3, :3] = Rotation.from_quat(q / largest).as_matrix()
    T[:3, 3] = translation.x, translation.y, translation.z
    if not np.isfinite(T).all():
        raise FrameError(f'the translation {T[:3, 3].tolist()} is not finite')
    return T


def transform_to_matrix(msg: Transform) -> np.ndarray:
    """Returns a transform message as a matrix (4, 4) float64; raises FrameError as rigid_matrix."""
    return rigid_matrix(msg.translation, msg.rotation)


def pose_to_matrix(msg: Pose) -> np.ndarray:
    """Returns a pose message as a matrix (4, 4) float64; raises FrameError as rigid_matrix."""
    return rigid_matrix(msg.position, msg.orientation)


def matrix_to_transform(T: np.ndarray) -> Transform:
    """Returns the transform message of a rigid matrix (4, 4)."""
    msg = Transform()
    _fill(msg.translation, msg.rotation, T)
    return msg


def matrix_to_pose(T: np.ndarray) -> Pose:
    """Returns the pose message of a rigid matrix (4, 4)."""
    msg = Pose()
    _fill(msg.position, msg.orientation, T)
    return msg


def stamped_transform(T_parent_child: np.ndarray, parent: str, child: str,
                      stamp_ns: int) -> TransformStamped:
    """Returns the message that tells TF where frame `child` is in frame `parent` at a stamp."""
    msg = TransformStamped(child_frame_id=child, transform=matrix_to_transform(T_parent_child))
    msg.header.frame_id, msg.header.stamp = parent, ns_to_stamp(stamp_ns)
    return msg


def _fill(translation: Vector3 | Point, rotation: Quaternion, T: np.ndarray) -> None:
    translation.x, translation.y, translation.z = (float(v) for v in T[:3, 3])
    q = Rotation.from_matrix(T[:3, :3]).as_quat(canonical=True)
    rotation.x, rotation.y, rotation.z, rotation.w = (float(v) for v in q)


def camera_from_info(msg: CameraInfo, rectified: bool = False) -> PinholeCamera:
    """Returns the camera that a camera_info describes, with binning and region of interest applied.

    rectified: use the projection matrix P without distortion, instead of K and D. Raises FrameError
    for an uncalibrated camera, contradictory sizes and an unknown distortion model.
    """
    K = np.asarray(msg.p).reshape(3, 4)[:, :3] if rectified else np.asarray(msg.k).reshape(3, 3)
    if not (K[0, 0] > 0 and K[1, 1] > 0):
        raise FrameError(f'camera_info has no focal length ({"P" if rectified else "K"} is zero): '
                         'calibrate the camera, or have its driver publish the calibration')
    model, distortion = (PINHOLE, ()) if rectified else distortion_from_info(msg)
    bx, by = max(msg.binning_x, 1), max(msg.binning_y, 1)
    roi = msg.roi
    # A region of size 0 means the whole image; K and P refer to the whole, unbinned image.
    width, height = roi.width or msg.width, roi.height or msg.height
    if roi.x_offset + width > msg.width or roi.y_offset + height > msg.height:
        raise FrameError(
            f'camera_info names a region of {width}x{height} pixels at ({roi.x_offset}, '
            f'{roi.y_offset}) of an image of {msg.width}x{msg.height}: the driver must fill width '
            'and height with the size of the whole, unbinned image')
    return PinholeCamera(
        width // bx, height // by, float(K[0, 0]) / bx, float(K[1, 1]) / by,
        float(K[0, 2] + PIXEL_CENTER - roi.x_offset) / bx,
        float(K[1, 2] + PIXEL_CENTER - roi.y_offset) / by, distortion, model)


def distortion_from_info(msg: CameraInfo) -> tuple[str, tuple[float, ...]]:
    """Returns model and coefficients as PinholeCamera takes them.

    Raises FrameError for a model that is not supported.
    """
    coefficients = tuple(float(d) for d in msg.d)
    if msg.distortion_model in FISHEYE_MODELS and not any(coefficients[4:]):
        return FISHEYE, coefficients[:4]
    if not any(coefficients):
        return PINHOLE, ()
    if msg.distortion_model not in DISTORTION_MODELS or any(coefficients[COEFFICIENTS:]):
        raise FrameError(
            f'distortion model {msg.distortion_model!r} with {len(coefficients)} coefficients is '
            f'not supported: publish {", ".join(DISTORTION_MODELS)} or {FISHEYE_MODELS[0]}, or '
            'rectified images (image_rectified:=true)')
    used = max(i for i, d in enumerate(coefficients) if d) + 1
    return PINHOLE, coefficients[:max(used, 5)]


def to_camera_info(camera: PinholeCamera, header: Header | None = None) -> CameraInfo:
    """Returns the camera_info message of a camera, its coefficients padded to a count of OpenCV."""
    cx, cy = camera.cx - PIXEL_CENTER, camera.cy - PIXEL_CENTER
    d = [float(v) for v in camera.distortion]
    fisheye = camera.model == FISHEYE
    count = 4 if fisheye else next(n for n in COEFFICIENT_COUNTS if n >= len(d))
    model = FISHEYE_MODELS[0] if fisheye else DISTORTION_MODELS[count > 5]
    msg = CameraInfo(width=camera.width, height=camera.height, distortion_model=model,
                     d=d + [0.0] * (count - len(d)))
    msg.k = [camera.fx, 0.0, cx, 0.0, camera.fy, cy, 0.0, 0.0, 1.0]
    msg.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    msg.p = [camera.fx, 0.0, cx, 0.0, 0.0, camera.fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    if header is not None:
        msg.header = header
    return msg
