# SPDX-License-Identifier: Apache-2.0
"""Where a field is sampled along rays: piecewise first, then where the last proposal was dense."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingPlan:
    """How rays are sampled: evenly for an image, with jitter to `train`.

    sharpness: the power of the proposals' weights, 1 or (R,) in 0..1 by ray (nerfacto's annealing,
    which samples everywhere at first). learn_proposals: whether proposals get gradients.
    """

    train: bool = False
    sharpness: Tensor | float = 1.0
    learn_proposals: bool = False


@dataclass(frozen=True)
class Rays:
    """R rays: origins (R, 3) and unit directions (R, 3) in the scene frame.

    depth: (R,) measured distance along the ray, scene radii, NaN where unknown; None for no ray.
    """

    origins: Tensor
    directions: Tensor
    depth: Tensor | None = None

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, item: slice | Tensor) -> Rays:
        return Rays(self.origins[item], self.directions[item],
                    None if self.depth is None else self.depth[item])

    def at(self, edges: Tensor) -> Tensor:
        """Returns the midpoints (R, S, 3) of the intervals between edges (R, S + 1)."""
        middle = (edges[:, 1:] + edges[:, :-1]) / 2
        return self.origins[:, None] + middle[..., None] * self.directions[:, None]


def spacing(distance: Tensor) -> Tensor:
    """Maps distance to [0, 1): linear up to distance 1, then linear in disparity (nerfacto)."""
    return torch.where(distance < 1, distance / 2, 1 - 1 / (2 * distance.clamp_min(1)))


def unspacing(s: Tensor) -> Tensor:
    """Inverts `spacing`."""
    return torch.where(s < 0.5, 2 * s, 1 / (2 - 2 * s).clamp_min(1e-6))


def jitter(rays: int, samples: int, single: bool, device: torch.device) -> Tensor:
    """Draws shifts in -0.5..0.5: (rays, 1) for all samples of a ray, or (rays, samples)."""
    return torch.rand(rays, 1 if single else samples, device=device) - 0.5


def nearest_samples(rays: Rays, near: float, skipped: float) -> Tensor | float:
    """Returns how near to their origins rays are sampled (R, 1), scene radii: from `near` to 1.

    Where no depth is known and a ray begins outside of the cube around the scene, that is a part
    `skipped` of its way there: else a camera with a long lens spends its samples on empty space.
    One number for all rays where nothing is skipped.
    """
    if not skipped:
        return near
    outside = torch.linalg.vector_norm(rays.origins.detach(), torch.inf, -1, keepdim=True)
    nearest = (skipped * outside - skipped).clamp(near, 1.0)
    # A depth that is not known is NaN, which is not above 0.
    return nearest if rays.depth is None else torch.where(rays.depth[:, None] > 0, near, nearest)


def first_edges(rays: Rays, near: Tensor | float, far: float, samples: int,
                shift: Tensor | None) -> Tensor:
    """Returns edges (R, samples + 1) even in `spacing`; inner ones move by `shift` intervals.

    near: (R, 1) or one for all, at most 1 scene radius. shift: (R, 1) or (R, samples - 1) in
    -0.5..0.5, or None.
    """
    low = near / 2      # its `spacing`
    span = float(spacing(torch.tensor(far))) - low      # `far` is not copied to a GPU
    u = torch.linspace(0, 1, samples + 1, device=rays.origins.device).expand(len(rays), -1)
    if shift is not None:
        u = torch.cat([u[:, :1], u[:, 1:-1] + shift / samples, u[:, -1:]], 1)
    return unspacing(low + span * u)


def resample(edges: Tensor, weights: Tensor, samples: int, padding: float,
             shift: Tensor | None) -> Tensor:
    """Draws edges (R, samples + 1) from the histogram of edges (R, S + 1) and weights (R, S).

    Inverse transform sampling in `spacing` coordinates; gradients stop here, as in mip-NeRF 360.
    padding is added to each weight; shift: (R, 1) or (R, samples + 1) in -0.5..0.5, or None.
    """
    weights = weights.detach() + padding
    cdf = torch.cat([torch.zeros_like(weights[:, :1]), weights.cumsum(-1)], -1)
    cdf = cdf / cdf[:, -1:]
    u = (torch.arange(samples + 1, device=edges.device) + 0.5) / (samples + 1)
    u = u.expand(len(edges), -1)
    if shift is not None:
        u = u + shift / (samples + 1)
    s = spacing(edges)
    right = torch.searchsorted(cdf, u.contiguous(), right=True).clamp(1, weights.shape[1])
    low, high = cdf.gather(1, right - 1), cdf.gather(1, right)
    part = ((u - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    a, b = s.gather(1, right - 1), s.gather(1, right)
    return unspacing(a + part * (b - a)).detach()


def guide(weights: Tensor, edges: Tensor, depth: Tensor | None, part: float,
          width: float) -> Tensor:
    """Mixes a bell at the measured depth into a histogram, for rays that have one.

    weights (R, S) between edges (R, S + 1); depth (R,), NaN for unknown; width of the bell, in the
    same unit. A depth camera knows where the surface is: `part` of the samples go there.
    """
    if depth is None or part <= 0:
        return weights
    z = (edges - depth[:, None]) / width
    cdf = 0.5 * (1 + torch.erf(z / 2 ** 0.5))
    bell = cdf[:, 1:] - cdf[:, :-1]
    known = torch.isfinite(depth)[:, None]
    total = weights.sum(-1, keepdim=True)
    mixed = (1 - part) * weights + part * total.clamp_min(0.1) * bell
    return torch.where(known, mixed, weights)
