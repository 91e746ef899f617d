# SPDX-License-Identifier: Apache-2.0
"""Which space the keyframes have shown, coarsely: enough to notice a new room."""

from __future__ import annotations

import torch
from torch import Tensor

from lerf_ros.field.ray_sampling import Rays
from lerf_ros.field.scene_frame import contract

CELLS = 32        # along each edge of contracted space
SAMPLES = 16      # along each ray
REACH = 3.0       # scene radii looked at along rays without measured depth


class Coverage:
    """Cells of contracted space that rays have passed."""

    def __init__(self, device: torch.device) -> None:
        self.seen = torch.zeros(CELLS ** 3, dtype=torch.bool, device=device)

    def add(self, rays: Rays) -> float:
        """Marks the cells along the rays; the part of them that no earlier rays had passed."""
        cells = torch.unique(_cells(rays))
        fresh = float((~self.seen[cells]).float().mean()) if len(cells) else 0.0
        self.seen[cells] = True
        return fresh


def _cells(rays: Rays) -> Tensor:
    depth = rays.depth if rays.depth is not None else torch.full_like(rays.origins[:, 0],
                                                                      float('nan'))
    reach = torch.where(torch.isfinite(depth), depth, torch.full_like(depth, REACH))
    part = (torch.arange(SAMPLES, device=reach.device) + 0.5) / SAMPLES
    points = rays.origins[:, None] + (reach[:, None] * part)[..., None] * rays.directions[:, None]
    x, y, z = (contract(points) * CELLS).long().clamp(0, CELLS - 1).reshape(-1, 3).unbind(-1)
    return (x * CELLS + y) * CELLS + z
