# SPDX-License-Identifier: Apache-2.0
"""What the world looks like: density and colour from a hash grid, with proposal grids ahead."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lerf_ros.config import FieldConfig
from lerf_ros.field.hash_encoding import HashEncoding
from lerf_ros.field.ray_sampling import Rays, first_edges, guide, resample
from lerf_ros.field.scene_frame import contract
from lerf_ros.field.volume_rendering import median_distance, render_color, render_weights

PROPOSAL_LEVELS, PROPOSAL_FEATURES, PROPOSAL_HIDDEN = 5, 2, 16   # nerfacto's proposal networks
GUIDED_SHARE = 0.5       # of the samples of a ray whose depth is known
GUIDED_WIDTH = 0.03      # scene radii
DENSITY_BIAS = -1.0      # the empty start is a little transparent, so that gradients reach far


class _TruncatedExp(torch.autograd.Function):
    """exp with its gradient clamped at exp(15) (instant-ngp)."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=15))

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        (x,) = ctx.saved_tensors
        return grad * torch.exp(x.clamp(-15, 15))


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Real spherical harmonics to degree 3 (R, 16) of unit directions (R, 3)."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack([
        torch.full_like(x, 0.28209479), -0.48860251 * y, 0.48860251 * z, -0.48860251 * x,
        1.09254843 * x * y, -1.09254843 * y * z, 0.31539157 * (3 * zz - 1), -1.09254843 * x * z,
        0.54627422 * (xx - yy), -0.59004359 * y * (3 * xx - yy), 2.89061144 * x * y * z,
        -0.45704580 * y * (5 * zz - 1), 0.37317633 * z * (5 * zz - 3),
        -0.45704580 * x * (5 * zz - 1), 1.44530572 * z * (xx - yy),
        -0.59004359 * x * (xx - 3 * yy)], -1)


class ProposalField(nn.Module):
    """A small density field that tells the next one where to look."""

    def __init__(self, max_resolution: int, log2_table: int) -> None:
        super().__init__()
        self.encoding = HashEncoding(PROPOSAL_LEVELS, 16, max_resolution, log2_table,
                                     PROPOSAL_FEATURES)
        self.network = nn.Sequential(
            nn.Linear(self.encoding.output_dimension, PROPOSAL_HIDDEN), nn.ReLU(),
            nn.Linear(PROPOSAL_HIDDEN, 1))

    def forward(self, positions: Tensor) -> Tensor:
        """Density (R, S) at scene positions (R, S, 3)."""
        features = self.encoding(contract(positions).reshape(-1, 3))
        density = _TruncatedExp.apply(self.network(features)[:, 0] + DENSITY_BIAS)
        return density.reshape(positions.shape[:-1])


@dataclass(frozen=True)
class RenderedRays:
    """What R rays see: colour (R, 3) in 0..1, distance (R,), accumulation (R,), and the samples.

    weights (R, S) between edges (R, S + 1), in scene radii; proposals: (weights, edges) of each.
    """

    color: Tensor
    distance: Tensor
    accumulation: Tensor
    weights: Tensor
    edges: Tensor
    proposals: tuple[tuple[Tensor, Tensor], ...]


class RadianceField(nn.Module):
    """Density and view-dependent colour, sampled through proposals (nerfacto)."""

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        self.proposals = nn.ModuleList(
            ProposalField(resolution, config.log2_table)
            for resolution in config.proposal_resolutions)
        self.encoding = HashEncoding(config.levels, config.base_resolution, config.max_resolution,
                                     config.log2_table, config.features)
        self.density_network = nn.Sequential(
            nn.Linear(self.encoding.output_dimension, config.hidden), nn.ReLU(),
            nn.Linear(config.hidden, 1 + config.geometry_features))
        self.color_network = nn.Sequential(
            nn.Linear(16 + config.geometry_features, config.hidden), nn.ReLU(),
            nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 3))

    def sample(self, rays: Rays, train: bool) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        """Final edges (R, S + 1), and weights and edges of each proposal."""
        c, proposals = self.config, []
        edges = first_edges(rays, c.near, c.far, c.proposal_samples[0], train)
        for level, proposal in enumerate(self.proposals):
            weights = render_weights(proposal(rays.at(edges)), edges)
            proposals.append((weights, edges))
            share = GUIDED_SHARE if train else 0.0
            histogram = guide(weights.detach(), edges, rays.depth, share, GUIDED_WIDTH)
            count = (*c.proposal_samples, c.samples)[level + 1]
            edges = resample(edges, histogram, count, train)
        return edges, tuple(proposals)

    def forward(self, rays: Rays, train: bool = False) -> RenderedRays:
        """Renders rays; `train` jitters the samples and lets measured depth guide them."""
        edges, proposals = self.sample(rays, train)
        positions = rays.at(edges)
        raw = self.density_network(self.encoding(contract(positions).reshape(-1, 3)))
        density = _TruncatedExp.apply(raw[:, 0] + DENSITY_BIAS).reshape(positions.shape[:-1])
        weights = render_weights(density, edges)
        view = spherical_harmonics(rays.directions)[:, None].expand(-1, positions.shape[1], -1)
        inputs = torch.cat([view.reshape(-1, 16), raw[:, 1:]], -1)
        colors = torch.sigmoid(self.color_network(inputs)).reshape(*positions.shape[:-1], 3)
        # Light that passes everything meets noise in training, so that only surfaces explain
        # colour; nerfacto's "last sample" background lets the field stay transparent.
        background = torch.rand_like(rays.origins) if train else torch.zeros_like(rays.origins)
        return RenderedRays(render_color(weights, colors, background),
                            median_distance(weights, edges), weights.sum(-1), weights, edges,
                            proposals)
