# SPDX-License-Identifier: Apache-2.0
"""Encoders as the evaluation runs them: every frame of a scene, and phrases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.errors import ConfigError
from lerf_ros.evaluation.scenes import EvalScene
from lerf_ros.field.native_kernel import cache_folder
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.query.text_query import TextEncoder
from lerf_ros.settings import nearest
from lerf_ros.training.scene_measurement import viewing_depth


class SceneEncoder(Protocol):
    """What an encoder makes of a scene's frames, and of phrases."""

    @property
    def texts(self) -> TextEncoder: ...

    def settings(self, config: LerfConfig) -> LerfConfig:
        """The settings with which this encoder is run."""

    def features(self, scene: EvalScene, frame: SceneFrame,
                 config: LerfConfig) -> list[KeyframeFeatures]:
        """The features of every frame, in order."""


class ImageEncoder:
    """An encoder of the product, by its name."""

    def __init__(self, name: str, config: LerfConfig) -> None:
        self.config = config.override({'features.encoder': name})
        self.texts = load_encoder(self.config.features)
        self.extractor = FeatureExtractor(
            self.texts, self.config.features,
            FeatureCache(cache_folder() / 'features', config.features.cache_megabytes))

    def settings(self, config: LerfConfig) -> LerfConfig:
        """As they are."""
        return config

    def features(self, scene: EvalScene, frame: SceneFrame,
                 config: LerfConfig) -> list[KeyframeFeatures]:
        """Extracted as the mapper does it."""
        return extract_all(self.extractor, scene, frame, config)


class Extractor(Protocol):
    """lerf_ros.encoders.extractor.FeatureExtractor, or what stands in for it."""

    def extract(self, frame: Frame, widths_world: Sequence[float],
                depth_world: float) -> KeyframeFeatures: ...


def extract_all(extractor: Extractor, scene: EvalScene, frame: SceneFrame,
                config: LerfConfig) -> list[KeyframeFeatures]:
    """The features of every frame of a scene, as the mapper asks for them."""
    widths = [width * frame.radius for width in config.features.widths]
    return [extractor.extract(f, widths, viewing_depth(f, frame)) for f in scene.frames]


# A bench may add its own, such as the oracle.
ENCODERS: dict[str, Callable[[LerfConfig], SceneEncoder]] = {
    'conse': lambda config: ImageEncoder('conse', config),
    'openclip': lambda config: ImageEncoder('openclip', config),
}


def make_encoders(names: Sequence[str], config: LerfConfig) -> dict[str, SceneEncoder]:
    """The encoders of these names; ConfigError for one that does not exist."""
    for name in names:
        if name not in ENCODERS:
            raise ConfigError(f'unknown encoder {name!r}{nearest(name, list(ENCODERS))}; known '
                              f'are {", ".join(ENCODERS)}')
    return {name: ENCODERS[name](config) for name in names}
