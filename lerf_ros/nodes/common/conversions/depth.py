# SPDX-License-Identifier: Apache-2.0
"""Depth images to metres: raw, and image_transport's compressedDepth with PNG or RVL."""

from __future__ import annotations

import struct
from collections.abc import Callable

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common.conversions.images import decode_file, ignore_note, sample_pixels

# Encoding in lower case -> element type and metres per unit.
DEPTH_ENCODINGS = {'16uc1': ('u2', 1e-3), 'mono16': ('u2', 1e-3), '16sc1': ('i2', 1e-3),
                   '32sc1': ('i4', 1e-3), '32fc1': ('f4', 1.0), '64fc1': ('f8', 1.0)}
BYTE_ENCODINGS = ('8uc1', 'mono8', '8sc1')
# The largest half-precision number, which renderers that store depth in 16 bits write for the sky.
LARGEST_HALF = 65504.0
# Of compressedDepth: the enum of its format and the two parameters of the quantisation.
DEPTH_HEADER = struct.Struct('<iff')
# Of RVL, behind that: width and height.
RVL_HEADER = struct.Struct('<II')
MAX_PIXELS = 1 << 27
MAX_RVL_GROUPS = 10     # of three bits each, in a number: no image has 2^30 pixels


def depth_to_metres(msg: Image | CompressedImage, unit_m: float = 0.0,
                    note: Callable[[str], None] = ignore_note) -> np.ndarray:
    """Returns z-depth (H, W) float32 in metres, 0 where it is unknown.

    unit_m: metres per unit; 0 means that of the encoding, which is 1 mm for integers and 1 m for
    floats. note: called with a text when a readable message looks odd. Raises FrameError for an
    unsupported encoding, naming the supported ones.
    """
    if isinstance(msg, CompressedImage):
        return compressed_depth(msg, unit_m)
    name = msg.encoding.lower()
    if name in BYTE_ENCODINGS:
        raise FrameError(f'depth encoding {msg.encoding!r} has 8 bits, which cannot hold depth '
                         'in millimetres (that is a picture of it): publish 16UC1 or 32FC1')
    if name not in DEPTH_ENCODINGS:
        raise FrameError(f'depth encoding {msg.encoding!r} is not supported: publish 16UC1 or '
                         'mono16 (millimetres, or set depth_unit_m) or 32FC1 (metres)')
    dtype, metres = DEPTH_ENCODINGS[name]
    return scaled_depth(sample_pixels(msg, dtype, 1, note=note)[..., 0], unit_m or metres)


def scaled_depth(raw: np.ndarray, unit_m: float) -> np.ndarray:
    """Returns raw depth (H, W) times unit_m as float32, with 0 for every value that means unknown.

    Those are 0, negative and non-finite values, the largest value of an integer type, and for
    floats the largest half-precision number.
    """
    largest = LARGEST_HALF if raw.dtype.kind == 'f' else np.iinfo(raw.dtype).max
    with np.errstate(invalid='ignore', over='ignore'):
        known = np.isfinite(raw) & (raw > 0) & (raw < largest)
        depth_m = np.where(known, raw, 0).astype(np.float32) * np.float32(unit_m)
    return np.where(np.isfinite(depth_m), depth_m, np.float32(0))


