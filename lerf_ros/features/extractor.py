# SPDX-License-Identifier: Apache-2.0
"""From a posed image to what the language field is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.config import FeatureConfig
from lerf_ros.features.clip_pyramid import encode_level
from lerf_ros.features.dense_features import DenseFeatures, load_dense_features
from lerf_ros.features.embedding_map import EmbeddingMap
from lerf_ros.features.encoders import DenseEncoder, FeatureEncoder, ImageTextEncoder
from lerf_ros.keyframes.frame import Frame

# Below this the network sees too little of an image to know anything in it.
MIN_FACTOR = 0.25
# LERF's smallest crop, as a part of the image height; smaller ones cost much and say little.
MIN_CROP_FRACTION = 0.05
# Two widths closer than this say the same thing twice.
MERGE_RATIO = 1.15


@dataclass(frozen=True)
class KeyframeFeatures:
    """What one keyframe says in language.

    levels: embedding maps, narrowest width first. dense: (rows, cols, C) float16, unit features
    on an even grid over the image that follow object borders (DINO's role); C may be 0.
    """

    levels: tuple[EmbeddingMap, ...]
    dense: np.ndarray


class FeatureExtractor:
    """Runs an encoder on keyframes at widths chosen in the world, not in the image."""

    def __init__(self, encoder: ImageTextEncoder, config: FeatureConfig) -> None:
        self._encoder = encoder
        self._config = config
        self._dense: DenseFeatures | None = None
        if config.encoder == 'openclip' and not isinstance(encoder, FeatureEncoder):
            self._dense = load_dense_features(config.dense_model,
                                              getattr(encoder, 'device', 'cpu'))

    def extract(self, frame: Frame, widths_world: Sequence[float],
                depth_world: float) -> KeyframeFeatures:
        """Features of one keyframe.

        widths_world: widths that embeddings shall speak of, world units. depth_world: typical
        z-depth of what the image shows, world units; together they give the widths in pixels.
        Raises ValueError when one of them is not positive.
        """
        if not widths_world or min(widths_world) <= 0 or not depth_world > 0:
            raise ValueError(f'widths {tuple(widths_world)} and depth {depth_world}: all must be '
                             'positive')
        widths_px = [w * frame.camera.fx / depth_world for w in widths_world]
        image = fill_masked(frame.image, frame.valid)
        if isinstance(self._encoder, DenseEncoder):
            return self._extract_dense(self._encoder, image, widths_px)
        return self._extract_crops(image, widths_px)

    def _extract_dense(self, encoder: DenseEncoder, image: np.ndarray,
                       widths_px: Sequence[float]) -> KeyframeFeatures:
        factors = resize_factors(widths_px, encoder.receptive_px, max(image.shape[:2]),
                                 self._config.max_side)
        features = no_features()
        levels = []
        nearest_one = min(factors, key=lambda factor: abs(np.log(factor)))
        for factor in factors:
            if factor == nearest_one and isinstance(encoder, FeatureEncoder):
                level, features = encoder.dense_with_features(image, factor)
            else:
                level = encoder.dense(image, factor)
            levels.append(level)
        return KeyframeFeatures(sort_levels(levels), features)

    def _extract_crops(self, image: np.ndarray, widths_px: Sequence[float]) -> KeyframeFeatures:
        sides = crop_sides(widths_px, image.shape[0], image.shape[1])
        levels = [encode_level(self._encoder, image, side, self._config.batch) for side in sides]
        dense = self._dense.features(image) if self._dense else no_features()
        return KeyframeFeatures(sort_levels(levels), dense)


def resize_factors(widths_px: Sequence[float], receptive_px: float, image_side: int,
                   max_side: int) -> list[float]:
    """Factors by which to resize an image so that a cell speaks of each width, ascending.

    image_side: the longer side. A factor never makes it longer than max_side, and factors closer
    than MERGE_RATIO are one.
    """
    high = max_side / image_side
    low = min(MIN_FACTOR, high)
    return merge_close([float(np.clip(receptive_px / width, low, high)) for width in widths_px])


def crop_sides(widths_px: Sequence[float], height: int, width: int) -> list[int]:
    """Sides of square crops in pixels for each width, ascending, near-equal ones merged."""
    low, high = MIN_CROP_FRACTION * height, min(height, width)
    return [round(side) for side in merge_close([float(np.clip(w, low, high))
                                                 for w in widths_px])]


def merge_close(values: Sequence[float]) -> list[float]:
    """Ascending values, each at least MERGE_RATIO times the one before."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= kept[-1] * MERGE_RATIO:
            kept.append(value)
    return kept


def fill_masked(image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """The image (H, W, 3) with pixels that are not valid (H, W) in the mean colour of the rest.

    A crop that touches the robot's own gripper then speaks of the scene alone.
    """
    if valid is None or valid.all() or not valid.any():
        return image
    filled = image.copy()
    filled[~valid] = np.round(image[valid].mean(0)).astype(np.uint8)
    return filled


def sort_levels(levels: Sequence[EmbeddingMap]) -> tuple[EmbeddingMap, ...]:
    """Narrowest first."""
    return tuple(sorted(levels, key=lambda level: level.width_px))


def no_features() -> np.ndarray:
    """Dense features of zero channels."""
    return np.zeros((1, 1, 0), np.float16)
