# SPDX-License-Identifier: Apache-2.0
"""Depth images, raw or compressed, to metres."""

from __future__ import annotations

import struct
from collections.abc import Callable

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common.conversions.images import decode, quiet, sample_pixels
from lerf_ros.nodes.common.conversions.rvl import decode_rvl

# encoding in small letters -> element type and metres per unit
DEPTH_ENCODINGS = {'16uc1': ('u2', 1e-3), 'mono16': ('u2', 1e-3), '16sc1': ('i2', 1e-3),
                   '32sc1': ('i4', 1e-3), '32fc1': ('f4', 1.0), '64fc1': ('f8', 1.0)}
BYTES = ('8uc1', 'mono8', '8sc1')
# The largest number of 16 bits that is a float: renderers that keep depth so write it for the sky.
LARGEST_HALF = 65504.0
# of compressedDepth: the enum of its format, and the two numbers of the quantisation
DEPTH_HEADER = struct.Struct('<iff')
# behind that, of RVL: width and height
RVL_HEADER = struct.Struct('<II')
MOST_PIXELS = 1 << 27


def depth_to_metres(msg: Image | CompressedImage, unit_m: float = 0.0,
                    note: Callable[[str], None] = quiet) -> np.ndarray:
    """Depth image as (H, W) float32 metres along the optical axis, 0 where unknown.

    unit_m: metres of one unit; 0 takes the encoding's own: millimetres for whole numbers, metres
    for floats. note: told what is odd about a message that can be read all the same. Raises
    FrameError for an encoding that is not supported, naming those that are.
    """
    if isinstance(msg, CompressedImage):
        return compressed_depth(msg, unit_m)
    name = msg.encoding.lower()
    if name in BYTES:
        raise FrameError(f'depth encoding {msg.encoding!r} has 8 bits, which cannot hold depth '
                         'in millimetres (that is a picture of it): publish 16UC1 or 32FC1')
    if name not in DEPTH_ENCODINGS:
        raise FrameError(f'depth encoding {msg.encoding!r} is not supported: publish 16UC1 or '
                         'mono16 (millimetres, or set depth_unit_m) or 32FC1 (metres)')
    dtype, metres = DEPTH_ENCODINGS[name]
    return in_metres(sample_pixels(msg, dtype, 1, note=note)[..., 0], unit_m or metres)


def in_metres(raw: np.ndarray, unit_m: float) -> np.ndarray:
    """Raw values (H, W) as float32 metres; 0 for every number that means that nothing is known.

    Those are 0, what is negative or not finite, the largest value of the type, and for floats the
    largest of 16 bits.
    """
    largest = LARGEST_HALF if raw.dtype.kind == 'f' else np.iinfo(raw.dtype).max
    with np.errstate(invalid='ignore', over='ignore'):
        known = np.isfinite(raw) & (raw > 0) & (raw < largest)
        depth_m = np.where(known, raw, 0).astype(np.float32) * np.float32(unit_m)
    return np.where(np.isfinite(depth_m), depth_m, np.float32(0))


def compressed_depth(msg: CompressedImage, unit_m: float) -> np.ndarray:
    """Metres (H, W) float32 of image_transport's compressedDepth, or of a plain 16-bit PNG.

    compressedDepth puts 12 bytes before the PNG or the RVL stream: an enum and two floats A, B. Of
    16UC1 the pixels are units; of 32FC1 they are A / metres + B in whole numbers, 0 for unknown
    (compressed_depth_image_transport, codec.cpp).
    """
    data = bytes(msg.data)
    if data[:4] == b'\x89PNG':
        header, raw = b'', decode(msg, data, cv2.IMREAD_UNCHANGED)
    else:
        header, body = data[:DEPTH_HEADER.size], data[DEPTH_HEADER.size:]
        raw = decode(msg, body, cv2.IMREAD_UNCHANGED) if body[:4] == b'\x89PNG' else \
            rvl_pixels(msg, body)
    if raw.ndim != 2 or raw.dtype != np.uint16:
        raise FrameError(f'compressed depth of format {msg.format!r} holds {raw.dtype} pixels of '
                         f'shape {raw.shape}: 16-bit pixels of one channel are depth')
    if not (header and msg.format.startswith('32FC1')):
        return in_metres(raw, unit_m or 1e-3)
    _, a, b = DEPTH_HEADER.unpack(header)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        units = np.float32(a) / (raw.astype(np.float32) - np.float32(b))
    return in_metres(np.where(raw > 0, units, np.float32(0)), unit_m or 1.0)


def rvl_pixels(msg: CompressedImage, body: bytes) -> np.ndarray:
    """The pixels (H, W) uint16 of an RVL stream behind its size; FrameError for anything else."""
    if 'rvl' not in msg.format or len(body) < RVL_HEADER.size:
        raise FrameError(f'compressed depth of format {msg.format!r} is not supported or is '
                         'damaged: publish compressedDepth with its format png or rvl')
    width, height = RVL_HEADER.unpack_from(body)
    if not 0 < width * height <= MOST_PIXELS:
        raise FrameError(f'compressed depth (rvl) of {width}x{height} pixels: it is damaged')
    return decode_rvl(body[RVL_HEADER.size:], width, height)
