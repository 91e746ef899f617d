# SPDX-License-Identifier: Apache-2.0
"""What a training step does to each field: draw, render, loss, descend.

lerf_ros/lerf.py calls these in the order of the paper. The language learner works on the weights
of the radiance field and never changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField, RenderedRays
from lerf_ros.field.ray_sampling import SamplingPlan
from lerf_ros.field.volume_rendering import strongest
from lerf_ros.frames.frame import Keyframe
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.training.annealing import Annealing, ProposalSchedule, VisitedSpace
from lerf_ros.training.devices import own_count, own_rays
from lerf_ros.training.language_targets import LanguageTargets, ScaleHistogram
from lerf_ros.training.losses import (
    color_loss,
    dense_loss,
    depth_loss,
    distortion_loss,
    embedding_loss,
    interlevel_loss,
)
from lerf_ros.training.optimizers import Decay, Descent, ParameterGroup, WeightAverage
from lerf_ros.training.pose_refinement import PoseRefinement
from lerf_ros.training.ray_batches import KeyframeStore, PixelBatch

NEW_AREA_RAYS = 256   # rays of a keyframe that tell whether it shows new area


class RadianceLearner:
    """Owns the radiance field, its optimisers, the pose corrections and the keyframes' pixels."""

    def __init__(self, config: LerfConfig, scene: SceneFrame, device: torch.device,
                 generator: torch.Generator) -> None:
        rows = config.keyframes.max_count
        self.config, self.generator = config, generator
        self.store = KeyframeStore(scene, device)
        self.field = RadianceField(config.field, rows, scene.skipped).to(device)
        self.poses = PoseRefinement(rows, config.poses).to(device) if config.poses.refine else None
        self.annealing = Annealing(config.training, device)
        self.visited = VisitedSpace(device)
        self.schedule = ProposalSchedule(config.training)
        self.descent = Descent(self._groups(), device, config.training.mixed_precision)
        self.steps = self.newest_step = 0   # newest_step: when the newest keyframe came
        self.rays = config.training.rays    # of a step; fewer where memory runs out

    def _groups(self) -> list[ParameterGroup]:
        c, p = self.config.training, self.config.poses
        proposals = list(self.field.proposals.parameters())
        held = {id(value) for value in proposals}
        field = [value for value in self.field.parameters() if id(value) not in held]
        groups = [
            ParameterGroup(field, c.optimizer, Decay(
                c.learning_rate, c.final_learning_rate, c.decay_steps), c.beta2),
            ParameterGroup(proposals, 'adam', Decay(
                c.proposal_learning_rate, c.proposal_final_learning_rate, c.decay_steps), c.beta2)]
        if self.poses is not None:
            groups.append(ParameterGroup(self.poses.parameters(), 'adam', Decay(
                p.learning_rate, p.final_learning_rate, p.decay_steps, p.start_step), c.beta2))
        return groups

    def add(self, keyframe: Keyframe, instead_of: int | None = None) -> int:
        """Takes a keyframe into training; returns its row.

        instead_of: index of a keyframe that is forgotten, whose row the new one takes.
        """
        row = self.store.add(keyframe, instead_of)
        fresh = self.visited.add(self.store.grid_of(row, NEW_AREA_RAYS).rays)
        self.annealing.put(row, self.steps, fresh > self.config.training.new_area)
        if self.field.appearance is not None:
            self.field.appearance.start_row(row)
        if self.poses is not None:
            self.poses.reset_row(row)
        self.newest_step = self.steps
        return row

    def move(self, index: int, T_world_camera: np.ndarray) -> None:
        """Gives a keyframe a better pose (4, 4)."""
        self.store.set_pose(index, T_world_camera)
        if self.poses is not None:
            self.poses.reset_row(self.store.rows[index])

    def draw(self) -> tuple[PixelBatch, SamplingPlan]:
        """Draws random pixels of keyframes with what was measured there, and how to sample them."""
        batch = own_rays(self.store.draw(self.rays, self.newest_fraction(),
                                         self.config.training.newest_count, self.generator))
        return batch, SamplingPlan(True, self.annealing.sharpness(batch.keyframe, self.steps),
                                   self.schedule.due(self.steps))

    def newest_fraction(self) -> float:
        """Returns the part of a batch from the newest keyframes; it fades once no more come."""
        c = self.config.training
        return c.newest_fraction * max(0.0, 1 - (self.steps - self.newest_step) / c.newest_steps)

    def posed(self, batch: PixelBatch) -> PixelBatch:
        """Corrects the rays of a batch by the learned poses, with gradients to these."""
        if self.poses is None:
            return batch
        return replace(batch, rays=self.poses(batch.rays, batch.keyframe))

    def render(self, batch: PixelBatch, plan: SamplingPlan) -> RenderedRays:
        """Renders the rays of a batch, with gradients."""
        with self.descent.autocast():
            return self.field(batch.rays, plan, batch.keyframe)

    def loss(self, rendered: RenderedRays, batch: PixelBatch) -> tuple[Tensor, Tensor]:
        """Returns the whole loss, and the colour part of it."""
        c = self.config.training
        color = color_loss(rendered.color, batch.colors)
        loss = c.color_weight * color + c.interlevel_weight * interlevel_loss(
            rendered.weights, rendered.edges, rendered.proposals)
        loss = loss + c.distortion_weight * distortion_loss(rendered.weights, rendered.edges)
        if c.depth_weight > 0 and batch.rays.depth is not None:
            for weights, edges in ((rendered.weights, rendered.edges), *rendered.proposals):
                loss = loss + c.depth_weight * depth_loss(weights, edges, batch.rays.depth,
                                                          c.depth_zone)
        return (loss if self.poses is None else loss + self.poses.penalty()), color

    def descend(self, loss: Tensor) -> Tensor:
        """Moves the field down a loss; returns it."""
        return self.descent.step(loss)

    def advance(self) -> None:
        """Counts a step that was taken, and sets the learning rates of the next one."""
        self.steps += 1
        self.descent.set_rates(self.steps)

    def step(self) -> float:
        """Takes one step of this field alone; returns its loss."""
        batch, plan = self.draw()
        batch = self.posed(batch)
        loss = float(self.descend(self.loss(self.render(batch, plan), batch)[0]))
        self.advance()
        return loss

    def refined(self, index: int, T_scene_camera: np.ndarray) -> np.ndarray:
        """Returns the pose (4, 4) of a keyframe with its correction, if it is trained on."""
        if self.poses is None or index not in self.store.rows:
            return T_scene_camera
        pose = torch.from_numpy(T_scene_camera)
        return self.poses.corrected(self.store.rows[index], pose).numpy()


