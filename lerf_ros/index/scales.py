# SPDX-License-Identifier: Apache-2.0
"""Which scales are stored and searched: those of the settings that were trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lerf_ros.config import IndexConfig

STEPS = 4   # searched scales to each one that is stored


def search_limits(config: IndexConfig, radius: float,
                  trained: tuple[float, float]) -> tuple[float, float]:
    """Returns the smallest and largest scale to search, scene radii.

    radius: of the scene frame, world units. trained: the scales that were trained, scene radii.
    Where none of them lies in the searched range, the nearest trained one alone is searched.
    """
    unit = radius if config.search_unit == 'world' else 1.0
    low, high = (float(np.clip(value / unit, *trained))
                 for value in (config.search_low, config.search_high))
    return low, high


def index_scales(config: IndexConfig, radius: float,
                 trained: tuple[float, float]) -> tuple[float, ...]:
    """Returns the few scales that the index stores, even in the logarithm, scene radii."""
    low, high = search_limits(config, radius, trained)
    if low == high or config.scales == 1:
        return (float(np.sqrt(low * high)),)
    return tuple(float(v) for v in np.geomspace(low, high, config.scales))


def searched_scales(stored: Sequence[float]) -> tuple[float, ...]:
    """Returns the stored scales and those between them that are searched, STEPS to each."""
    at = np.arange((len(stored) - 1) * STEPS + 1) / STEPS
    return tuple(np.exp(np.interp(at, np.arange(len(stored)), np.log(stored))).tolist())


def search_scales(config: IndexConfig, radius: float,
                  trained: tuple[float, float]) -> tuple[float, ...]:
    """Returns all scales of a full search (LERF, section 3.4), evenly spaced, scene radii."""
    low, high = search_limits(config, radius, trained)
    return tuple(float(v) for v in np.linspace(low, high, config.search_steps))
