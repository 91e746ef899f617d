# SPDX-License-Identifier: Apache-2.0
"""The radiance field: density and colour from a hash grid, with proposal grids before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lerf_ros.config import FieldConfig
from lerf_ros.field.hash_encoding import HashEncoding
from lerf_ros.field.networks import Appearance, network, spherical_harmonics, truncated_exp
from lerf_ros.field.ray_sampling import (
    Rays,
    SamplingPlan,
    first_edges,
    guide,
    jitter,
    nearest_samples,
    resample,
)
from lerf_ros.field.volume_rendering import median_distance, render_color, render_weights
from lerf_ros.geometry.scene_frame import contract


class ProposalField(nn.Module):
    """A small density field that tells the next one where to sample."""

    def __init__(self, config: FieldConfig, max_resolution: int) -> None:
        super().__init__()
        self.config = config
        self.encoding = HashEncoding(
            config.proposal_levels, 16, max_resolution, config.proposal_log2_table,
            config.proposal_features)
        self.network = network(self.encoding.output_dimension, config.proposal_hidden, 1, 1)

    def forward(self, positions: Tensor) -> Tensor:
        """Computes density (R, S) at scene positions (R, S, 3)."""
        inside = contract(positions, self.config.contraction).reshape(-1, 3)
        raw = self.network(self.encoding(inside))[:, 0]
        return density(raw, self.config).reshape(positions.shape[:-1])


def density(raw: Tensor, config: FieldConfig) -> Tensor:
    """Computes density of a network's output: config.initial_density where that is zero."""
    return truncated_exp(raw + math.log(config.initial_density))


@dataclass(frozen=True)
class RenderedRays:
    """Rendered color (R, 3) in 0..1, distance (R,) and accumulation (R,) of R rays.

    weights (R, S) of the samples between edges (R, S + 1), scene radii; proposals: (weights, edges)
    of each proposal field.
    """

    color: Tensor
    distance: Tensor
    accumulation: Tensor
    weights: Tensor
    edges: Tensor
    proposals: tuple[tuple[Tensor, Tensor], ...]


class RadianceField(nn.Module):
    """Density and view-dependent colour, sampled through proposals (nerfacto)."""

    def __init__(self, config: FieldConfig, keyframes: int, skipped: float = 0.0) -> None:
        """keyframes: the most that can have an appearance of their own, where that is on.

        skipped: part of the way of a ray to the scene that is not sampled (SceneFrame).
        """
        super().__init__()
        self.skipped = skipped
        self.config = c = config
        self.proposals = nn.ModuleList(
            ProposalField(c, resolution) for resolution in c.proposal_resolutions)
        self.encoding = HashEncoding(c.levels, c.base_resolution, c.max_resolution, c.log2_table,
                                     c.features)
        self.density_network = network(self.encoding.output_dimension, c.hidden, c.layers,
                                       1 + c.geometry_features)
        self.appearance = Appearance(keyframes, c.appearance) if c.appearance else None
        self.color_network = network(c.harmonics ** 2 + c.geometry_features + c.appearance,
                                     c.color_hidden, c.color_layers, 3)

    def sample(self, rays: Rays,
               plan: SamplingPlan) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        """Samples rays: returns final edges (R, S + 1), and weights and edges of each proposal.

        Their losses reach no poses: how well a proposal bounds the histogram says nothing of these,
        and summed over the samples it would be a tenth of the colour's gradient.
        """
        c, proposals = self.config, []
        edges = first_edges(rays, nearest_samples(rays, c.near, self.skipped), c.far,
                            c.proposal_samples[0],
                            self._shift(rays, c.proposal_samples[0] - 1, plan))
        for level, proposal in enumerate(self.proposals):
            with torch.set_grad_enabled(plan.learn_proposals and torch.is_grad_enabled()):
                weights = render_weights(proposal(rays.at(edges).detach()), edges)
            proposals.append((weights, edges))
            guided = c.guided_share if plan.train else 0.0
            soft = weights.detach() ** _column(plan.sharpness)
            histogram = guide(soft, edges, rays.depth, guided, c.guided_width)
            count = (*c.proposal_samples, c.samples)[level + 1]
            edges = resample(edges, histogram, count, c.histogram_padding,
                             self._shift(rays, count + 1, plan))
        return edges, tuple(proposals)

    def _shift(self, rays: Rays, samples: int, plan: SamplingPlan) -> Tensor | None:
        if not plan.train:
            return None
        return jitter(len(rays), samples, self.config.single_jitter, rays.origins.device)

    def forward(self, rays: Rays, plan: SamplingPlan | None = None,
                keyframe: Tensor | None = None) -> RenderedRays:
        """Renders rays as `plan` says, with the appearance of keyframe rows (R,) or the mean."""
        plan = plan or SamplingPlan()
        edges, proposals = self.sample(rays, plan)
        positions = rays.at(edges)
        shape = positions.shape[:-1]
        raw = self.density_network(
            self.encoding(contract(positions, self.config.contraction).reshape(-1, 3)))
        weights = render_weights(density(raw[:, 0], self.config).reshape(shape), edges)
        view = self.view_features(rays, keyframe)[:, None].expand(*shape, -1)
        inputs = torch.cat([view.reshape(len(raw), -1), raw[:, 1:].to(view.dtype)], -1)
        colors = torch.sigmoid(self.color_network(inputs).float()).reshape(*shape, 3)
        return RenderedRays(render_color(weights, colors, self.background(colors, plan)),
                            median_distance(weights, edges), weights.sum(-1), weights, edges,
                            proposals)

    def view_features(self, rays: Rays, keyframe: Tensor | None) -> Tensor:
        """Computes the inputs (R, C) that a ray's samples share: direction and appearance."""
        harmonics = spherical_harmonics(rays.directions, self.config.harmonics)
        if self.appearance is None:
            return harmonics
        return torch.cat([harmonics, self.appearance(keyframe, len(rays))], -1)

    def background(self, colors: Tensor, plan: SamplingPlan) -> Tensor:
        """Returns the colour (R, 3) behind the samples (R, S, 3) of each ray."""
        if self.config.background == 'last_sample':
            return colors[:, -1]
        # Noise in training: only surfaces can explain colour then.
        noise = plan.train and self.config.background == 'random'
        return torch.rand_like(colors[:, 0]) if noise else torch.zeros_like(colors[:, 0])


def _column(value: Tensor | float) -> Tensor | float:
    return value[:, None] if isinstance(value, Tensor) else value
