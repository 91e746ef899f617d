# SPDX-License-Identifier: Apache-2.0
"""Finds images whose `is_bigendian` is not true, from their own pixels.

Neighbours in an image are alike. With their bytes exchanged, whole numbers of two bytes differ by
multiples of 256 where they differed by a few; and hardly a float is of a size that anything has.
"""

from __future__ import annotations

import numpy as np

FEWEST = 100            # pairs of neighbours that differ, or pixels, that must tell
SMOOTHER = 8.0          # so many times less must neighbours differ
LIKELY = 1e-3, 1e3      # metres, or grey values
MOST_AS_GIVEN, FEWEST_SWAPPED = 0.3, 0.9     # part of the pixels that are likely


def is_swapped(pixels: np.ndarray) -> bool:
    """Whether pixels (H, W, channels) make sense only with their bytes exchanged."""
    if pixels.dtype.itemsize == 1:
        return False
    swapped = pixels.byteswap()
    if pixels.dtype.kind == 'f':
        return _likely(pixels) < MOST_AS_GIVEN and _likely(swapped) > FEWEST_SWAPPED
    # Values that were shifted to the left have nothing in their lower byte: they tell nothing.
    if not (pixels & 0xFF).any():
        return False
    as_given, exchanged = _roughness(pixels), _roughness(swapped)
    return as_given > SMOOTHER * exchanged > 0


def _likely(values: np.ndarray) -> float:
    """Part of the numbers that are of a likely size, of those that say something."""
    values = values[np.isfinite(values) & (values != 0)]
    low, high = LIKELY
    return float(((values > low) & (values < high)).mean()) if len(values) >= FEWEST else 0.0


def _roughness(values: np.ndarray) -> float:
    """By how much neighbours in a row that differ do so, as a median; 0 where too few do."""
    left, right = values[:, :-1].astype(np.int64), values[:, 1:].astype(np.int64)
    steps = np.abs(right - left)[(left > 0) & (right > 0) & (left != right)]
    return float(np.median(steps)) if len(steps) >= FEWEST else 0.0
