# SPDX-License-Identifier: Apache-2.0
"""A box of the world to which a query, or the measurement of coverage, is restricted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Region:
    """A box: T_world_region (4, 4) holds its centre and axes, size (3,) its edges, world units."""

    T_world_region: np.ndarray
    size: np.ndarray
