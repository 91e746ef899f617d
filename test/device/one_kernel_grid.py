# SPDX-License-Identifier: Apache-2.0
"""A hash grid that takes one launch forward and one backward, as compiled ones do: to be counted.

Its values are those of plain torch, its gradients are zeros: nothing can be learned with it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lerf_ros.field.hash_encoding import hash_grid_torch

_LIBRARY = torch.library.Library('lerf_ros_stand_in', 'DEF')
_LIBRARY.define('look_up(Tensor positions, Tensor table, Tensor levels) -> Tensor')
_LIBRARY.define('gradients(Tensor positions, Tensor table, Tensor grad) -> (Tensor, Tensor)')


@torch.library.impl(_LIBRARY, 'look_up', 'CPU')
def _look_up(positions: Tensor, table: Tensor, levels: Tensor) -> Tensor:
    geometry = np.array([(int(offset), int(size), int(resolution), scale)
                         for offset, size, resolution, scale in levels.tolist()], 'i8,i8,i8,f8')
    return hash_grid_torch(positions, table, geometry)


@torch.library.impl(_LIBRARY, 'gradients', 'CPU')
def _gradients(positions: Tensor, table: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(positions), torch.zeros_like(table)


class _OneKernel(torch.autograd.Function):

    @staticmethod
    def forward(ctx, positions, table, levels):
        ctx.save_for_backward(positions, table)
        return torch.ops.lerf_ros_stand_in.look_up(positions, table, levels)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return (*torch.ops.lerf_ros_stand_in.gradients(*ctx.saved_tensors, grad), None)


class OneKernelGrid:
    """Looks up as the backends of HashEncoding do."""

    def __init__(self, geometry: np.ndarray, device: torch.device) -> None:
        rows = [list(level) for level in geometry.tolist()]
        self._levels = torch.tensor(rows, dtype=torch.float64).to(device)

    def __call__(self, positions: Tensor, table: Tensor) -> Tensor:
        """Returns features (N, levels * F) at positions (N, 3) in a table (entries, F)."""
        return _OneKernel.apply(positions, table, self._levels)
