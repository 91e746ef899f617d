# SPDX-License-Identifier: Apache-2.0
"""Encoders as the evaluation uses them: for all frames of a scene, and for phrases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.encoders.extractor import FeatureExtractor, fill_masked
from lerf_ros.encoders.image_text import ENCODERS as IMAGE_ENCODERS
from lerf_ros.encoders.image_text import ImageTextEncoder, load_encoder
from lerf_ros.errors import ConfigError
from lerf_ros.evaluation.scenes import EvalScene
from lerf_ros.field.native_kernel import cache_folder
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.second_look import SecondLooker
from lerf_ros.query.text_query import TextEncoder
from lerf_ros.settings import nearest
from lerf_ros.training.scene_measurement import viewing_depth


class SceneEncoder(Protocol):
    """An encoder of the frames of a scene, and of phrases."""

    @property
    def texts(self) -> TextEncoder:
        """Returns the encoder of phrases."""

    def settings(self, config: LerfConfig) -> LerfConfig:
        """Returns the settings that this encoder is run with."""

    def features(self, scene: EvalScene, frame: SceneFrame,
                 config: LerfConfig) -> list[KeyframeFeatures]:
        """Returns the features of all frames, in order."""

    def looker(self, scene: EvalScene, config: LerfConfig) -> SecondLooker:
        """Returns what looks at things again in the frames, whose indices are their places."""


class ImageEncoder:
    """An encoder of the product, chosen by name."""

    def __init__(self, name: str, config: LerfConfig) -> None:
        self.config = config.override({'features.encoder': name})
        self.texts = load_encoder(self.config.features)
        self.extractor = FeatureExtractor(
            self.texts, self.config.features,
            FeatureCache(cache_folder() / 'features', config.features.cache_megabytes))

    def settings(self, config: LerfConfig) -> LerfConfig:
        """Returns the settings unchanged."""
        return config

    def features(self, scene: EvalScene, frame: SceneFrame,
                 config: LerfConfig) -> list[KeyframeFeatures]:
        """Returns features that are extracted as in the mapper."""
        return extract_all(self.extractor, scene, frame, config)

    def looker(self, scene: EvalScene, config: LerfConfig) -> SecondLooker:
        """Returns second looks as the mapper takes them."""
        return looker_of(self.texts, scene, config)


def looker_of(encoder: ImageTextEncoder, scene: EvalScene, config: LerfConfig) -> SecondLooker:
    """Returns second looks at the frames of a scene."""
    def picture(index: int) -> tuple[np.ndarray, np.ndarray | None]:
        frame = scene.frames[index]
        return fill_masked(frame.image, frame.valid), frame.valid
    return SecondLooker(encoder.encode_images, picture, config.index)


class Extractor(Protocol):
    """FeatureExtractor, or a substitute of it."""

    def extract(self, frame: Frame, widths_world: Sequence[float],
                depth_world: float) -> KeyframeFeatures: ...


def extract_all(extractor: Extractor, scene: EvalScene, frame: SceneFrame,
                config: LerfConfig) -> list[KeyframeFeatures]:
    """Returns the features of all frames of a scene, at the same widths as in the mapper."""
    widths = [width * frame.radius for width in config.features.widths]
    return [extractor.extract(f, widths, viewing_depth(f, frame)) for f in scene.frames]


# bench/evaluate.py adds the oracle.
ENCODERS: dict[str, Callable[[LerfConfig], SceneEncoder]] = {
    name: partial(ImageEncoder, name) for name in IMAGE_ENCODERS}


def make_encoders(names: Sequence[str], config: LerfConfig) -> dict[str, SceneEncoder]:
    """Creates encoders by name; raises ConfigError for a name that does not exist."""
    for name in names:
        if name not in ENCODERS:
            raise ConfigError(f'unknown encoder {name!r}{nearest(name, list(ENCODERS))}; known '
                              f'are {", ".join(ENCODERS)}')
    return {name: ENCODERS[name](config) for name in names}
