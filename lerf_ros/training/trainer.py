# SPDX-License-Identifier: Apache-2.0
"""One optimisation step after another: the radiance field, and on its weights the language."""

from __future__ import annotations

import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.frames.frame import Keyframe
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.lerf import StepReport, training_step
from lerf_ros.training.language_learner import LanguageLearner
from lerf_ros.training.radiance_learner import RadianceLearner
from lerf_ros.training.ray_batches import KeyframeStore


class Trainer:
    """Owns the learners of both fields; language never changes what the world looks like."""

    def __init__(self, config: LerfConfig, scene: SceneFrame, device: torch.device) -> None:
        torch.manual_seed(config.training.seed)
        self.config, self.scene, self.device = config, scene, device
        # One each, so that no setting of the language changes which rays the radiance field sees.
        seed = config.training.seed
        self.radiance_learner = RadianceLearner(config, scene, device,
                                                torch.Generator().manual_seed(seed))
        self.language_learner = LanguageLearner(config, device,
                                                torch.Generator().manual_seed(seed + 1))

    @property
    def radiance(self) -> RadianceField:
        return self.radiance_learner.field

    @property
    def language(self) -> LanguageField | None:
        """None before the first keyframe."""
        return self.language_learner.field

    @property
    def mean_language(self) -> LanguageField | None:
        """The language field with the mean of its latest weights; None before a keyframe."""
        return self.language_learner.mean_field

    @property
    def store(self) -> KeyframeStore:
        return self.radiance_learner.store

    @property
    def steps(self) -> int:
        return self.radiance_learner.steps

    @property
    def rays(self) -> int:
        """How many a step takes."""
        return self.radiance_learner.rays

    def limit_rays(self, rays: int) -> None:
        """Takes fewer rays a step than configured, and as many fewer for the language."""
        self.radiance_learner.rays = rays

    def add(self, keyframe: Keyframe, features: KeyframeFeatures) -> None:
        """Takes a keyframe into training."""
        self.language_learner.add(features)
        self.radiance_learner.add(keyframe)

    def put(self, row: int, keyframe: Keyframe, features: KeyframeFeatures) -> None:
        """Takes a keyframe into training as `row`, in the place of the one there may be."""
        if row == len(self.store):
            self.add(keyframe, features)
        else:
            self.language_learner.targets.replace(row, features)
            self.radiance_learner.replace(row, keyframe)

    def step(self) -> StepReport:
        """Takes one step of both fields."""
        return training_step(self.radiance_learner, self.language_learner)

    def trained_scales(self) -> tuple[float, float]:
        """The scales between which the language was trained, scene radii."""
        return self.language_learner.limits()
