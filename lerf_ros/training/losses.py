# SPDX-License-Identifier: Apache-2.0
"""The losses: functions of rendered rays and of what was measured or encoded there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lerf_ros.field.ray_sampling import spacing

MIN_WEIGHT = 1e-3   # sum of the weights that a ray must have for its language to count


def color_loss(rendered: Tensor, measured: Tensor) -> Tensor:
    """Computes the mean squared error of colours (R, 3) in 0..1; PSNR is -10 log10 of it."""
    return functional.mse_loss(rendered, measured)


def depth_loss(weights: Tensor, edges: Tensor, depth: Tensor, width: float) -> Tensor:
    """Penalises light that stops before the measured distance, or passes it (URF, section 3.3).

    weights (R, S) between edges (R, S + 1); depth (R,), NaN where unknown; width of the zone
    around the surface. In empty space: squared weights of the samples before the zone. At the
    surface: the square of the light that the zone does not stop. Zero where no depth is known.
    """
    known = torch.isfinite(depth)
    target = torch.where(known, depth, torch.zeros_like(depth))[:, None]
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    length = edges[:, 1:] - edges[:, :-1]
    # A zone narrower than the samples would be missed by all of them.
    zone = (middle - target).abs() <= torch.maximum(torch.full_like(length, width), length)
    before = (middle < target) & ~zone
    empty = (weights.square() * before).sum(-1)
    surface = (1 - (weights * zone).sum(-1)).square()
    return ((empty + surface) * known).sum() / known.sum().clamp_min(1)


def outer_bound(weights: Tensor, edges: Tensor, intervals: Tensor) -> Tensor:
    """Sums the weights (R, I) of all bins that touch each interval (mip-NeRF 360, eq. 12).

    weights (R, P) between edges (R, P + 1); intervals (R, I + 1) are edges too.
    """
    cumulative = torch.cat([torch.zeros_like(weights[:, :1]), weights.cumsum(-1)], -1)
    last = edges.shape[1] - 1
    low = torch.searchsorted(edges, intervals[:, :-1].contiguous(), right=True) - 1
    high = torch.searchsorted(edges, intervals[:, 1:].contiguous(), right=False)
    return cumulative.gather(1, high.clamp(0, last)) - cumulative.gather(1, low.clamp(0, last))


def interlevel_loss(weights: Tensor, edges: Tensor,
                    proposals: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    """Penalises proposals that do not bound the final histogram (mip-NeRF 360, eq. 13)."""
    weights, edges = weights.detach(), edges.detach()
    total = weights.new_zeros(())
    for proposal, proposal_edges in proposals:
        lack = (weights - outer_bound(proposal, proposal_edges.contiguous(), edges)).clamp_min(0)
        total = total + (lack.square() / (weights + 1e-7)).sum(-1).mean()
    return total


def distortion_loss(weights: Tensor, edges: Tensor) -> Tensor:
    """Penalises weights that spread along a ray (mip-NeRF 360, eq. 15), in `spacing` units."""
    s = spacing(edges)
    middle, length = (s[:, 1:] + s[:, :-1]) / 2, s[:, 1:] - s[:, :-1]
    # sum_ij w_i w_j |m_i - m_j| for sorted m, from running sums instead of all pairs.
    before = weights.cumsum(-1) - weights
    moment = (weights * middle).cumsum(-1) - weights * middle
    pairs = 2 * (weights * (middle * before - moment)).sum(-1)
    return (pairs + (weights.square() * length).sum(-1) / 3).mean()


def embedding_loss(rendered: Tensor, target: Tensor, weights: Tensor, kind: str = 'cosine',
                   delta: float = 1.25) -> Tensor:
    """Computes the mean distance of unit embeddings (R, D) to targets of any length (R, D).

    kind: cosine (the paper: 1 - cosine) or huber (the released code: summed over the dimensions).
    weights (R, k): rays that met nothing do not count, nor do targets that are not finite.
    """
    seen, target = _seen(target, weights)
    if kind == 'cosine':
        loss = 1 - functional.cosine_similarity(rendered, target, dim=-1, eps=1e-6)
    else:
        loss = functional.huber_loss(rendered, target, reduction='none', delta=delta).sum(-1)
    return _mean(loss, seen)


def dense_loss(rendered: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Computes the mean squared distance of dense features (R, C) (LERF's DINO loss)."""
    seen, target = _seen(target, weights)
    return _mean((rendered - target).square().sum(-1), seen)


def _seen(target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns which rays (R,) met something and have a finite target, and zeros for other targets.

    In LERF, which divides by the norm of what a ray rendered, an empty ray makes the step NaN.
    Targets that are not finite are replaced before the loss: the gradient of 0 times NaN is NaN.
    """
    seen = (weights.sum(-1) > MIN_WEIGHT) & torch.isfinite(target).all(-1)
    return seen, torch.where(seen[:, None], target, torch.zeros_like(target))


def _mean(loss: Tensor, seen: Tensor) -> Tensor:
    return torch.where(seen, loss, torch.zeros_like(loss)).sum() / seen.sum().clamp_min(1)