@dataclass(frozen=True)
class LanguageSamples:
    """Rays with the samples that carry language: weights (R, k) and mid distances (R, k)."""

    batch: PixelBatch
    weights: Tensor
    distances: Tensor

    @classmethod
    def of(cls, batch: PixelBatch, rendered: RenderedRays, rays: int,
           samples: int) -> LanguageSamples:
        """Takes the heaviest samples of the first `rays` rays, without gradients."""
        weights, distances = strongest(rendered.weights[:rays].float(), rendered.edges[:rays],
                                       samples)
        return cls(batch.head(rays), weights, distances)

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, chosen: Tensor) -> LanguageSamples:
        return LanguageSamples(self.batch[chosen], self.weights[chosen], self.distances[chosen])

    @classmethod
    def join(cls, parts: Sequence[LanguageSamples]) -> LanguageSamples:
        """Concatenates the rays of several parts."""
        return cls(PixelBatch.join([part.batch for part in parts]),
                   torch.cat([part.weights for part in parts]),
                   torch.cat([part.distances for part in parts]))

    def positions(self) -> Tensor:
        """Returns where the samples are (R, k, 3), scene frame."""
        rays = self.batch.rays
        return rays.origins[:, None] + self.distances[..., None] * rays.directions[:, None]


@dataclass(frozen=True)
class LanguageTargetBatch:
    """What R rays mean: embeddings (R, D), not longer than 1, of crops widths_px (R,) wide.

    dense: features (R, C) of a self-supervised encoder; None where the field learns none.
    """

    embeddings: Tensor
    widths_px: Tensor
    dense: Tensor | None

    def __len__(self) -> int:
        return len(self.embeddings)


