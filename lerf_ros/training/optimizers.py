# SPDX-License-Identifier: Apache-2.0
"""Parameter groups, each with an optimiser and a learning rate that falls to a floor."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from lerf_ros.training.devices import average_gradients, processes

EVERY = 4          # steps between two updates of the mean
EARLY_PART = 10    # early on, when weights still move far, the mean is over the last tenth of steps

Module = TypeVar('Module', bound=nn.Module)


class WeightAverage(Generic[Module]):
    """Holds a module with the exponential mean of another's weights (Polyak averaging).

    A hash grid's entries jump with every batch; their mean holds what was learned.
    """

    def __init__(self, module: Module, window: int) -> None:
        """window: about how many steps the mean is over; over 1 it is the module itself."""
        self.module = copy.deepcopy(module).requires_grad_(False) if window > 1 else module
        self.window = window

    @torch.no_grad()
    def update(self, module: Module, step: int) -> None:
        """Updates the mean with the weights after a step, counted from 0."""
        if step % EVERY or self.window == 1:
            return
        weight = min(1.0, EVERY / max(1.0, min(self.window, (step + 1) / EARLY_PART)))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), weight)


@dataclass(frozen=True)
class Decay:
    """A learning rate that decays exponentially from `first` to `last` over `steps` steps.

    It then stays, so that the last room is learned as well as the first. Before step `start` it is
    zero.
    """

    first: float
    last: float
    steps: int
    start: int = 0

    def at(self, step: int) -> float:
        """Returns the rate of a step."""
        if step < self.start:
            return 0.0
        return float(self.first * (self.last / self.first) ** min(step / self.steps, 1.0))


class ParameterGroup:
    """Owns the optimiser of some parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter], kind: str, decay: Decay, beta2: float,
                 weight_decay: float = 0.0) -> None:
        """kind: adam or radam (config.method.OPTIMIZERS)."""
        self.decay = decay
        make = {'adam': torch.optim.Adam, 'radam': torch.optim.RAdam}[kind]
        values = list(parameters)
        # RAdam has no fused version; there, one kernel for all parameters saves time.
        fast = {'fused': True} if kind == 'adam' else {'foreach': True}
        # On a GPU a fused step skips losses that are not finite by itself, and can be captured as
        # a CUDA graph; its rate must then lie on the GPU too.
        self.skips_itself = kind == 'adam' and values[0].device.type == 'cuda'
        rate: Tensor | float = decay.at(0)
        if self.skips_itself:
            fast['capturable'] = True
            rate = torch.tensor(decay.at(0), device=values[0].device)
        self.optimizer = make(values, lr=rate, eps=1e-15, betas=(0.9, beta2),
                              weight_decay=weight_decay, **fast)

    def set_rate(self, step: int) -> None:
        """Sets the learning rate of a step."""
        for entry in self.optimizer.param_groups:
            if isinstance(entry['lr'], Tensor):
                entry['lr'].fill_(self.decay.at(step))
            else:
                entry['lr'] = self.decay.at(step)


class Descent:
    """Moves groups of parameters down one loss, with scaled gradients in half precision."""

    def __init__(self, groups: list[ParameterGroup], device: torch.device,
                 mixed_precision: bool) -> None:
        self.groups = groups
        self.half = mixed_precision and device.type == 'cuda'
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half)
        # Whether a step decides on the GPU, without telling the CPU, if its loss is finite.
        self.unattended = processes() == 1 and all(group.skips_itself for group in groups)
        self.generation = 0     # of the optimisers' tensors, which `load_state` replaces

    def autocast(self) -> torch.autocast:
        """Returns the context in which networks compute in half precision, where that is on."""
        return torch.autocast(self.device.type, torch.float16, enabled=self.half)

    def set_rates(self, step: int) -> None:
        """Sets the learning rates of a step."""
        for group in self.groups:
            group.set_rate(step)

    def step(self, loss: Tensor) -> Tensor:
        """Takes one step with the rates that are set, unless the loss is not finite.

        Returns the loss, the mean of all processes where several train together.
        """
        for group in self.groups:
            group.optimizer.zero_grad(set_to_none=True)
        if self.unattended:
            return self._step_unattended(loss)
        parameters = [p for group in self.groups for e in group.optimizer.param_groups
                      for p in e['params']]
        if torch.isfinite(loss):
            self.scaler.scale(loss).backward()
        loss = average_gradients(parameters, loss.detach())
        if torch.isfinite(loss):
            self._move()
        return loss

    def _step_unattended(self, loss: Tensor) -> Tensor:
        spoiled = torch.isfinite(loss.detach()).logical_not()
        # Makes all gradients of a spoiled loss NaN, at which the scaler skips the step ...
        self.scaler.scale(loss * torch.where(spoiled, float('nan'), 1.0)).backward()
        for group in self.groups if not self.half else ():
            # ... and without a scaler the fused optimisers look here, as the scaler would tell.
            group.optimizer.found_inf = spoiled.float()     # type: ignore[attr-defined]
            group.optimizer.grad_scale = None               # type: ignore[attr-defined]
        self._move()
        return loss.detach()

    def _move(self) -> None:
        for group in self.groups:
            if any(p.grad is not None for e in group.optimizer.param_groups for p in e['params']):
                self.scaler.step(group.optimizer)
        self.scaler.update()

    def state(self) -> dict[str, Tensor]:
        """Returns the optimisers' state, by group, parameter and name."""
        found = {f'{g}.{i}.{name}': value
                 for g, group in enumerate(self.groups)
                 for i, entry in group.optimizer.state_dict()['state'].items()
                 for name, value in entry.items()}
        if self.half:
            found['scale'] = torch.tensor(self.scaler.get_scale())
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned; KeyError or RuntimeError where it does not fit."""
        for g, group in enumerate(self.groups):
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f'{g}.'):
                    _, i, name = key.split('.')
                    entries.setdefault(int(i), {})[name] = value.clone()
            groups = group.optimizer.state_dict()['param_groups']
            group.optimizer.load_state_dict({'state': entries, 'param_groups': groups})
        self.generation += 1
        if self.half and 'scale' in state:
            # A scaler that has not scaled a loss yet refuses `update`.
            self.scaler.load_state_dict({**self.scaler.state_dict(),
                                         'scale': float(state['scale'])})
