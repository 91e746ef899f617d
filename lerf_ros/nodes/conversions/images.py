# SPDX-License-Identifier: Apache-2.0
"""Colour, depth and mask images to and from arrays."""

from __future__ import annotations

import array
import contextlib
import struct
import sys
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import FrameError

# encoding -> number of channels, and the order that turns them into red, green, blue
COLOR_ENCODINGS = {'rgb8': (3, (0, 1, 2)), 'bgr8': (3, (2, 1, 0)), 'rgba8': (4, (0, 1, 2)),
                   'bgra8': (4, (2, 1, 0)), 'mono8': (1, (0, 0, 0)), 'mono16': (1, (0, 0, 0))}
# encoding -> element type and metres per unit
DEPTH_ENCODINGS = {'16UC1': ('u2', 1e-3), 'mono16': ('u2', 1e-3), '32FC1': ('f4', 1.0)}
# of compressedDepth: the enum of its format, and the two numbers of the quantisation
DEPTH_HEADER = struct.Struct('<iff')
MASK_ENCODINGS = ('mono8', '8UC1')
# what `to_image` writes: element type and channels
IMAGE_TYPES = {'rgb8': ('u1', 3), 'bgr8': ('u1', 3), 'mono8': ('u1', 1), '8UC1': ('u1', 1),
               '16UC1': ('u2', 1), 'mono16': ('u2', 1), '32FC1': ('f4', 1)}


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
    if msg.encoding == 'mono16':
        return np.repeat((pixel_rows(msg, 'u2', 1) >> 8).astype(np.uint8), 3, axis=2)
    return np.ascontiguousarray(pixel_rows(msg, 'u1', channels)[..., order])


def compressed_to_rgb(msg: CompressedImage) -> np.ndarray:
    """JPEG or PNG as (H, W, 3) uint8 RGB; FrameError for anything else."""
    image = decode(msg, bytes(msg.data), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.ascontiguousarray(image[..., ::-1])


def decode(msg: CompressedImage, data: bytes, flags: int) -> np.ndarray:
    """The pixels of a JPEG or PNG file; FrameError for anything else and for a damaged one."""
    # The header of the file decides, not msg.format, whose text every publisher writes its own way.
    image = None
    if data[:3] == b'\xff\xd8\xff' or data[:4] == b'\x89PNG':
        # OpenCV raises for a size beyond what it reads; the message below says it in our words.
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise FrameError(f'compressed image of format {msg.format!r} is not supported or is '
                         'damaged: publish jpeg or png')
    return image


def depth_to_metres(msg: Image | CompressedImage) -> np.ndarray:
    """Depth image as (H, W) float32 metres along the optical axis, 0 where unknown.

    Raises FrameError for an encoding that is not supported, naming those that are.
    """
    if isinstance(msg, CompressedImage):
        return known_depth(compressed_depth(msg))
    if msg.encoding not in DEPTH_ENCODINGS:
        raise FrameError(f'depth encoding {msg.encoding!r} is not supported: publish 16UC1 or '
                         'mono16 (millimetres) or 32FC1 (metres)')
    dtype, metres = DEPTH_ENCODINGS[msg.encoding]
    depth = pixel_rows(msg, dtype, 1)[..., 0].astype(np.float32)
    return known_depth(depth * np.float32(metres))


def known_depth(depth_m: np.ndarray) -> np.ndarray:
    """The same (H, W) float32 with 0 where depth is not a positive finite number."""
    return np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.float32(0))


def compressed_depth(msg: CompressedImage) -> np.ndarray:
    """Metres (H, W) float32 of image_transport's compressedDepth, or of a plain 16-bit PNG.

    compressedDepth puts 12 bytes before the PNG: an enum and two floats A, B. Of 16UC1 the PNG
    holds millimetres; of 32FC1 it holds A / metres + B in whole numbers, 0 for unknown
    (compressed_depth_image_transport, codec.cpp).
    """
    data = bytes(msg.data)
    header = data[:DEPTH_HEADER.size] if data[DEPTH_HEADER.size:][:4] == b'\x89PNG' else b''
    png = data[len(header):]
    if png[:4] != b'\x89PNG':
        raise FrameError(f'compressed depth of format {msg.format!r} is not supported: publish '
                         'compressedDepth with its format png, not rvl')
    raw = decode(msg, png, cv2.IMREAD_UNCHANGED)
    if raw.ndim != 2 or raw.dtype != np.uint16:
        raise FrameError(f'compressed depth of format {msg.format!r} holds {raw.dtype} pixels of '
                         f'shape {raw.shape}: 16-bit pixels of one channel are depth')
    if not (header and msg.format.startswith('32FC1')):
        return raw.astype(np.float32) * np.float32(1e-3)
    _, a, b = DEPTH_HEADER.unpack(header)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        return np.where(raw > 0, np.float32(a) / (raw.astype(np.float32) - np.float32(b)),
                        np.float32(0)).astype(np.float32)


def mask_to_valid(msg: Image) -> np.ndarray:
    """Mask image as (H, W) bool: False where it is 0, which is where the robot itself is.

    Raises FrameError for an encoding that is not supported.
    """
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
