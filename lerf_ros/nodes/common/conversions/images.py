# SPDX-License-Identifier: Apache-2.0
"""Pixels of image messages to and from arrays; masks."""

from __future__ import annotations

import array
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import DatasetError, FrameError
from lerf_ros.frames import image_files
from lerf_ros.nodes.common.conversions.byte_order import is_swapped

MASK_ENCODINGS = ('mono8', '8uc1')
# what `to_image` writes: element type and channels
IMAGE_TYPES = {'rgb8': ('u1', 3), 'bgr8': ('u1', 3), 'mono8': ('u1', 1), '8UC1': ('u1', 1),
               '16UC1': ('u2', 1), 'mono16': ('u2', 1), '32FC1': ('f4', 1)}


def quiet(text: str) -> None:
    """Takes a note and passes it over."""


def pixel_rows(msg: Image, dtype: str, channels: int, height: int = 0) -> np.ndarray:
    """The pixels (H, W, channels) of a message in native byte order, padding of the rows left out.

    height: rows of the data where they are not those of the image. Raises FrameError when size,
    step and length of the data contradict each other.
    """
    kind = np.dtype(dtype).newbyteorder('>' if msg.is_bigendian else '<')
    row, height = msg.width * channels * kind.itemsize, height or msg.height
    step = msg.step or row
    if msg.width < 1 or msg.height < 1 or step < row or len(msg.data) < step * height:
        raise FrameError(
            f'image of {msg.width}x{msg.height} pixels, encoding {msg.encoding}, with step '
            f'{msg.step} and {len(msg.data)} bytes: expected a step of at least {row} and '
            f'{step * height} bytes; the publisher fills the message wrongly')
    rows = np.frombuffer(msg.data, np.uint8, step * height).reshape(height, step)
    pixels = np.ascontiguousarray(rows[:, :row]).view(kind)
    return pixels.reshape(height, msg.width, channels).astype(kind.newbyteorder('='))


def sample_pixels(msg: Image, dtype: str, channels: int, height: int = 0,
                  note: Callable[[str], None] = quiet) -> np.ndarray:
    """`pixel_rows` with the byte order that the pixels themselves show.

    note: told where `is_bigendian` contradicts them.
    """
    pixels = pixel_rows(msg, dtype, channels, height)
    if not is_swapped(pixels):
        return pixels
    note(f'an image of {msg.encoding} has is_bigendian = {int(msg.is_bigendian)}, but its pixels '
         'make sense only with their bytes the other way round, and are read so: the publisher '
         'fills is_bigendian wrongly')
    return pixels.byteswap()


def resized_nearest(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (h, w) on a grid of (height, width): each takes the value of where its centre lies."""
    h, w = pixels.shape
    row = ((np.arange(height) + 0.5) * h / height).astype(int)
    column = ((np.arange(width) + 0.5) * w / width).astype(int)
    return pixels[row[:, None], column]


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


def mask_to_valid(msg: Image) -> np.ndarray:
    """Mask image as (H, W) bool: False where it is 0, which is where the robot itself is.

    Raises FrameError for an encoding that is not supported.
    """
    if msg.encoding.lower() not in MASK_ENCODINGS:
        raise FrameError(f'mask encoding {msg.encoding!r} is not supported: publish '
                         f'{" or ".join(MASK_ENCODINGS)}, 0 where the robot itself is')
    return pixel_rows(msg, 'u1', 1)[..., 0] > 0


def read_mask(path: str) -> np.ndarray:
    """Reads a mask file as (H, W) bool, False where it is black; raises FrameError."""
    try:
        return image_files.read_mask(image_files.MaskFile(Path(path)))
    except DatasetError as error:
        raise FrameError(f'mask_file {path!r} cannot be read: give a PNG, 0 where the robot is '
                         f'({error})') from error


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
