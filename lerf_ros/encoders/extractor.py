# SPDX-License-Identifier: Apache-2.0
"""From a posed image to what the language field is trained on."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.cache import FeatureCache, feature_key
from lerf_ros.encoders.crops import CropGrid, crop_grid, encode_level, tile_grid
from lerf_ros.encoders.dino import DenseFeatures, load_dense_features
from lerf_ros.encoders.embedding_map import KeyframeFeatures, no_features, sort_levels
from lerf_ros.encoders.image_text import DenseEncoder, FeatureEncoder, ImageTextEncoder
from lerf_ros.errors import ConfigError, TrainingFailedError
from lerf_ros.frames.frame import Frame

LEAST_SIDE = 128    # pixels; on smaller images a network sees little

log = logging.getLogger(__name__)


class MemoryLimits:
    """batch: crops encoded at once. max_side: of an image that a dense encoder sees, pixels.

    message: what was done last, for people; empty while everything fits.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._config = config
        self.batch, self.max_side = config.batch, config.max_side
        self.message = ''

    def halve(self, dense: bool, reason: str) -> None:
        """Half of the crops at once, or images of half the side for a dense encoder.

        reason: what the device says. Raises TrainingFailedError when there is nothing to halve.
        """
        least = self.max_side // 2 < LEAST_SIDE if dense else self.batch == 1
        if least:
            what = f'an image of {self.max_side} pixels' if dense else 'a single crop'
            raise TrainingFailedError(
                f'{what} does not fit into the memory for the encoder ({reason}): end other '
                'programs there, or choose a smaller encoder or device cpu')
        if dense:
            self.max_side //= 2
            done = (f'images are encoded with {self.max_side} pixels at most from now on '
                    f'(features.max_side is {self._config.max_side})')
        else:
            self.batch //= 2
            done = (f'{self.batch} crops are encoded at once from now on (features.batch is '
                    f'{self._config.batch})')
        if torch.cuda.is_available():
            torch.cuda.empty_cache()    # what training keeps for later may be all that lacks
        self.message = f'out of memory: {done}'
        log.warning('%s: %s', self.message, reason)


# Below this the network sees too little of an image to know anything in it.
MIN_FACTOR = 0.25
# LERF's smallest crop, as a part of the image height; smaller ones cost much and say little.
MIN_CROP_FRACTION = 0.05
# Two widths closer than this say the same thing twice.
MERGE_RATIO = 1.15


