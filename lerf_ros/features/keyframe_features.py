# SPDX-License-Identifier: Apache-2.0
"""What one keyframe says in language: the input of the language field's training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lerf_ros.features.embedding_map import EmbeddingMap


@dataclass(frozen=True)
class KeyframeFeatures:
    """What one keyframe says in language.

    levels: embedding maps, narrowest width first. dense: (rows, cols, C) float16 on an even grid
    over the image that follows object borders (DINO's role), of unit length unless
    features.dense_unit is off; C may be 0.
    """

    levels: tuple[EmbeddingMap, ...]
    dense: np.ndarray


def sort_levels(levels: Iterable[EmbeddingMap]) -> tuple[EmbeddingMap, ...]:
    """Narrowest first."""
    return tuple(sorted(levels, key=lambda level: level.width_px))


def no_features() -> np.ndarray:
    """Dense features of zero channels."""
    return np.zeros((1, 1, 0), np.float16)
