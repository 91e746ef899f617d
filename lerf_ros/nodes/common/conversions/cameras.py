# SPDX-License-Identifier: Apache-2.0
"""camera_info to and from the camera that the core computes with."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo

from lerf_ros.errors import FrameError
from lerf_ros.geometry.camera import COEFFICIENTS, FISHEYE, PINHOLE, PinholeCamera

DISTORTION_MODELS = ('plumb_bob', 'rational_polynomial')
LENGTHS = (5, 8, 12, COEFFICIENTS)      # numbers of coefficients that OpenCV knows
# The fisheye lens; ROS 1 drivers and some of ROS 2 call it by OpenCV's name.
FISHEYE_MODELS = ('equidistant', 'fisheye')
# OpenCV, and so camera_info, puts the centre of the first pixel at 0; this package puts it at 0.5.
PIXEL_CENTER = 0.5


def camera_from_info(msg: CameraInfo, rectified: bool = False) -> PinholeCamera:
    """The camera that made an image; with `rectified`, P without distortion instead of K and D.

    Binning and region of interest are taken into account. Raises FrameError for an uncalibrated
    camera, for numbers that contradict each other and for a distortion model that is not known.
    """
    K = np.asarray(msg.p).reshape(3, 4)[:, :3] if rectified else np.asarray(msg.k).reshape(3, 3)
    if not (K[0, 0] > 0 and K[1, 1] > 0):
        raise FrameError(f'camera_info has no focal length ({"P" if rectified else "K"} is zero): '
                         'calibrate the camera, or have its driver publish the calibration')
    model, distortion = (PINHOLE, ()) if rectified else distortion_of(msg)
    bx, by = max(msg.binning_x, 1), max(msg.binning_y, 1)
    roi = msg.roi
    # A region of size 0 is the whole image; K and P speak of the whole, unbinned one.
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


def distortion_of(msg: CameraInfo) -> tuple[str, tuple[float, ...]]:
    """Model and coefficients as PinholeCamera takes them; FrameError for a model not known."""
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


def to_camera_info(camera: PinholeCamera, header: Any = None) -> CameraInfo:
    """The camera_info message of a camera."""
    cx, cy = camera.cx - PIXEL_CENTER, camera.cy - PIXEL_CENTER
    d = list(camera.distortion)
    fisheye = camera.model == FISHEYE
    size = 4 if fisheye else next(n for n in LENGTHS if n >= len(d))
    msg = CameraInfo(width=camera.width, height=camera.height,
                     distortion_model=FISHEYE_MODELS[0] if fisheye
                     else DISTORTION_MODELS[size > 5],
                     d=[float(v) for v in d] + [0.0] * (size - len(d)))
    msg.k = [camera.fx, 0.0, cx, 0.0, camera.fy, cy, 0.0, 0.0, 1.0]
    msg.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    msg.p = [camera.fx, 0.0, cx, 0.0, 0.0, camera.fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    if header is not None:
        msg.header = header
    return msg