class FeatureExtractor:
    """Runs an encoder on keyframes: at widths chosen in the world, or at parts of the image."""

    def __init__(self, encoder: ImageTextEncoder, config: FeatureConfig,
                 cache: FeatureCache | None = None) -> None:
        """cache: where features of images seen before are kept, None for nowhere.

        Raises ConfigError for settings of dense features that their model cannot follow, and for
        a pyramid without levels.
        """
        if config.pyramid == 'fractions' and not config.fractions:
            raise ConfigError('features.fractions is empty: the pyramid needs at least one level')
        self._encoder = encoder
        self._config = config
        self._cache = cache
        self.limits = MemoryLimits(config)
        self._dense: DenseFeatures | None = None
        if config.encoder == 'openclip' and not isinstance(encoder, FeatureEncoder):
            self._dense = load_dense_features(config, getattr(encoder, 'device', 'cpu'))

    def extract(self, frame: Frame, widths_world: Sequence[float] = (),
                depth_world: float = math.nan) -> KeyframeFeatures:
        """Features of one keyframe.

        widths_world: widths that embeddings shall speak of, world units. depth_world: typical
        z-depth of what the image shows, world units; together they give the widths in pixels.
        Raises ValueError when one of them is not positive. A pyramid by fractions needs neither.
        Where the memory does not do, the encoder gets less at once, from then on (`limits`);
        TrainingFailedError when the least is too much.
        """
        image = fill_masked(frame.image, frame.valid)
        while True:
            try:
                return self._cached(image, self._levels(frame, widths_world, depth_world))
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            # Outside of the except clause: the error holds on to the tensors of its frames.
            self.limits.halve(isinstance(self._encoder, DenseEncoder), reason)

    def _cached(self, image: np.ndarray, levels: Sequence[CropGrid | float]) -> KeyframeFeatures:
        if self._cache is None:
            return self._run(image, levels)
        # The masked image stands for image and mask: nothing else of them is looked at.
        key = feature_key(image, {'levels': [repr(level) for level in levels], **self._recipe})
        found = self._cache.load(key)
        return self._cache.store(key, self._run(image, levels)) if found is None else found

    @cached_property
    def _recipe(self) -> dict[str, Any]:
        """What features depend on beside the image and the levels.

        The kind of device is part of it: half precision on a GPU gives slightly other values.
        """
        # Crops and the kinds of dense embeddings are one space to ask, but not the same numbers.
        kind = {'kind': self._encoder.dense_mode} if hasattr(self._encoder, 'dense_mode') else {}
        return {'encoder': self._encoder.identity() | kind, 'receptive_px': self._receptive_px,
                'dense': self._dense.identity() if self._dense else {},
                'device': str(getattr(self._encoder, 'device', 'cpu')).split(':')[0]}

    @property
    def _receptive_px(self) -> float:
        return getattr(self._encoder, 'receptive_px', 0.0)

    def _levels(self, frame: Frame, widths_world: Sequence[float],
                depth_world: float) -> Sequence[CropGrid | float]:
        """What is run on an image: crops, or resize factors for a dense encoder."""
        height, width = frame.image.shape[:2]
        c = self._config
        overlaps = c.overlap, c.overlap_small
        dense = isinstance(self._encoder, DenseEncoder)
        if c.pyramid == 'fractions' and not dense:
            return [tile_grid(width, height, part, *overlaps) for part in sorted(c.fractions)]
        if c.pyramid == 'fractions':
            widths_px = [part * height for part in c.fractions]
        else:
            check_widths(widths_world, depth_world)
            widths_px = [w * frame.camera.fx / depth_world for w in widths_world]
        if dense:
            return resize_factors(widths_px, self._receptive_px, max(height, width),
                                  self.limits.max_side)
        return [crop_grid(width, height, side, *overlaps)
                for side in crop_sides(widths_px, height, width)]

    def _run(self, image: np.ndarray, levels: Sequence[CropGrid | float]) -> KeyframeFeatures:
        if isinstance(self._encoder, DenseEncoder):
            factors = [level for level in levels if isinstance(level, float)]
            return self._run_dense(self._encoder, image, factors)
        grids = [level for level in levels if isinstance(level, CropGrid)]
        maps = [encode_level(self._encoder, image, grid, self.limits.batch) for grid in grids]
        return KeyframeFeatures(sort_levels(maps), self._dense.features(image) if self._dense
                                else no_features())

    def _run_dense(self, encoder: DenseEncoder, image: np.ndarray,
                   factors: Sequence[float]) -> KeyframeFeatures:
        features = self._dense.features(image) if self._dense else no_features()
        levels = []
        nearest_one = min(factors, key=lambda factor: abs(np.log(factor)))
        for factor in factors:
            if factor == nearest_one and isinstance(encoder, FeatureEncoder):
                level, features = encoder.dense_with_features(image, factor)
            else:
                level = encoder.dense(image, factor)
            levels.append(level)
        return KeyframeFeatures(sort_levels(levels), features)


def check_widths(widths_world: Sequence[float], depth_world: float) -> None:
    """Raises ValueError for widths and a depth that give no widths in pixels."""
    if not widths_world or min(widths_world) <= 0 or not depth_world > 0:
        raise ValueError(f'widths {tuple(widths_world)} and depth {depth_world}: all must be '
                         'positive')


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
