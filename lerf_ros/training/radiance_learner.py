# SPDX-License-Identifier: Apache-2.0
"""Learns what the world looks like, one batch of rays after another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from lerf_ros.config import LerfConfig, PoseConfig
from lerf_ros.field.radiance_field import RadianceField, RenderedRays
from lerf_ros.field.ray_sampling import Rays, SamplingPlan
from lerf_ros.frames.frame import Keyframe
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.training.annealing import Annealing, Coverage, ProposalSchedule
from lerf_ros.training.devices import share
from lerf_ros.training.losses import color_loss, depth_loss, distortion_loss, interlevel_loss
from lerf_ros.training.optimizers import Decay, Descent, ParameterGroup
from lerf_ros.training.ray_batches import KeyframeStore, PixelBatch


def rotation_matrix(vector: Tensor) -> Tensor:
    """Rotations (R, 3, 3) of rotation vectors (R, 3), radians (Rodrigues); smooth at zero."""
    square = vector.square().sum(-1)[:, None, None]
    angle = square.clamp_min(1e-12).sqrt()
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    # Below 1e-6 rad the two factors are their limits, and gradients stay finite.
    sine, cosine = torch.sin(angle) / angle, (1 - torch.cos(angle)) / angle.square()
    identity = torch.eye(3, device=vector.device, dtype=vector.dtype)
    return identity + sine * cross + cosine * (cross @ cross)


class PoseRefinement(nn.Module):
    """A rotation and a translation for each keyframe, applied to its rays in the scene frame.

    Only rays drawn for training are moved: d' = R d, o' = o + t. Held-out keyframes keep their
    poses. The two penalties keep the whole from drifting away from the measured poses.
    """

    def __init__(self, keyframes: int, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.zeros(keyframes, 6))   # translation, rotation vector

    def forward(self, rays: Rays, keyframe: Tensor) -> Rays:
        """The rays of keyframe rows (R,), corrected; gradients reach the corrections."""
        correction = self.table[keyframe]
        turned = rotation_matrix(correction[:, 3:]) @ rays.directions[..., None]
        return replace(rays, origins=rays.origins + correction[:, :3], directions=turned[..., 0])

    def penalty(self) -> Tensor:
        """Mean lengths of the corrections, weighted (nerfstudio's L2 penalties)."""
        lengths = torch.sqrt(self.table.reshape(-1, 2, 3).square().sum(-1) + 1e-16).mean(0)
        return (self.config.translation_penalty * lengths[0]
                + self.config.rotation_penalty * lengths[1])

    @torch.no_grad()
    def reset_row(self, row: int) -> None:
        """Another pose has come for keyframe `row`: what was learned of the old one is void."""
        self.table[row] = 0

    @torch.no_grad()
    def corrected(self, row: int, T_scene_camera: Tensor) -> Tensor:
        """The pose (4, 4) of keyframe `row` with its correction."""
        out = T_scene_camera.clone()
        correction = self.table[row].to(device='cpu', dtype=out.dtype)
        out[:3, :3] = rotation_matrix(correction[None, 3:])[0] @ out[:3, :3]
        out[:3, 3] += correction[:3]
        return out


COVERAGE_RAYS = 256   # rays of a keyframe that tell whether it shows new area


class RadianceLearner:
    """Owns the radiance field, its optimisers, the pose corrections and the keyframes' pixels."""

    def __init__(self, config: LerfConfig, scene: SceneFrame, device: torch.device,
                 generator: torch.Generator) -> None:
        rows = config.keyframes.max_count
        self.config, self.generator = config, generator
        self.store = KeyframeStore(scene, device)
        self.field = RadianceField(config.field, rows).to(device)
        self.poses = PoseRefinement(rows, config.poses).to(device) if config.poses.refine else None
        self.annealing = Annealing(config.training, device)
        self.coverage = Coverage(device)
        self.schedule = ProposalSchedule(config.training)
        self.descent = Descent(self._groups(), device, config.training.mixed_precision)
        self.steps = self.newest_step = 0
        self.rays = config.training.rays    # a step; fewer where the memory does not hold them

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
                p.learning_rate, p.final_learning_rate, p.decay_steps), c.beta2))
        return groups

    def add(self, keyframe: Keyframe) -> None:
        """Takes a keyframe into training."""
        self.store.add(keyframe)
        shown = self.store.grid_of(len(self.store) - 1, COVERAGE_RAYS)
        fresh = self.coverage.add(shown.rays)
        self.annealing.add(self.steps, fresh > self.config.training.new_area)
        if self.field.appearance is not None:
            self.field.appearance.add_row()
        self.newest_step = self.steps

    def replace(self, row: int, keyframe: Keyframe) -> None:
        """Takes a keyframe into training in the place of one that is forgotten."""
        self.store.replace(row, keyframe)
        fresh = self.coverage.add(self.store.grid_of(row, COVERAGE_RAYS).rays)
        self.annealing.replace(row, self.steps, fresh > self.config.training.new_area)
        if self.field.appearance is not None:
            self.field.appearance.reset_row(row)
        if self.poses is not None:
            self.poses.reset_row(row)
        self.newest_step = self.steps

    def move(self, row: int, T_world_camera: np.ndarray) -> None:
        """A better pose (4, 4) has come for the keyframe in `row`."""
        self.store.set_pose(row, T_world_camera)
        if self.poses is not None:
            self.poses.reset_row(row)

    def draw(self) -> PixelBatch:
        """Draws random pixels of keyframes, with their rays and what was measured there."""
        batch = share(self.store.draw(self.rays, self.newest_fraction(),
                                      self.config.training.newest_count, self.generator))
        if self.poses is None:
            return batch
        return replace(batch, rays=self.poses(batch.rays, batch.keyframe))

    def render(self, batch: PixelBatch) -> RenderedRays:
        """Renders the rays of a batch, with gradients."""
        plan = SamplingPlan(True, self.annealing.sharpness(batch.keyframe, self.steps),
                            self.schedule.due(self.steps))
        with self.descent.autocast():
            return self.field(batch.rays, plan, batch.keyframe)

    def descend(self, loss: Tensor) -> float:
        """Moves the field down a loss; returns it."""
        loss = self.descent.step(loss, self.steps)
        self.steps += 1
        return float(loss)

    def step(self) -> float:
        """Takes one step of this field alone; returns its loss."""
        batch = self.draw()
        return self.descend(self.loss(self.render(batch), batch)[0])

    def loss(self, rendered: RenderedRays, batch: PixelBatch) -> tuple[Tensor, Tensor]:
        """The whole loss, and the colour part of it."""
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

    def refined(self, row: int, T_scene_camera: np.ndarray) -> np.ndarray:
        """The pose (4, 4) of the keyframe in `row` with its correction; as it is for row -1."""
        if self.poses is None or row < 0:
            return T_scene_camera
        return self.poses.corrected(row, torch.from_numpy(T_scene_camera)).numpy()

    def newest_fraction(self) -> float:
        """Part of the batch from the newest keyframes: fades out once no more of them come."""
        c = self.config.training
        return c.newest_fraction * max(0.0, 1 - (self.steps - self.newest_step) / c.newest_steps)
