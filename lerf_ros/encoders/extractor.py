# SPDX-License-Identifier: Apache-2.0
"""Turns a posed image into the features that the language field is trained on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TypeVar, cast

import numpy as np
import torch

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.cache import FeatureCache, feature_key
from lerf_ros.encoders.dino import DenseFeatures, load_dense_features
from lerf_ros.encoders.embedding_map import (
    EmbeddingMap,
    KeyframeFeatures,
    no_features,
    sort_levels,
)
from lerf_ros.encoders.hub import OFFLINE_ENCODER
from lerf_ros.encoders.image_text import DenseEncoder, FeatureEncoder, ImageTextEncoder
from lerf_ros.encoders.pyramid import (
    MERGE_RATIO,
    MIN_CROP_FRACTION,
    CropGrid,
    check_widths,
    crop_grid,
    crop_sides,
    encode_level,
    resize_factors,
    tile_grid,
)
from lerf_ros.errors import ConfigError, TrainingFailedError
from lerf_ros.frames.frame import Frame

T = TypeVar('T')
LEAST_SIDE = 128    # pixels; a network recognises little in smaller images

log = logging.getLogger(__name__)


class MemoryLimits:
    """How much an encoder is given at once; halved when the device runs out of memory.

    batch: crops encoded at once. max_side: longest side in pixels of an image for a dense encoder.
    message: the last reduction in words; empty while everything fits.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._config = config
        self.batch, self.max_side = config.batch, config.max_side
        self.message = ''

    def halve(self, dense: bool, reason: str) -> None:
        """Halves the number of crops at once, or, for a dense encoder, the side of the images.

        reason: the device's own message. Raises TrainingFailedError when the minimum is reached.
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
            torch.cuda.empty_cache()    # the memory may only be reserved by training
        self.message = f'out of memory: {done}'
        log.warning('%s: %s', self.message, reason)


class FeatureExtractor:
    """Runs an encoder on keyframes, at physical widths or at fractions of the image height."""

    def __init__(self, encoder: ImageTextEncoder, config: FeatureConfig,
                 cache: FeatureCache | None = None) -> None:
        """Loads the model of dense features if the settings ask for one.

        cache: keeps features of images seen before; None keeps none. Raises ConfigError for
        dense_* settings that the model does not support, and for a pyramid without levels.
        """
        if config.pyramid == 'fractions' and not config.fractions:
            raise ConfigError('features.fractions is empty: the pyramid needs at least one level')
        self._encoder = encoder
        self._config = config
        self._cache = cache
        self.limits = MemoryLimits(config)
        self._coarsest_told = MERGE_RATIO   # times the asked width: what was warned of so far
        self._dense: DenseFeatures | None = None
        self._newest = NewestImage()
        if config.encoder != OFFLINE_ENCODER and not isinstance(encoder, FeatureEncoder):
            self._dense = load_dense_features(config, getattr(encoder, 'device', 'cpu'))

    def extract(self, frame: Frame, widths_world: Sequence[float] = (),
                depth_world: float = math.nan) -> KeyframeFeatures:
        """Computes the features of one keyframe, or loads them from the cache.

        widths_world: physical widths that embeddings describe, world units. depth_world: typical
        z-depth of what the image shows, world units; together they give the widths in pixels. A
        pyramid of fractions needs neither. When memory runs out the encoder is given less at once
        from then on (`limits`). Raises ValueError for a width or depth that is not positive, and
        TrainingFailedError when even the minimum does not fit into memory.
        """
        image = fill_masked(frame.image, frame.valid)
        while True:
            try:
                return self._cached(image, self._levels(frame, widths_world, depth_world))
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            # After the except clause, because the error keeps the tensors of its frames alive.
            self.limits.halve(isinstance(self._encoder, DenseEncoder), reason)

    def _cached(self, image: np.ndarray, levels: Sequence[CropGrid | float]) -> KeyframeFeatures:
        if self._cache is None:
            return self._run(image, levels)
        # Features depend on image and mask only through the masked image.
        key = feature_key(image, {'levels': [repr(level) for level in levels], **self._recipe})
        found = self._cache.load(key)
        return self._cache.store(key, self._run(image, levels)) if found is None else found

    @cached_property
    def _recipe(self) -> dict[str, object]:
        """Everything that features depend on besides the image and the levels.

        It includes the kind of device: half precision on a GPU gives slightly different values.
        """
        # Embeddings of crops and of patches share one space but differ in value.
        kind = {'kind': self._encoder.dense_mode} if hasattr(self._encoder, 'dense_mode') else {}
        return {'encoder': self._encoder.identity() | kind, 'receptive_px': self._receptive_px,
                'dense': self._dense.identity() if self._dense else {},
                'device': str(getattr(self._encoder, 'device', 'cpu')).split(':')[0]}

    @property
    def _receptive_px(self) -> float:
        return getattr(self._encoder, 'receptive_px', 0.0)

    def _levels(self, frame: Frame, widths_world: Sequence[float],
                depth_world: float) -> Sequence[CropGrid | float]:
        """Returns the levels to encode: grids of crops, or resize factors for a dense encoder."""
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
            factors = resize_factors(widths_px, self._receptive_px, max(height, width),
                                     self.limits.max_side)
            self._tell_if_coarse(min(widths_px), self._receptive_px / factors[-1], widths_world)
            return factors
        sides = crop_sides(widths_px, height, width)
        self._tell_if_coarse(min(widths_px), sides[0], widths_world)
        return [crop_grid(width, height, side, *overlaps) for side in sides]

    def _tell_if_coarse(self, asked_px: float, got_px: float,
                        widths_world: Sequence[float]) -> None:
        """Warns where the narrowest width cannot be had: once, and again where it gets worse."""
        ratio = got_px / asked_px
        if not widths_world or ratio <= self._coarsest_told:
            return
        self._coarsest_told = ratio * MERGE_RATIO
        asked = min(widths_world)
        why = (f'features.max_side is {self.limits.max_side}: raise it to '
               f'{math.ceil(self.limits.max_side * ratio)}' if isinstance(
                   self._encoder, DenseEncoder) else
               f'crops are at least {MIN_CROP_FRACTION:.0%} of the height of an image')
        log.warning('the narrowest width that images are encoded at is %.3g world units instead of '
                    '%.3g (features.widths), so that smaller things count less: %s, or map from '
                    'nearer', asked * ratio, asked, why)

    def _run(self, image: np.ndarray, levels: Sequence[CropGrid | float]) -> KeyframeFeatures:
        if isinstance(self._encoder, DenseEncoder):
            factors = [level for level in levels if isinstance(level, float)]
            return self._run_dense(self._encoder, image, factors)
        grids = [level for level in levels if isinstance(level, CropGrid)]
        maps = [self._newest.of(image, repr(grid), partial(
            encode_level, self._encoder, image, grid, self.limits.batch)) for grid in grids]
        return KeyframeFeatures(sort_levels(maps), self._features(image))

    def _run_dense(self, encoder: DenseEncoder, image: np.ndarray,
                   factors: Sequence[float]) -> KeyframeFeatures:
        found = {factor: self._newest.of(image, repr(factor), partial(
            level_with_features, encoder, image, factor)) for factor in factors}
        nearest_one = min(factors, key=lambda factor: abs(np.log(factor)))
        features = found[nearest_one][1] if isinstance(encoder, FeatureEncoder) else \
            self._features(image)
        return KeyframeFeatures(sort_levels(level for level, _ in found.values()), features)

    def _features(self, image: np.ndarray) -> np.ndarray:
        model = self._dense
        return self._newest.of(image, 'dense', lambda: model.features(image)) if model \
            else no_features()


def level_with_features(encoder: DenseEncoder, image: np.ndarray,
                        factor: float) -> tuple[EmbeddingMap, np.ndarray]:
    """Returns a level of a dense encoder, and the features of that run where it gives any."""
    if isinstance(encoder, FeatureEncoder):
        return encoder.dense_with_features(image, factor)
    return encoder.dense(image, factor), no_features()


class NewestImage:
    """Keeps what was computed of the newest image: several submaps see it, one after the other."""

    def __init__(self) -> None:
        self._image = np.zeros((0, 0, 3), np.uint8)
        self._known: dict[str, object] = {}

    def of(self, image: np.ndarray, name: str, compute: Callable[[], T]) -> T:
        """Returns what `compute` returns for an image (H, W, 3), computed at most once in a row."""
        if not np.array_equal(image, self._image):
            self._image, self._known = image, {}
        if name not in self._known:
            self._known[name] = compute()
        return cast(T, self._known[name])


def fill_masked(image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Fills the pixels of an image (H, W, 3) where valid (H, W) is False with the mean colour.

    So a crop that contains the robot's own gripper describes the scene alone.
    """
    if valid is None or valid.all() or not valid.any():
        return image
    filled = image.copy()
    filled[~valid] = np.round(image[valid].mean(0)).astype(np.uint8)
    return filled
