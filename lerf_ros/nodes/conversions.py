# SPDX-License-Identifier: Apache-2.0
"""ROS messages of images, cameras, poses and clouds to and from what the core computes with."""

from __future__ import annotations

import array
import sys
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from lerf_ros.camera import PinholeCamera
from lerf_ros.errors import FrameError
from lerf_ros.query.answer import Answer

# encoding -> number of channels, and the order that turns them into red, green, blue
COLOR_ENCODINGS = {'rgb8': (3, (0, 1, 2)), 'bgr8': (3, (2, 1, 0)), 'rgba8': (4, (0, 1, 2)),
                   'bgra8': (4, (2, 1, 0)), 'mono8': (1, (0, 0, 0))}
# encoding -> element type and metres per unit
DEPTH_ENCODINGS = {'16UC1': ('u2', 1e-3), 'mono16': ('u2', 1e-3), '32FC1': ('f4', 1.0)}
MASK_ENCODINGS = ('mono8', '8UC1')
# what `to_image` writes: element type and channels
IMAGE_TYPES = {'rgb8': ('u1', 3), 'bgr8': ('u1', 3), 'mono8': ('u1', 1), '8UC1': ('u1', 1),
               '16UC1': ('u2', 1), 'mono16': ('u2', 1), '32FC1': ('f4', 1)}
DISTORTION_MODELS = ('plumb_bob', 'rational_polynomial')
# OpenCV, and so camera_info, puts the centre of the first pixel at 0; this package puts it at 0.5.
PIXEL_CENTER = 0.5

CLOUD_FIELDS = ('x', 'y', 'z', 'rgb', 'relevancy')
CLOUD_TYPE = np.dtype([(name, '<u4' if name == 'rgb' else '<f4') for name in CLOUD_FIELDS])


