# SPDX-License-Identifier: Apache-2.0
"""The language fields that are compared: LERF, its ablations, and a stand-in for LSeg.

A variant changes the settings and which of the keyframes' features are used. All variants are
trained on the same frozen radiance field (frozen_radiance.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.errors import ConfigError
from lerf_ros.evaluation.frozen_radiance import FrozenRadiance
from lerf_ros.field.language_field import LanguageField
from lerf_ros.index.language_index import LanguageIndex, build_index
from lerf_ros.index.scales import index_scales, searched_scales
from lerf_ros.map_query import MapQuery
from lerf_ros.mapping.reindex import open_stored_map
from lerf_ros.query.answer import Answer
from lerf_ros.training.learners import LanguageLearner


def control_answers(map_directory: Path, texts: Sequence[str], rays: int = 20000) -> list[Answer]:
    """Returns the answers of a map whose language field is untrained; all else is unchanged."""
    query = MapQuery(map_directory)
    query.refresh()
    query.replace_index(untrained_index(map_directory, rays))
    return [query.answer(text) for text in texts]


def untrained_index(map_directory: Path, rays: int = 20000, seed: int = 0) -> LanguageIndex:
    """Builds the index of a map with a language field of random weights.

    rays: to find the surface with. The radiance field is that of the newest snapshot. Raises
    NoSnapshotError when there is none.
    """
    stored = open_stored_map(map_directory, {'index.rays': rays})
    torch.manual_seed(seed)
    language = LanguageField(stored.config.language, stored.language.embedding_dimension, 0)
    # As large as trained entries: with the initial 1e-4 it would hardly depend on the position.
    for table in language.encodings.parameters():
        torch.nn.init.uniform_(table, -1, 1)
    return stored.survey(language).index


ONE_SCALE_FRACTION = 0.15   # of the image height: the crops of the paper's ablation


def nearest_level(features: KeyframeFeatures, width_px: float) -> KeyframeFeatures:
    """Returns the features with one level only, whose width is nearest to width_px by ratio."""
    level = min(features.levels, key=lambda v: max(v.width_px / width_px, width_px / v.width_px))
    return replace(features, levels=(level,))


def as_they_are(features: KeyframeFeatures, height: int) -> KeyframeFeatures:
    """Returns all levels."""
    return features


def one_scale(features: KeyframeFeatures, height: int) -> KeyframeFeatures:
    """Returns crops of about 15 % of the image height (pixels) only."""
    return nearest_level(features, ONE_SCALE_FRACTION * height)


def pixel_aligned(features: KeyframeFeatures, height: int) -> KeyframeFeatures:
    """Returns the finest level only, which is most similar to LSeg's feature for each pixel."""
    return nearest_level(features, 1.0)


@dataclass(frozen=True)
class Variant:
    """A way to train the language field: which features, and which settings."""

    choose: Callable[[KeyframeFeatures, int], KeyframeFeatures] = as_they_are
    settings: tuple[tuple[str, object], ...] = ()


NO_SCALE = (('language.scale_rule', 'none'), ('index.scales', 1))
VARIANTS = {
    'lerf': Variant(),
    'no second look': Variant(),        # left out where the index is asked (experiment.py)
    'no dense': Variant(settings=(('training.dense_weight', 0.0),)),
    'one scale': Variant(one_scale, NO_SCALE),
    'pixel-aligned': Variant(pixel_aligned, (*NO_SCALE, ('training.dense_weight', 0.0))),
}


SCALES = 'scales='      # of a method that keeps that many of the levels


def some_levels(count: int, features: KeyframeFeatures, height: int) -> KeyframeFeatures:
    """Returns `count` of the levels, evenly from the narrowest to the widest; of one, the middle.

    height: not used. All levels are returned where there are no more.
    """
    last = len(features.levels) - 1
    rows = [last // 2] if count == 1 else [round(last * k / (count - 1)) for k in range(count)]
    return features if count > last else replace(
        features, levels=tuple(features.levels[row] for row in rows))


def variant_of(method: str) -> Variant:
    """Returns the variant of a method: one of VARIANTS, or scales=N, which keeps N levels."""
    if not method.startswith(SCALES):
        return VARIANTS[method]
    count = int(method.removeprefix(SCALES))
    return Variant(partial(some_levels, count), NO_SCALE if count == 1 else ())


def parse_variants(text: str) -> tuple[str, ...]:
    """Returns the methods of an option such as scales=1,2,4; raises ConfigError for others."""
    name, _, counts = text.partition('=')
    numbers = counts.split(',')
    if name != 'scales' or not all(number.isdigit() and int(number) for number in numbers):
        raise ConfigError(f'--variants {text}: give numbers of scales, such as scales=1,2,4')
    return tuple(f'{SCALES}{int(number)}' for number in numbers)


@dataclass(frozen=True)
class TrainedLanguage:
    """A variant after `steps` steps: its field, its index, and their scales in scene radii."""

    steps: int
    field: LanguageField
    index: LanguageIndex
    scales: tuple[float, ...]


def train_variant(variant: Variant, frozen: FrozenRadiance, features: Sequence[KeyframeFeatures],
                  heights: Sequence[int], config: LerfConfig, stops: Sequence[int],
                  device: torch.device) -> Iterator[TrainedLanguage]:
    """Trains a variant, and yields it at each number of steps in `stops`, which ascend.

    features, heights: of all frames in order; held-out frames are skipped.
    """
    config = config.override(dict(variant.settings))
    torch.manual_seed(config.training.seed)
    generator = torch.Generator().manual_seed(config.training.seed)
    learner = LanguageLearner(config, device, generator)
    for row, feature, height in zip(frozen.trained, features, heights, strict=True):
        if row >= 0:
            learner.put(row, variant.choose(feature, height))
    assert learner.mean_field is not None
    done = 0
    for stop in stops:
        for step in range(done, stop):
            chosen = torch.randint(0, len(frozen.samples), (config.training.language_rays,),
                                   generator=generator).to(device)
            samples = frozen.samples[chosen]
            learner.descend(learner.loss(samples, learner.draw_all(samples.batch)))
            learner.advance(step)
        done = stop
        scales = index_scales(config.index, frozen.scene.radius, learner.trained_scales())
        yield TrainedLanguage(stop, learner.mean_field, build_index(
            frozen.surface, learner.mean_field, frozen.scene, scales, config.index),
            searched_scales(scales))
