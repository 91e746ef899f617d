# SPDX-License-Identifier: Apache-2.0
"""Colour images, raw or compressed, to RGB; the bits that a camera of 10 to 14 bits uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common.conversions.images import decode_file, ignore_note, sample_pixels


@dataclass(frozen=True)
class ColorEncoding:
    """How an encoding stores its pixels.

    to_rgb: OpenCV's conversion, None where the pixels are RGB. data_rows: rows of data for every
    two rows of the image.
    """

    dtype: str
    channels: int
    to_rgb: int | None
    data_rows: int = 2


# By the name in lower case: sensor_msgs/image_encodings.hpp, and other names that drivers write.
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
# Of the samples that cameras deliver in 16 bits.
SAMPLE_BITS = (8, 10, 12, 14, 16)


def image_to_rgb(msg: Image | CompressedImage, bits: int = 0,
                 note: Callable[[str], None] = ignore_note) -> np.ndarray:
    """Returns a colour image as (H, W, 3) uint8 RGB.

    bits: how many of the 16 bits of a wide encoding the camera uses; 0 means as many as the values
    need. note: called with a text when a readable message looks odd. Raises FrameError for an
    unsupported encoding, naming the supported ones, and for data that do not fit the encoding.
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
    pixels = sample_pixels(msg, form.dtype, form.channels, msg.height * form.data_rows // 2, note)
    if form.dtype == 'u2':
        needed = bits_of(pixels)
        if bits and needed > bits:
            raise FrameError(f'image of {msg.encoding} has values up to {pixels.max()}, which '
                             f'needs {needed} bits: set image_bits to 0 or to {needed}')
        pixels = (pixels >> ((bits or needed) - 8)).astype(np.uint8)
    return to_rgb(msg, pixels, form)


def to_rgb(msg: Image, pixels: np.ndarray, form: ColorEncoding) -> np.ndarray:
    """Returns pixels (rows, W, channels) uint8 of an encoding as (H, W, 3) RGB.

    Raises FrameError for a size that the encoding cannot have.
    """
    if form.to_rgb is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, form.to_rgb)
    except cv2.error as error:
        raise FrameError(f'image of {msg.width}x{msg.height} pixels cannot be {msg.encoding}, '
                         'which needs even and larger sizes') from error


def bits_of(pixels: np.ndarray) -> int:
    """Returns the smallest of SAMPLE_BITS that holds all values."""
    largest = int(pixels.max()).bit_length()
    return next(bits for bits in SAMPLE_BITS if bits >= largest)


def wide_bits(msg: Image | CompressedImage) -> int:
    """Returns how many bits the values of a 16-bit image need; 0 for an image of 8 bits.

    Raises FrameError for data that do not fit the encoding.
    """
    form = None if isinstance(msg, CompressedImage) else COLOR_ENCODINGS.get(msg.encoding.lower())
    if form is None or form.dtype != 'u2':
        return 0
    return bits_of(sample_pixels(msg, form.dtype, form.channels))


def compressed_to_rgb(msg: CompressedImage) -> np.ndarray:
    """Returns a JPEG or PNG as (H, W, 3) uint8 RGB; raises FrameError for anything else."""
    image = decode_file(msg, bytes(msg.data), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.ascontiguousarray(image[..., ::-1])


class ColorReader:
    """Reads the images of one camera and learns how many bits its 16-bit samples use.

    The samples of a 12-bit camera stay below 4096; as 16-bit values they would all look black. The
    largest value so far tells the number of bits, which may grow with later images.
    """

    def __init__(self, topic: str, bits: int, note: Callable[[str, str], None]) -> None:
        """bits: of 16-bit encodings, 0 to find out. note: called with a reason and a text."""
        self._topic, self._given_bits, self._note = topic, bits, note
        self._needed_bits = 0

    def read(self, msg: Image | CompressedImage) -> np.ndarray:
        """Returns the image as (H, W, 3) uint8 RGB; raises FrameError as image_to_rgb."""
        if not self._given_bits:
            self._needed_bits = max(self._needed_bits, wide_bits(msg))
        if 0 < self._needed_bits < 16:
            self._note('image bits', f'images on {self._topic!r} are of 16 bits, and no value so '
                       f'far needs more than {self._needed_bits}: they are read as images of '
                       f'{self._needed_bits} bits. Set image_bits to what the camera has, so that '
                       'the brightness does not change when a larger value comes')
        return image_to_rgb(msg, self._given_bits or self._needed_bits,
                            lambda text: self._note('image', f'{self._topic!r}: {text}'))
