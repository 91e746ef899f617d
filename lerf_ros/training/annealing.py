# SPDX-License-Identifier: Apache-2.0
"""When proposals are sharp, and when they learn (nerfacto's schedules, made for a moving robot)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lerf_ros.config import TrainingConfig
from lerf_ros.field.ray_sampling import Rays
from lerf_ros.geometry.scene_frame import contract
from lerf_ros.training.ray_batches import GrowingTensor

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


class Annealing:
    """The sharpness of the proposals of each keyframe's rays.

    nerfacto raises the proposals' weights to a power that goes from 0 to 1 over the first steps,
    so that rays look everywhere before anything is known. Here the clock starts again with each
    keyframe that shows new area, for its rays and those of the keyframes after it.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.starts = GrowingTensor((), torch.int64, device)

    def add(self, step: int, new_area: bool) -> None:
        """The next keyframe comes at `step`."""
        start = step if new_area or not len(self.starts) else int(self.starts.rows[-1])
        self.starts.append(torch.tensor([start]))

    def replace(self, row: int, step: int, new_area: bool) -> None:
        """A keyframe comes at `step` in the place of another one."""
        latest = int(self.starts.rows.max())
        self.starts.rows[row] = step if new_area else latest

    def sharpness(self, keyframe: Tensor, step: int) -> Tensor | float:
        """Power (R,) in 0..1 for rays of keyframe rows (R,); b x / ((b - 1) x + 1)."""
        steps, b = self.config.anneal_steps, self.config.anneal_slope
        if not steps:
            return 1.0
        x = ((step - self.starts.rows[keyframe]).float() / steps).clamp(0, 1)
        return b * x / ((b - 1) * x + 1)


class ProposalSchedule:
    """Proposals learn at every step at first, later at every few (nerfstudio's sampler)."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.since = 0

    def due(self, step: int) -> bool:
        """Whether the proposals learn at this step; to be asked once a step."""
        c = self.config
        self.since += 1
        gap = np.clip(np.interp(step, [0, c.proposal_warmup], [0, c.proposal_every]), 1,
                      c.proposal_every)
        # nerfstudio counts the steps before its callback: in the end each every-th plus one.
        if step >= 10 and self.since <= gap:
            return False
        self.since = 0
        return True
