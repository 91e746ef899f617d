# SPDX-License-Identifier: Apache-2.0
"""One optimisation step after another: the radiance field, and on its weights the language."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lerf_ros.config import LerfConfig
from lerf_ros.features.extractor import KeyframeFeatures
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField, RenderedRays
from lerf_ros.field.scene_frame import SceneFrame
from lerf_ros.field.volume_rendering import strongest
from lerf_ros.keyframes.frame import Keyframe
from lerf_ros.training.language_targets import LanguageTargets
from lerf_ros.training.losses import (
    color_loss,
    dense_loss,
    depth_loss,
    distortion_loss,
    embedding_loss,
    interlevel_loss,
)
from lerf_ros.training.ray_batches import KeyframeStore, PixelBatch

DEPTH_WIDTH = 0.02   # scene radii: zone around the measured surface in which light may stop


@dataclass(frozen=True)
class StepReport:
    """What one step saw: its loss, the colour error (mean square) and the rays it took."""

    loss: float
    color_error: float
    rays: int


class Trainer:
    """Owns both fields, their optimiser and the keyframes they learn from."""

    def __init__(self, config: LerfConfig, scene: SceneFrame, device: torch.device) -> None:
        torch.manual_seed(config.training.seed)
        self.config, self.scene, self.device = config, scene, device
        self.generator = torch.Generator().manual_seed(config.training.seed)
        self.store = KeyframeStore(scene, device)
        self.targets = LanguageTargets(device)
        self.radiance = RadianceField(config.field).to(device)
        self.language: LanguageField | None = None
        self.optimizer = self._optimizer(list(self.radiance.parameters()))
        self.language_optimizer: torch.optim.Optimizer | None = None
        self.steps = self.newest_step = 0

    def _optimizer(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.config.training.learning_rate, eps=1e-15,
                                betas=(0.9, 0.99), fused=True)

    def add(self, keyframe: Keyframe, features: KeyframeFeatures) -> None:
        """Takes a keyframe into training; the first one fixes the embeddings' dimensions."""
        self.targets.add(features)
        self.store.add(keyframe)
        self.newest_step = self.steps
        if self.language is None:
            self.language = LanguageField(
                self.config.field, self.targets.embedding_dimension,
                self.targets.dense_dimension).to(self.device)
            self.language_optimizer = self._optimizer(list(self.language.parameters()))

    def step(self) -> StepReport:
        """Draws rays, renders them, and moves both fields down their losses."""
        c = self.config.training
        batch = self.store.draw(c.rays, self.newest_fraction(), c.newest_count, self.generator)
        rendered = self.radiance(batch.rays, train=True)
        loss, color = self.radiance_loss(rendered, batch)
        self._descend(self.optimizer, loss)
        language = self.language_loss(rendered, batch)
        assert self.language_optimizer is not None
        self._descend(self.language_optimizer, language)
        self.steps += 1
        return StepReport(float(loss.detach() + language.detach()), float(color.detach()),
                          len(batch))

    def radiance_loss(self, rendered: RenderedRays, batch: PixelBatch) -> tuple[Tensor, Tensor]:
        """The whole loss of the radiance field, and the colour part of it."""
        c = self.config.training
        color = color_loss(rendered.color, batch.colors)
        loss = color + c.interlevel_weight * interlevel_loss(
            rendered.weights, rendered.edges, rendered.proposals)
        loss = loss + c.distortion_weight * distortion_loss(rendered.weights, rendered.edges)
        assert batch.rays.depth is not None
        for weights, edges in ((rendered.weights, rendered.edges), *rendered.proposals):
            loss = loss + c.depth_weight * depth_loss(weights, edges, batch.rays.depth,
                                                      DEPTH_WIDTH)
        return loss, color

    def language_loss(self, rendered: RenderedRays, batch: PixelBatch) -> Tensor:
        """Embeddings at a random scale, and dense features, on the first rays of the batch."""
        c, count = self.config.training, self.config.training.language_rays
        batch = batch.head(count)
        assert self.language is not None
        weights, distance = strongest(rendered.weights[:count], rendered.edges[:count],
                                      self.config.field.language_samples)
        positions = (batch.rays.origins[:, None]
                     + distance[..., None] * batch.rays.directions[:, None])
        features = self.language.features(positions)
        target, width_px = self.targets.embeddings(batch.keyframe, batch.pixels, self.generator)
        # A crop of width_px pixels is this wide at the sample's distance (LERF, section 3.2).
        width = (width_px / batch.focal_px)[:, None] * distance
        loss = c.language_weight * embedding_loss(
            self.language.render(features, weights, width), target)
        if self.language.dense_network is not None and c.dense_weight > 0:
            dense = self.targets.dense(batch.keyframe, batch.pixels,
                                       self.store.image_sizes(batch.keyframe))
            loss = loss + c.dense_weight * dense_loss(
                self.language.render_dense(features, weights), dense)
        return loss

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        for group in optimizer.param_groups:
            group['lr'] = self.learning_rate()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def newest_fraction(self) -> float:
        """Part of the batch from the newest keyframes: fades out once no more of them come."""
        c = self.config.training
        return c.newest_fraction * max(0.0, 1 - (self.steps - self.newest_step) / c.newest_steps)

    def learning_rate(self) -> float:
        """Exponential decay to a floor that is kept, so that the last room is learned as well."""
        c = self.config.training
        progress = min(self.steps / c.decay_steps, 1.0)
        return c.learning_rate * (c.final_learning_rate / c.learning_rate) ** progress
