# SPDX-License-Identifier: Apache-2.0
"""RVL, the run-length code of depth images (Wilson, Fast Lossless Depth Image Compression, 2017).

A stream of whole numbers, in turn: how many zeros follow, how many other values, and for each of
those its difference to the value before, with the sign in the lowest bit. A number is written three
bits at a time, the lowest first, in groups of four bits whose highest one says that more follow.
Eight groups fill a 32-bit little-endian word from its highest bits on.
"""

from __future__ import annotations

import numpy as np

from lerf_ros.errors import FrameError

MOST_GROUPS = 10        # of three bits each: no image has 2^30 pixels


def decode_rvl(data: bytes, width: int, height: int) -> np.ndarray:
    """The values (height, width) uint16 of a stream.

    Raises FrameError for a stream that holds fewer or more pixels.
    """
    numbers, size = read_numbers(data), width * height
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


def read_numbers(data: bytes) -> np.ndarray:
    """All whole numbers (N,) int64 of a stream, and the zeros that fill up its last word.

    Raises FrameError for a number that no encoder writes.
    """
    words = np.frombuffer(data, '<u4', len(data) // 4)
    shifts = np.arange(28, -1, -4, dtype=np.uint32)
    groups = ((words[:, None] >> shifts) & 0xF).reshape(-1).astype(np.int64)
    last = np.flatnonzero(groups < 8)       # the last group of each number
    if not len(last):
        return np.zeros(0, np.int64)
    groups = groups[:last[-1] + 1]
    first = np.append(0, last[:-1] + 1)
    place = np.arange(len(groups)) - np.repeat(first, last - first + 1)
    if place.max() >= MOST_GROUPS:
        raise FrameError('compressed depth (rvl) is damaged: it has a number of more than 30 bits')
    return np.add.reduceat((groups & 7) << (3 * place), first)
