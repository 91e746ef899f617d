# SPDX-License-Identifier: Apache-2.0
"""A box of the world in which is looked, or of which is asked how much was seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Region:
    """A box of the world: T_world_region (4, 4) its centre and axes, size (3,) world units."""

    T_world_region: np.ndarray
    size: np.ndarray