def stamp_to_ns(stamp: Time) -> int:
    """Integer nanoseconds; floats would change almost every stamp."""
    return stamp.sec * 10**9 + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """The message for integer nanoseconds (not negative)."""
    return Time(sec=int(stamp_ns // 10**9), nanosec=int(stamp_ns % 10**9))


def pixel_rows(msg: Image, dtype: str, channels: int) -> np.ndarray:
    """The pixels (H, W, channels) of a message in native byte order, padding of the rows left out.

    Raises FrameError when size, step and length of the data contradict each other.
    """
    kind = np.dtype(dtype).newbyteorder('>' if msg.is_bigendian else '<')
    row = msg.width * channels * kind.itemsize
    step = msg.step or row
    if msg.width < 1 or msg.height < 1 or step < row or len(msg.data) < step * msg.height:
        raise FrameError(
            f'image of {msg.width}x{msg.height} pixels, encoding {msg.encoding}, with step '
            f'{msg.step} and {len(msg.data)} bytes: expected a step of at least {row} and '
            f'{step * msg.height} bytes; the publisher fills the message wrongly')
    rows = np.frombuffer(msg.data, np.uint8, step * msg.height).reshape(msg.height, step)
    pixels = np.ascontiguousarray(rows[:, :row]).view(kind)
    return pixels.reshape(msg.height, msg.width, channels).astype(kind.newbyteorder('='))


def image_to_rgb(msg: Image | CompressedImage) -> np.ndarray:
    """Colour image as (H, W, 3) uint8 RGB.

    Raises FrameError for an encoding that is not supported (naming those that are) and for data
    that does not fit the encoding.
    """
    if isinstance(msg, CompressedImage):
        return compressed_to_rgb(msg)
    if msg.encoding not in COLOR_ENCODINGS:
        raise FrameError(f'image encoding {msg.encoding!r} is not supported: publish one of '
                         f'{", ".join(COLOR_ENCODINGS)}')
    channels, order = COLOR_ENCODINGS[msg.encoding]
    return np.ascontiguousarray(pixel_rows(msg, 'u1', channels)[..., order])


def compressed_to_rgb(msg: CompressedImage) -> np.ndarray:
    """JPEG or PNG as (H, W, 3) uint8 RGB; FrameError for anything else."""
    data = np.frombuffer(msg.data, np.uint8)
    jpeg, png = bytes(data[:3]) == b'\xff\xd8\xff', bytes(data[:4]) == b'\x89PNG'
    # The header of the file decides, not msg.format, whose text every publisher writes its own way.
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) \
        if jpeg or png else None
    if image is None:
        raise FrameError(f'compressed image of format {msg.format!r} is not supported or is '
                         'damaged: publish jpeg or png')
    return np.ascontiguousarray(image[..., ::-1])


def depth_to_metres(msg: Image) -> np.ndarray:
    """Depth image as (H, W) float32 metres along the optical axis, 0 where unknown.

    Raises FrameError for an encoding that is not supported, naming those that are.
    """
    if msg.encoding not in DEPTH_ENCODINGS:
        raise FrameError(f'depth encoding {msg.encoding!r} is not supported: publish 16UC1 or '
                         'mono16 (millimetres) or 32FC1 (metres)')
    dtype, metres = DEPTH_ENCODINGS[msg.encoding]
    depth = pixel_rows(msg, dtype, 1)[..., 0].astype(np.float32) * np.float32(metres)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def mask_to_valid(msg: Image) -> np.ndarray:
    """Mask image as (H, W) bool: False where it is 0, which is where the robot itself is."""
    if msg.encoding not in MASK_ENCODINGS:
        raise FrameError(f'mask encoding {msg.encoding!r} is not supported: publish '
                         f'{" or ".join(MASK_ENCODINGS)}, 0 where the robot itself is')
    return pixel_rows(msg, 'u1', 1)[..., 0] > 0


def read_mask(path: str) -> np.ndarray:
    """Mask file as (H, W) bool: False where it is 0. Raises FrameError if it cannot be read."""
    mask = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise FrameError(f'mask_file {path!r} cannot be read: give a PNG, 0 where the robot is')
    return mask > 0


def to_image(pixels: np.ndarray, encoding: str, header: Any = None) -> Image:
    """Image message of (H, W, 3) uint8 (rgb8, bgr8), (H, W) uint8, uint16 or float32 pixels.

    Raises FrameError when the pixels are not of the encoding's type and shape.
    """
    dtype, channels = IMAGE_TYPES.get(encoding, ('', 0))
    depth = pixels.shape[2] if pixels.ndim == 3 else 1
    if not dtype or pixels.ndim not in (2, 3) or depth != channels or pixels.dtype.str[1:] != dtype:
        raise FrameError(f'pixels of shape {pixels.shape} {pixels.dtype} cannot be written as '
                         f'{encoding!r}; known encodings: {", ".join(IMAGE_TYPES)}')
    height, width = pixels.shape[:2]
    msg = Image(height=height, width=width, encoding=encoding, step=width * channels
                * pixels.dtype.itemsize, is_bigendian=int(sys.byteorder == 'big'))
    if header is not None:
        msg.header = header
    msg.data = byte_array(pixels)
    return msg


def byte_array(values: np.ndarray) -> array.array:
    """The bytes of an array in the form that messages take without copying element by element."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
    return data


def camera_from_info(msg: CameraInfo, rectified: bool = False) -> PinholeCamera:
    """The camera that made an image; with `rectified`, P without distortion instead of K and D.

    Binning and region of interest are taken into account. Raises FrameError for an uncalibrated
    camera and for a distortion model that is not known.
    """
    K = np.asarray(msg.p).reshape(3, 4)[:, :3] if rectified else np.asarray(msg.k).reshape(3, 3)
    if not (K[0, 0] > 0 and K[1, 1] > 0):
        raise FrameError(f'camera_info has no focal length ({"P" if rectified else "K"} is zero): '
                         'calibrate the camera, or have its driver publish the calibration')
    distortion = () if rectified else distortion_of(msg)
    bx, by = max(msg.binning_x, 1), max(msg.binning_y, 1)
    roi = msg.roi
    width, height = roi.width or msg.width, roi.height or msg.height
    return PinholeCamera(
        width // bx, height // by, K[0, 0] / bx, K[1, 1] / by,
        (K[0, 2] + PIXEL_CENTER - roi.x_offset) / bx, (K[1, 2] + PIXEL_CENTER - roi.y_offset) / by,
        distortion)


def distortion_of(msg: CameraInfo) -> tuple[float, ...]:
    """The coefficients in the order of PinholeCamera; FrameError for a model that is not known."""
    coefficients = tuple(float(d) for d in msg.d)
    if not any(coefficients):
        return ()
    if msg.distortion_model not in DISTORTION_MODELS or any(coefficients[8:]):
        raise FrameError(
            f'distortion model {msg.distortion_model!r} with {len(coefficients)} coefficients is '
            f'not supported: publish {" or ".join(DISTORTION_MODELS)}, or rectified images '
            '(image_rectified:=true)')
    return coefficients[:8]


def to_camera_info(camera: PinholeCamera, header: Any = None) -> CameraInfo:
    """The camera_info message of a camera."""
    cx, cy = camera.cx - PIXEL_CENTER, camera.cy - PIXEL_CENTER
    d = list(camera.distortion)
    size = 8 if len(d) > 5 else 5
    msg = CameraInfo(width=camera.width, height=camera.height,
                     distortion_model=DISTORTION_MODELS[size == 8],
                     d=[float(v) for v in d] + [0.0] * (size - len(d)))
    msg.k = [camera.fx, 0.0, cx, 0.0, camera.fy, cy, 0.0, 0.0, 1.0]
    msg.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    msg.p = [camera.fx, 0.0, cx, 0.0, 0.0, camera.fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    if header is not None:
        msg.header = header
    return msg


def rigid_matrix(translation: Any, rotation: Any) -> np.ndarray:
    """(4, 4) of a translation and a quaternion message; FrameError for a quaternion of length 0."""
    q = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    if not np.isfinite(q).all() or np.linalg.norm(q) < 1e-6:
        raise FrameError(f'the quaternion {q.tolist()} is not a rotation')
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(q).as_matrix()
    T[:3, 3] = translation.x, translation.y, translation.z
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


def to_cloud(points: np.ndarray, colors: np.ndarray, relevancy: np.ndarray, frame_id: str,
             stamp: Time) -> PointCloud2:
    """PointCloud2 with x, y, z, rgb (float32 whose bits are 0x00RRGGBB) and relevancy.

    points: (N, 3) in the frame. colors: (N, 3) uint8. relevancy: (N,).
    """
    cloud = np.zeros(len(points), CLOUD_TYPE)
    cloud['x'], cloud['y'], cloud['z'] = np.asarray(points, np.float32).reshape(-1, 3).T
    red, green, blue = np.asarray(colors, np.uint32).reshape(-1, 3).T
    cloud['rgb'] = red << 16 | green << 8 | blue
    cloud['relevancy'] = relevancy
    fields = [PointField(name=name, offset=4 * i, count=1, datatype=PointField.FLOAT32)
              for i, name in enumerate(CLOUD_FIELDS)]
    msg = PointCloud2(height=1, width=len(cloud), fields=fields, is_dense=True,
                      is_bigendian=False, point_step=CLOUD_TYPE.itemsize,
                      row_step=CLOUD_TYPE.itemsize * len(cloud))
    msg.header.frame_id, msg.header.stamp = frame_id, stamp
    msg.data = byte_array(cloud)
    return msg


def answer_to_cloud(answer: Answer, stamp: Time) -> PointCloud2:
    """The relevancy of every index point in the paper's colours, in the map frame."""
    from lerf_ros.evaluation.colors import relevancy_colors
    colors = relevancy_colors(answer.relevancy, answer.colors)
    return to_cloud(answer.points_world, colors, answer.relevancy, answer.frame_id, stamp)
