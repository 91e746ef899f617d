# SPDX-License-Identifier: Apache-2.0
"""The running mean of a module's weights: less noise than those of any one step."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

EVERY = 4          # steps between two updates: the mean needs no more of them
EARLY_SHARE = 10   # early on, when weights still move far, it is over the last tenth of the steps

Module = TypeVar('Module', bound=nn.Module)


class WeightAverage(Generic[Module]):
    """Owns a copy of the module with the exponential mean of its weights (Polyak averaging).

    A hash grid's entries jump with every batch; what they say in the mean is what was learned.
    """

    def __init__(self, module: Module, window: int) -> None:
        """window: steps that the mean is over, about; 1 keeps the weights themselves."""
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.window = window

    @torch.no_grad()
    def update(self, module: Module, step: int) -> None:
        """Takes in the weights after a step, counted from 0."""
        if step % EVERY and self.window > 1:
            return
        share = min(1.0, EVERY / max(1.0, min(self.window, (step + 1) / EARLY_SHARE)))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), share)
