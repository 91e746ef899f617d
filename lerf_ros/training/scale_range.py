# SPDX-License-Identifier: Apache-2.0
"""Which scales the language field was trained at: only those may be searched."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOW, HIGH, BINS = 1e-4, 1e3, 280   # scene radii; 40 bins a decade, 6 % wide each
TAIL = 0.1                         # part at either end that is too rare to rely on


class ScaleRange:
    """A histogram of the scales of all samples that were trained."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, scales: Tensor) -> None:
        """Counts scales of any shape, scene radii; those that are not positive are left out."""
        part = (torch.log(scales[scales > 0] / LOW) / math.log(HIGH / LOW) * BINS).long()
        self.counts += torch.bincount(part.clamp(0, BINS - 1), minlength=BINS)

    def limits(self) -> tuple[float, float]:
        """The scales between which most were trained, scene radii; (LOW, HIGH) before any."""
        share = self.counts.cumsum(0) / self.counts.sum().clamp_min(1)
        if not share[-1]:
            return LOW, HIGH
        first = int((share < TAIL).sum())
        last = int((share < 1 - TAIL).sum())
        width = math.log(HIGH / LOW) / BINS
        return LOW * math.exp(first * width), LOW * math.exp((last + 1) * width)