def compressed_depth(msg: CompressedImage, unit_m: float) -> np.ndarray:
    """Returns z-depth (H, W) float32 in metres of compressedDepth, or of a plain 16-bit PNG.

    compressedDepth puts 12 bytes before the PNG or the RVL stream: an enum and two floats A and B.
    With 16UC1 the pixels are units; with 32FC1 they are A / metres + B as integers, 0 for unknown
    (compressed_depth_image_transport, codec.cpp). Raises FrameError for any other data.
    """
    data = bytes(msg.data)
    if data[:4] == b'\x89PNG':
        header, raw = b'', decode_file(msg, data, cv2.IMREAD_UNCHANGED)
    else:
        header, body = data[:DEPTH_HEADER.size], data[DEPTH_HEADER.size:]
        raw = decode_file(msg, body, cv2.IMREAD_UNCHANGED) if body[:4] == b'\x89PNG' else \
            rvl_pixels(msg, body)
    if raw.ndim != 2 or raw.dtype != np.uint16:
        raise FrameError(f'compressed depth of format {msg.format!r} holds {raw.dtype} pixels of '
                         f'shape {raw.shape}: 16-bit pixels of one channel are depth')
    if not (header and msg.format.startswith('32FC1')):
        return scaled_depth(raw, unit_m or 1e-3)
    _, a, b = DEPTH_HEADER.unpack(header)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        units = np.float32(a) / (raw.astype(np.float32) - np.float32(b))
    return scaled_depth(np.where(raw > 0, units, np.float32(0)), unit_m or 1.0)


def rvl_pixels(msg: CompressedImage, body: bytes) -> np.ndarray:
    """Returns the pixels (H, W) uint16 of an RVL stream with its size in front.

    Raises FrameError for any other data.
    """
    if 'rvl' not in msg.format or len(body) < RVL_HEADER.size:
        raise FrameError(f'compressed depth of format {msg.format!r} is not supported or is '
                         'damaged: publish compressedDepth with its format png or rvl')
    width, height = RVL_HEADER.unpack_from(body)
    if not 0 < width * height <= MAX_PIXELS:
        raise FrameError(f'compressed depth (rvl) of {width}x{height} pixels: it is damaged')
    return decode_rvl(body[RVL_HEADER.size:], width, height)


def decode_rvl(data: bytes, width: int, height: int) -> np.ndarray:
    """Decodes RVL (Wilson, Fast Lossless Depth Image Compression, 2017) to (height, width) uint16.

    An RVL stream repeats three parts: how many zeros follow, how many other values follow, and for
    each of those its difference to the value before, with the sign in the lowest bit. Raises
    FrameError for a stream that does not hold exactly width x height pixels.
    """
    numbers, size = rvl_numbers(data), width * height
    places, differences = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    filled = at = 0
    while filled < size and at + 1 < len(numbers):
        start = filled + int(numbers[at])
        filled = start + int(numbers[at + 1])
        coded = numbers[at + 2:at + 2 + filled - start]
        at += 2 + filled - start
        if filled > size or at > len(numbers):
            break
        places.append(np.arange(start, filled))
        differences.append(coded)
    if filled != size or at > len(numbers):
        raise FrameError(f'compressed depth (rvl) does not hold {width}x{height} pixels: it is '
                         'damaged or cut off')
    coded = np.concatenate(differences)
    pixels = np.zeros(size, np.uint16)
    pixels[np.concatenate(places)] = np.cumsum((coded >> 1) ^ -(coded & 1)) & 0xFFFF
    return pixels.reshape(height, width)


def rvl_numbers(data: bytes) -> np.ndarray:
    """Returns the integers (N,) int64 of an RVL stream, with the zeros that pad its last word.

    An integer is stored in groups of four bits, its lowest bits first: three bits of the value and
    a highest bit that says whether another group follows. Eight groups, the first in the highest
    bits, make a 32-bit little-endian word. Raises FrameError for an integer of more than 30 bits.
    """
    words = np.frombuffer(data, '<u4', len(data) // 4)
    shifts = np.arange(28, -1, -4, dtype=np.uint32)
    groups = ((words[:, None] >> shifts) & 0xF).reshape(-1).astype(np.int64)
    last = np.flatnonzero(groups < 8)       # the last group of each integer
    if not len(last):
        return np.zeros(0, np.int64)
    groups = groups[:last[-1] + 1]
    first = np.append(0, last[:-1] + 1)
    place = np.arange(len(groups)) - np.repeat(first, last - first + 1)
    if place.max() >= MAX_RVL_GROUPS:
        raise FrameError('compressed depth (rvl) is damaged: it has a number of more than 30 bits')
    return np.add.reduceat((groups & 7) << (3 * place), first)
