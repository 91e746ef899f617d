# SPDX-License-Identifier: Apache-2.0
"""Pixels of image messages to and from arrays, with their true byte order; masks."""

from __future__ import annotations

import array
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lerf_ros.errors import DatasetError, FrameError
from lerf_ros.frames import image_files

MASK_ENCODINGS = ('mono8', '8uc1')
# What `to_image` writes: element type and channels.
IMAGE_TYPES = {'rgb8': ('u1', 3), 'bgr8': ('u1', 3), 'mono8': ('u1', 1), '8UC1': ('u1', 1),
               '16UC1': ('u2', 1), 'mono16': ('u2', 1), '32FC1': ('f4', 1)}

# How `has_swapped_bytes` decides.
MIN_SAMPLES = 100           # pixels, or pairs of different neighbours, below which it does not
SMOOTHER = 8.0              # swapped, neighbours must differ by so many times less
PLAUSIBLE = 1e-3, 1e3       # floats: metres or grey values
MAX_AS_GIVEN, MIN_SWAPPED = 0.3, 0.9     # fraction of the floats that is plausible


def ignore_note(text: str) -> None:
    """Takes a note about a message and does nothing."""


def pixel_rows(msg: Image, dtype: str, channels: int, height: int = 0) -> np.ndarray:
    """Returns the pixels (height, W, channels) in native byte order, without padding of the rows.

    height: number of rows in the data, where it is not the image's own. Raises FrameError when
    size, step and length of the data contradict each other.
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
                  note: Callable[[str], None] = ignore_note) -> np.ndarray:
    """Returns `pixel_rows`, with the bytes swapped where `is_bigendian` is evidently wrong.

    note: called with a text when that is so.
    """
    pixels = pixel_rows(msg, dtype, channels, height)
    if not has_swapped_bytes(pixels):
        return pixels
    note(f'an image of {msg.encoding} has is_bigendian = {int(msg.is_bigendian)}, but its pixels '
         'make sense only with their bytes the other way round, and are read so: the publisher '
         'fills is_bigendian wrongly')
    return pixels.byteswap()


def has_swapped_bytes(pixels: np.ndarray) -> bool:
    """Returns whether pixels (H, W, channels) make sense only with their bytes swapped.

    Neighbouring pixels are similar. With swapped bytes, 16-bit integers differ by multiples of 256
    where they differed by a few, and hardly any float has a plausible size.
    """
    if pixels.dtype.itemsize == 1:
        return False
    swapped = pixels.byteswap()
    if pixels.dtype.kind == 'f':
        return _plausible(pixels) < MAX_AS_GIVEN and _plausible(swapped) > MIN_SWAPPED
    # Values that were shifted to the left have nothing in their lower byte and prove nothing.
    if not (pixels & 0xFF).any():
        return False
    return _roughness(pixels) > SMOOTHER * _roughness(swapped) > 0


def _plausible(values: np.ndarray) -> float:
    """Returns the fraction of the finite numbers other than 0 that have a plausible size."""
    values = values[np.isfinite(values) & (values != 0)]
    low, high = PLAUSIBLE
    return float(((values > low) & (values < high)).mean()) if len(values) >= MIN_SAMPLES else 0.0


def _roughness(values: np.ndarray) -> float:
    """Returns the median difference of neighbours in a row that differ; 0 where too few do."""
    left, right = values[:, :-1].astype(np.int64), values[:, 1:].astype(np.int64)
    steps = np.abs(right - left)[(left > 0) & (right > 0) & (left != right)]
    return float(np.median(steps)) if len(steps) >= MIN_SAMPLES else 0.0


def resized_nearest(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns pixels (h, w) resized to (height, width); each takes the value at its centre."""
    h, w = pixels.shape
    row = ((np.arange(height) + 0.5) * h / height).astype(int)
    column = ((np.arange(width) + 0.5) * w / width).astype(int)
    return pixels[row[:, None], column]


def decode_file(msg: CompressedImage, data: bytes, flags: int) -> np.ndarray:
    """Returns the pixels of a JPEG or PNG file; raises FrameError for any other or damaged data.

    flags: of cv2.imdecode.
    """
    # The data decide and not msg.format, which every publisher writes in its own way.
    image = None
    if data[:3] == b'\xff\xd8\xff' or data[:4] == b'\x89PNG':
        # OpenCV raises for sizes beyond its limit; the message below says it in our words.
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise FrameError(f'compressed image of format {msg.format!r} is not supported or is '
                         'damaged: publish jpeg or png')
    return image


def mask_to_valid(msg: Image) -> np.ndarray:
    """Returns a mask image as (H, W) bool, False where it is 0, which is on the robot itself.

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


def to_image(pixels: np.ndarray, encoding: str, header: Header | None = None) -> Image:
    """Returns the message of (H, W, 3) uint8 (rgb8, bgr8), (H, W) uint8, uint16 or float32 pixels.

    Raises FrameError when the pixels do not have the type and shape of the encoding.
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


def byte_array(values: np.ndarray) -> array.array[int]:
    """Returns the bytes of an array as messages store them, which avoids a copy of each element."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
    return data
