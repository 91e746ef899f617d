# SPDX-License-Identifier: Apache-2.0
"""Colour images, raw or compressed, to RGB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common.conversions.images import decode, quiet, sample_pixels


@dataclass(frozen=True)
class ColorEncoding:
    """How an encoding keeps its pixels, and OpenCV's conversion to RGB (None: it is RGB).

    halves: rows of data for each two rows of the image.
    """

    dtype: str
    channels: int
    to_rgb: int | None
    halves: int = 2


# By the name in small letters; sensor_msgs/image_encodings.hpp and what drivers write beside it.
COLOR_ENCODINGS = {
    'rgb8': ColorEncoding('u1', 3, None), 'bgr8': ColorEncoding('u1', 3, cv2.COLOR_BGR2RGB),
    'rgba8': ColorEncoding('u1', 4, cv2.COLOR_RGBA2RGB),
    'bgra8': ColorEncoding('u1', 4, cv2.COLOR_BGRA2RGB),
    'mono8': ColorEncoding('u1', 1, cv2.COLOR_GRAY2RGB),
    'rgb16': ColorEncoding('u2', 3, None), 'bgr16': ColorEncoding('u2', 3, cv2.COLOR_BGR2RGB),
    'rgba16': ColorEncoding('u2', 4, cv2.COLOR_RGBA2RGB),
    'bgra16': ColorEncoding('u2', 4, cv2.COLOR_BGRA2RGB),
    'mono16': ColorEncoding('u2', 1, cv2.COLOR_GRAY2RGB),
    '8uc1': ColorEncoding('u1', 1, cv2.COLOR_GRAY2RGB),
    '8uc3': ColorEncoding('u1', 3, cv2.COLOR_BGR2RGB),
    '8uc4': ColorEncoding('u1', 4, cv2.COLOR_BGRA2RGB),
    **dict.fromkeys(('yuv422', 'uyvy'), ColorEncoding('u1', 2, cv2.COLOR_YUV2RGB_UYVY)),
    **dict.fromkeys(('yuv422_yuy2', 'yuyv'), ColorEncoding('u1', 2, cv2.COLOR_YUV2RGB_YUY2)),
    'nv12': ColorEncoding('u1', 1, cv2.COLOR_YUV2RGB_NV12, 3),
    'nv21': ColorEncoding('u1', 1, cv2.COLOR_YUV2RGB_NV21, 3),
    **{f'bayer_{pattern}{8 * size}': ColorEncoding(f'u{size}', 1, code)
       for pattern, code in (('rggb', cv2.COLOR_BayerRGGB2RGB), ('bggr', cv2.COLOR_BayerBGGR2RGB),
                             ('gbrg', cv2.COLOR_BayerGBRG2RGB), ('grbg', cv2.COLOR_BayerGRBG2RGB))
       for size in (1, 2)},
}
# What cameras deliver in 16 bits.
SAMPLE_BITS = (8, 10, 12, 14, 16)


def image_to_rgb(msg: Image | CompressedImage, bits: int = 0,
                 note: Callable[[str], None] = quiet) -> np.ndarray:
    """Colour image as (H, W, 3) uint8 RGB.

    bits: how many of the 16 of a wide encoding the camera uses; 0 takes what the values need. note:
    told what is odd about a message that can be read all the same. Raises FrameError for an
    encoding that is not supported (naming those that are) and for data that does not fit it.
    """
    if isinstance(msg, CompressedImage):
        return compressed_to_rgb(msg)
    form = COLOR_ENCODINGS.get(msg.encoding.lower())
    if form is None:
        raise FrameError(f'image encoding {msg.encoding!r} is not supported: publish one of '
                         f'{", ".join(COLOR_ENCODINGS)}')
    if msg.encoding.lower() in ('8uc3', '8uc4'):
        note(f'the encoding {msg.encoding} does not say the order of colours: it is read as '
             'OpenCV has it, blue first; if the publisher means another one it must write rgb8')
    pixels = sample_pixels(msg, form.dtype, form.channels, msg.height * form.halves // 2, note)
    if form.dtype == 'u2':
        needed = bits_of(pixels)
        if bits and needed > bits:
            raise FrameError(f'image of {msg.encoding} has values up to {pixels.max()}, which '
                             f'needs {needed} bits: set image_bits to 0 or to {needed}')
        pixels = (pixels >> ((bits or needed) - 8)).astype(np.uint8)
    return to_rgb(msg, pixels, form)


def to_rgb(msg: Image, pixels: np.ndarray, form: ColorEncoding) -> np.ndarray:
    """Pixels (rows, W, channels) uint8 of an encoding as (H, W, 3) RGB; FrameError for odd sizes.
    """
    if form.to_rgb is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, form.to_rgb)
    except cv2.error as error:
        raise FrameError(f'image of {msg.width}x{msg.height} pixels cannot be {msg.encoding}, '
                         'which needs even and larger sizes') from error


def bits_of(pixels: np.ndarray) -> int:
    """How many bits a camera uses whose values are these, of SAMPLE_BITS."""
    largest = int(pixels.max()).bit_length()
    return next(bits for bits in SAMPLE_BITS if bits >= largest)


def wide_bits(msg: Image | CompressedImage) -> int:
    """How many bits the values of an image need; 0 for one that has 8 in any case.

    Raises FrameError for data that does not fit the encoding.
    """
    form = None if isinstance(msg, CompressedImage) else COLOR_ENCODINGS.get(msg.encoding.lower())
    if form is None or form.dtype != 'u2':
        return 0
    return bits_of(sample_pixels(msg, form.dtype, form.channels))


def compressed_to_rgb(msg: CompressedImage) -> np.ndarray:
    """JPEG or PNG as (H, W, 3) uint8 RGB; FrameError for anything else."""
    image = decode(msg, bytes(msg.data), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.ascontiguousarray(image[..., ::-1])
