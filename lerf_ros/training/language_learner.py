# SPDX-License-Identifier: Apache-2.0
"""Learns what the world means, on the weights of a radiance field that it never changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RenderedRays
from lerf_ros.field.volume_rendering import strongest
from lerf_ros.training.devices import share_of
from lerf_ros.training.language_targets import LanguageTargets
from lerf_ros.training.losses import dense_loss, embedding_loss
from lerf_ros.training.optimizers import Decay, Descent, ParameterGroup, WeightAverage
from lerf_ros.training.ray_batches import PixelBatch

LOW, HIGH, BINS = 1e-4, 1e3, 280   # scene radii; 40 bins a decade, 6 % wide each
TAIL = 0.1                         # part at either end that is too rare to rely on


class ScaleRange:
    """A histogram of the scales of all samples that were trained."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, scales: Tensor) -> None:
        """Counts scales of any shape, scene radii; those that are not positive are left out."""
        part = (torch.log(scales[scales > 0] / LOW) / math.log(HIGH / LOW) * BINS).long()
        self.counts += torch.bincount(part.clamp(0, BINS - 1), minlength=BINS)

    def limits(self) -> tuple[float, float]:
        """The scales between which most were trained, scene radii; (LOW, HIGH) before any."""
        share = self.counts.cumsum(0) / self.counts.sum().clamp_min(1)
        if not share[-1]:
            return LOW, HIGH
        first = int((share < TAIL).sum())
        last = int((share < 1 - TAIL).sum())
        width = math.log(HIGH / LOW) / BINS
        return LOW * math.exp(first * width), LOW * math.exp((last + 1) * width)


@dataclass(frozen=True)
class LanguageSamples:
    """Rays with the samples that carry language: weights (R, k) and mid distances (R, k)."""

    batch: PixelBatch
    weights: Tensor
    distances: Tensor

    @classmethod
    def of(cls, batch: PixelBatch, rendered: RenderedRays, rays: int,
           samples: int) -> LanguageSamples:
        """The heaviest samples of the first `rays` rays; nothing of them carries gradients."""
        weights, distances = strongest(rendered.weights[:rays].float(), rendered.edges[:rays],
                                       samples)
        return cls(batch.head(rays), weights, distances)

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, chosen: Tensor) -> LanguageSamples:
        """The chosen rays, by index."""
        return LanguageSamples(self.batch[chosen], self.weights[chosen], self.distances[chosen])

    @classmethod
    def join(cls, parts: Sequence[LanguageSamples]) -> LanguageSamples:
        """All rays of several parts."""
        return cls(PixelBatch.join([part.batch for part in parts]),
                   torch.cat([part.weights for part in parts]),
                   torch.cat([part.distances for part in parts]))

    def positions(self) -> Tensor:
        """Where the samples are (R, k, 3), scene frame."""
        rays = self.batch.rays
        return rays.origins[:, None] + self.distances[..., None] * rays.directions[:, None]


