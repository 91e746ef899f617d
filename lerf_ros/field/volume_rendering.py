# SPDX-License-Identifier: Apache-2.0
"""Volume rendering: weights from densities along rays, and images from weights."""

from __future__ import annotations

import torch
from torch import Tensor


def render_weights(density: Tensor, edges: Tensor) -> Tensor:
    """Computes weights (R, S) of intervals with density (R, S) between edges (R, S + 1).

    alpha = 1 - exp(-density * length); weight = alpha * product of earlier (1 - alpha) (NeRF,
    equation 3). Their sum is at most 1: the rest of the light passes through.
    """
    optical = density * (edges[:, 1:] - edges[:, :-1])
    transmittance = torch.exp(-(optical.cumsum(-1) - optical))
    return torch.nan_to_num((1 - torch.exp(-optical)) * transmittance)


def render_color(weights: Tensor, colors: Tensor, background: Tensor) -> Tensor:
    """Renders colours (R, 3) of samples (R, S, 3) in front of a background (R, 3)."""
    rest = 1 - weights.sum(-1, keepdim=True)
    return (weights[..., None] * colors).sum(-2) + rest * background


def median_distance(weights: Tensor, edges: Tensor) -> Tensor:
    """Computes the distance (R,) at which half of the light is stopped, interpolated.

    It is the last edge where less than half is ever stopped.
    """
    cumulative = weights.cumsum(-1)
    reached = cumulative >= 0.5
    index = torch.where(reached.any(-1), reached.float().argmax(-1),
                        torch.full_like(reached[:, 0], weights.shape[1] - 1, dtype=torch.long))
    at = index[:, None]
    before = cumulative.gather(1, at) - weights.gather(1, at)
    part = ((0.5 - before) / weights.gather(1, at).clamp_min(1e-9)).clamp(0, 1)
    low, high = edges.gather(1, at), edges.gather(1, at + 1)
    return (low + part * (high - low))[:, 0]


def render_unit(weights: Tensor, embeddings: Tensor) -> Tensor:
    """Renders the weighted sum (R, D) of unit embeddings (R, S, D), normalised again.

    A ray without weight yields zeros (LERF divides by the norm and can yield NaN).
    """
    total = (weights[..., None] * embeddings).sum(-2)
    return total / total.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def strongest(weights: Tensor, edges: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns weights (R, k) and mid distances (R, k) of each ray's k heaviest samples (LERF)."""
    top = weights.detach().topk(min(count, weights.shape[1]), dim=-1)
    middle = ((edges[:, 1:] + edges[:, :-1]) / 2).detach()
    return top.values, middle.gather(1, top.indices)
