# SPDX-License-Identifier: Apache-2.0
"""How sharp proposals are, when they learn and when all rests: schedules for a moving robot."""

from __future__ import annotations

import math

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


class VisitedSpace:
    """Cells of contracted space that rays of keyframes have passed."""

    def __init__(self, device: torch.device) -> None:
        self.cells = torch.zeros(CELLS ** 3, dtype=torch.bool, device=device)

    def add(self, rays: Rays) -> float:
        """Marks the cells along the rays; returns the part of them that was not marked before."""
        cells = torch.unique(_cells(rays))
        fresh = float((~self.cells[cells]).float().mean()) if len(cells) else 0.0
        self.cells[cells] = True
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
    """Decides how sharp the proposals of each keyframe's rays are.

    nerfacto raises the proposals' weights to a power that goes from 0 to 1 over the first steps,
    so that rays look everywhere before anything is known. Here the clock starts again with each
    keyframe that shows new area, for its rays and those of the keyframes after it.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.starts = GrowingTensor((), torch.int64, device)

    def put(self, row: int, step: int, new_area: bool) -> None:
        """Starts the clock of a row whose keyframe came at `step`."""
        start = step if new_area or not len(self.starts) else int(self.starts.rows.max())
        self.starts.write(row, torch.tensor([start]))

    def sharpness(self, keyframe: Tensor, step: int) -> Tensor | float:
        """Returns the power (R,) in 0..1 for rays of keyframe rows (R,): b x / ((b - 1) x + 1)."""
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
        """Returns whether the proposals learn at this step; to be called once a step."""
        c = self.config
        self.since += 1
        gap = np.clip(np.interp(step, [0, c.proposal_warmup], [0, c.proposal_every]), 1,
                      c.proposal_every)
        # nerfstudio counts the steps before its callback: later the gap is proposal_every + 1.
        if step >= 10 and self.since <= gap:
            return False
        self.since = 0
        return True


def steps_to_rest(config: TrainingConfig, newest: int, steps: int) -> float:
    """Returns how many steps are left until training rests, inf where it never does.

    newest: steps before the newest keyframe, which count for up to half of config.settle_steps.
    """
    limit = config.settle_steps
    if not limit:
        return math.inf
    return max(max(limit - newest, math.ceil(limit / 2)) - (steps - newest), 0)
