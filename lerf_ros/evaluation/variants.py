# SPDX-License-Identifier: Apache-2.0
"""The language fields that are compared: LERF, its ablations, and the role of LSeg.

Each is a change of the settings and of what is taken from the keyframes' features; all of them
are trained on the same frozen radiance field (frozen_radiance.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from lerf_ros.config import LerfConfig
from lerf_ros.evaluation.frozen_radiance import FrozenRadiance
from lerf_ros.features.extractor import KeyframeFeatures
from lerf_ros.field.language_field import LanguageField
from lerf_ros.query.language_index import LanguageIndex, build_index
from lerf_ros.query.scales import index_scales, searched_scales
from lerf_ros.training.language_learner import LanguageLearner

ONE_SCALE_FRACTION = 0.15   # of the image height: the crops of the paper's ablation


def nearest_level(features: KeyframeFeatures, width_px: float) -> KeyframeFeatures:
    """The one level whose width is nearest (by ratio) to width_px."""
    level = min(features.levels, key=lambda v: max(v.width_px / width_px, width_px / v.width_px))
    return replace(features, levels=(level,))


def as_they_are(features: KeyframeFeatures, height: int) -> KeyframeFeatures:
    """All levels."""
    return features


def one_scale(features: KeyframeFeatures, height: int) -> KeyframeFeatures:
    """Crops of about 15 % of the image height (px) alone."""
    return nearest_level(features, ONE_SCALE_FRACTION * height)


def pixel_aligned(features: KeyframeFeatures, height: int) -> KeyframeFeatures:
    """The finest level alone: what comes nearest to LSeg's feature for each pixel."""
    return nearest_level(features, 1.0)


@dataclass(frozen=True)
class Variant:
    """A way to train the language field."""

    choose: Callable[[KeyframeFeatures, int], KeyframeFeatures] = as_they_are
    settings: tuple[tuple[str, object], ...] = ()


NO_SCALE = (('language.scale_rule', 'none'), ('index.scales', 1))
VARIANTS = {
    'lerf': Variant(),
    'no dense': Variant(settings=(('training.dense_weight', 0.0),)),
    'one scale': Variant(one_scale, NO_SCALE),
    'pixel-aligned': Variant(pixel_aligned, (*NO_SCALE, ('training.dense_weight', 0.0))),
}


@dataclass(frozen=True)
class TrainedLanguage:
    """A variant after `steps` steps: its field, its index, the scales they share (radii)."""

    steps: int
    field: LanguageField
    index: LanguageIndex
    scales: tuple[float, ...]


def train_variant(variant: Variant, frozen: FrozenRadiance, features: Sequence[KeyframeFeatures],
                  heights: Sequence[int], config: LerfConfig, stops: Sequence[int],
                  device: torch.device) -> Iterator[TrainedLanguage]:
    """Trains on the frozen field and yields it at each number of steps in `stops`, ascending.

    features and heights: of all frames, in their order; held-out ones are left out.
    """
    config = config.override(dict(variant.settings))
    torch.manual_seed(config.training.seed)
    generator = torch.Generator().manual_seed(config.training.seed)
    learner = LanguageLearner(config, device, generator)
    for row, feature, height in zip(frozen.trained, features, heights, strict=True):
        if row >= 0:
            learner.add(variant.choose(feature, height))
    assert learner.mean_field is not None
    done = 0
    for stop in stops:
        for step in range(done, stop):
            chosen = torch.randint(0, len(frozen.samples), (config.training.language_rays,),
                                   generator=generator).to(device)
            learner.step(frozen.samples[chosen], step)
        done = stop
        scales = index_scales(config.index, frozen.scene.radius, learner.limits())
        yield TrainedLanguage(stop, learner.mean_field, build_index(
            frozen.surface, learner.mean_field, frozen.scene, scales, config.index),
            searched_scales(scales))