class LanguageLearner:
    """Owns the language field, its optimiser and what the encoder saw in the keyframes."""

    def __init__(self, config: LerfConfig, device: torch.device,
                 generator: torch.Generator) -> None:
        self.config, self.device, self.generator = config, device, generator
        self.targets = LanguageTargets(
            device, 'log' if config.features.pyramid == 'widths' else 'linear')
        self.scales = ScaleRange(device)
        self.field: LanguageField | None = None
        self.descent: Descent | None = None
        self.average: WeightAverage[LanguageField] | None = None

    @property
    def mean_field(self) -> LanguageField | None:
        """The field with the mean of its latest weights, which maps are made of."""
        return None if self.average is None else self.average.module

    def add(self, features: KeyframeFeatures) -> None:
        """Takes the features of the next keyframe; the first fix the embeddings' dimensions."""
        self.targets.add(features)
        if self.field is None:
            self.start()

    def start(self) -> None:
        """Makes the field, untrained."""
        c = self.config.training
        # A head that nothing trains would say noise, by which things would be told apart.
        dense = self.targets.dense_dimension if c.dense_weight > 0 else 0
        # Its size must not move the random numbers that jitter the radiance field's samples.
        with torch.random.fork_rng(devices=[]):
            self.field = LanguageField(self.config.language, self.targets.embedding_dimension,
                                       dense).to(self.device)
        group = ParameterGroup(
            self.field.parameters(), c.language_optimizer,
            Decay(c.language_learning_rate, c.language_final_learning_rate,
                  c.language_decay_steps), c.beta2, c.language_weight_decay)
        self.descent = Descent([group], self.device, c.mixed_precision)
        self.average = WeightAverage(self.field, c.language_average_steps)

    def samples(self, batch: PixelBatch, rendered: RenderedRays, rays: int) -> LanguageSamples:
        """Returns those of a step's `rays` rays that train this field too, without gradients."""
        c = self.config.training
        return LanguageSamples.of(batch, rendered, share_of(c.language_rays * rays // c.rays),
                                  self.config.language.samples)

    def step(self, samples: LanguageSamples, step: int) -> float:
        """Moves the field down its loss on these samples; returns the loss."""
        return self.descend(self.loss(samples), step)

    def descend(self, loss: Tensor, step: int) -> float:
        """Moves the field down a loss; returns it."""
        assert self.descent is not None and self.field is not None, 'no keyframe yet'
        assert self.average is not None
        value = float(self.descent.step(loss, step))
        self.average.update(self.field, step)
        return value

    def loss(self, samples: LanguageSamples) -> Tensor:
        """Embeddings at a random scale, and dense features."""
        assert self.descent is not None, 'no keyframe yet'
        with self.descent.autocast():
            return self._loss(samples)

    def _loss(self, samples: LanguageSamples) -> Tensor:
        assert self.field is not None
        c, batch, field = self.config.training, samples.batch, self.field
        features = field.features(samples.positions())
        target, width_px = self.targets.embeddings(batch.keyframe, batch.pixels, self.generator)
        scale = self.scale(samples, width_px)
        rendered = field.render(features, samples.weights, scale)
        loss = c.language_weight * embedding_loss(
            rendered, target, samples.weights, c.embedding_loss, c.huber_delta)
        if field.dense_network is not None:
            dense = self.targets.dense(batch.keyframe, batch.pixels, batch.size_px)
            loss = loss + c.dense_weight * dense_loss(
                field.render_dense(features, samples.weights), dense, samples.weights)
        return loss

    def scale(self, samples: LanguageSamples, width_px: Tensor) -> Tensor:
        """The scale (R, k) at the samples of crops of width_px (R,), scene radii; remembered."""
        batch, rule = samples.batch, self.config.language.scale_rule
        if rule == 'width':
            # How wide the crop is at the sample's distance (LERF, section 3.2).
            scale = (width_px / batch.focal_px[:, 0])[:, None] * samples.distances
        elif rule == 'reference':
            scale = self._reference_ratio(batch, width_px)[:, None] * samples.distances
        else:
            scale = torch.ones_like(samples.distances)
        self.scales.add(scale[:, 0])
        return scale

    def limits(self) -> tuple[float, float]:
        """The scales that may be searched, scene radii: trained often, and asked for.

        Near and far views train scales beyond features.widths as well. Nobody asked for them, each
        is seen from few places alone, and the widest speak of half a room: whatever is near a
        thing would be it.
        """
        low, high = self.scales.limits()
        features = self.config.features
        if features.pyramid != 'widths' or self.config.language.scale_rule != 'width':
            return low, high
        narrow, wide = max(low, min(features.widths)), min(high, max(features.widths))
        return (narrow, wide) if narrow < wide else (low, high)

    def _reference_ratio(self, batch: PixelBatch, width_px: Tensor) -> Tensor:
        """The released code's s H / f_y (R,), s from 0 at the smallest crop to 1 at the largest."""
        fractions, height = self.config.features.fractions, batch.size_px[:, 1]
        # In whole pixels, as the crops are; in double precision, as these were rounded.
        smallest, largest = ((height.double() * part).floor().float()
                             for part in (min(fractions), max(fractions)))
        s = ((width_px - smallest) / (largest - smallest).clamp_min(1)).clamp(0, 1)
        return s * height / batch.focal_px[:, 1]