class LanguageLearner:
    """Owns the language field, its optimiser and the keyframes' embeddings."""

    def __init__(self, config: LerfConfig, device: torch.device,
                 generator: torch.Generator) -> None:
        self.config, self.device, self.generator = config, device, generator
        self.targets = LanguageTargets(
            device, 'log' if config.features.pyramid == 'widths' else 'linear')
        self.scales = ScaleHistogram(device)
        self.field: LanguageField | None = None     # None before the first keyframe
        self.descent: Descent | None = None
        self.average: WeightAverage[LanguageField] | None = None

    @property
    def mean_field(self) -> LanguageField | None:
        """The field with the mean of its latest weights, which maps are made of."""
        return None if self.average is None else self.average.module

    def put(self, row: int, features: KeyframeFeatures) -> None:
        """Takes the features of a keyframe by its row; the first make the untrained field."""
        self.targets.put(row, features)
        if self.field is None:
            self._start()

    def _start(self) -> None:
        c = self.config.training
        # An untrained head would render noise, which would tell things apart in the index.
        dense = self.targets.dense_dimension if c.dense_weight > 0 else 0
        # The field's size must not change the random numbers that jitter the radiance samples.
        with torch.random.fork_rng(devices=[]):
            self.field = LanguageField(self.config.language, self.targets.embedding_dimension,
                                       dense).to(self.device)
        group = ParameterGroup(
            self.field.parameters(), c.language_optimizer,
            Decay(c.language_learning_rate, c.language_final_learning_rate,
                  c.language_decay_steps), c.beta2, c.language_weight_decay)
        self.descent = Descent([group], self.device, c.mixed_precision)
        self.average = WeightAverage(self.field, c.language_average_steps)

    def draw(self, batch: PixelBatch, rays: int) -> LanguageTargetBatch:
        """Draws random scales for those of a step's `rays` rays that train this field too."""
        c = self.config.training
        return self.draw_all(batch.head(own_count(c.language_rays * rays // c.rays)))

    def draw_all(self, batch: PixelBatch) -> LanguageTargetBatch:
        """Draws random scales for all rays of a batch, and looks up what was seen there."""
        assert self.field is not None, 'no keyframe yet'
        dense = None
        if self.field.dense_network is not None:
            dense = self.targets.dense(batch.keyframe, batch.pixels, batch.size_px)
        return LanguageTargetBatch(*self.targets.embeddings(batch.keyframe, batch.pixels,
                                                            self.generator), dense)

    def samples(self, batch: PixelBatch, rendered: RenderedRays, rays: int) -> LanguageSamples:
        """Returns the samples of a step's first `rays` rays, without gradients."""
        return LanguageSamples.of(batch, rendered, rays, self.config.language.samples)

    def loss(self, samples: LanguageSamples, targets: LanguageTargetBatch) -> Tensor:
        """Returns the loss of the embeddings at random scales and of the dense features."""
        assert self.descent is not None and self.field is not None, 'no keyframe yet'
        c, field = self.config.training, self.field
        with self.descent.autocast():
            features = field.features(samples.positions())
            rendered = field.render(features, samples.weights,
                                    self.scale(samples, targets.widths_px))
            loss = c.language_weight * embedding_loss(
                rendered, targets.embeddings, samples.weights, c.embedding_loss, c.huber_delta)
            if targets.dense is not None:
                loss = loss + c.dense_weight * dense_loss(
                    field.render_dense(features, samples.weights), targets.dense, samples.weights)
            return loss

    def scale(self, samples: LanguageSamples, width_px: Tensor) -> Tensor:
        """Returns and counts the scales (R, k), scene radii, of crops width_px (R,) wide."""
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

    def _reference_ratio(self, batch: PixelBatch, width_px: Tensor) -> Tensor:
        """Returns the released code's s H / f_y (R,); s goes from 0 to 1 with the crop's width."""
        fractions, height = self.config.features.fractions, batch.size_px[:, 1]
        # In whole pixels, as the crops are; in double precision, as these were rounded.
        smallest, largest = ((height.double() * part).floor().float()
                             for part in (min(fractions), max(fractions)))
        s = ((width_px - smallest) / (largest - smallest).clamp_min(1)).clamp(0, 1)
        return s * height / batch.focal_px[:, 1]

    def descend(self, loss: Tensor) -> Tensor:
        """Moves the field down a loss; returns it."""
        assert self.descent is not None, 'no keyframe yet'
        return self.descent.step(loss)

    def advance(self, step: int) -> None:
        """Counts a step that was taken, from 0: updates the mean weights, sets the next rates."""
        assert self.descent is not None and self.field is not None and self.average is not None
        self.average.update(self.field, step)
        self.descent.set_rates(step + 1)

    def trained_scales(self) -> tuple[float, float]:
        """Returns the smallest and largest scale that may be searched, scene radii.

        Near and far views train scales beyond features.widths as well. Each of those is seen from
        few places alone, and the widest describe half a room: anything near a thing would match.
        """
        low, high = self.scales.limits()
        features = self.config.features
        if features.pyramid != 'widths' or self.config.language.scale_rule != 'width':
            return low, high
        narrow, wide = max(low, min(features.widths)), min(high, max(features.widths))
        return (narrow, wide) if narrow < wide else (low, high)


class Trainer:
    """The learners of both fields of one map."""

    def __init__(self, config: LerfConfig, scene: SceneFrame, device: torch.device) -> None:
        seed = config.training.seed
        torch.manual_seed(seed)
        self.config, self.scene, self.device = config, scene, device
        # One generator each: no setting of the language changes which rays the radiance field sees.
        self.radiance = RadianceLearner(config, scene, device, torch.Generator().manual_seed(seed))
        self.language = LanguageLearner(config, device, torch.Generator().manual_seed(seed + 1))

    def add(self, keyframe: Keyframe, features: KeyframeFeatures,
            instead_of: int | None = None) -> None:
        """Takes a keyframe into training, instead of the one with an index where that is given."""
        store = self.radiance.store
        row = len(store) if instead_of is None else store.rows[instead_of]
        # The features first: if memory runs out, no keyframe has pixels alone.
        self.language.put(row, features)
        self.radiance.add(keyframe, instead_of)
