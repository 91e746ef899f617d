# SPDX-License-Identifier: Apache-2.0
"""What looks up a hash grid: the protocol, plain torch on any device, native code on a CPU.

A backend is a function of positions and table and owns neither, so one map serves all of them.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lerf_ros.field.native_kernel import load_kernel

PRIMES = (1, 2654435761, 805459861)
UINT32 = 0xffffffff


class HashGridBackend(Protocol):
    """Looks up features (N, levels * F) at positions (N, 3) in a table (entries, F), float32.

    Gradients reach the table, and the positions where these require them.
    """

    def __call__(self, positions: Tensor, table: Tensor) -> Tensor: ...


class TorchGrid:
    """Plain torch, on any device."""

    def __init__(self, geometry: np.ndarray) -> None:
        self.geometry = geometry

    def __call__(self, positions: Tensor, table: Tensor) -> Tensor:
        return hash_grid_torch(positions, table, self.geometry)


class NativeGrid:
    """The C++ kernel, on a CPU."""

    def __init__(self, geometry: np.ndarray) -> None:
        self.geometry = geometry

    def __call__(self, positions: Tensor, table: Tensor) -> Tensor:
        return _NativeHashGrid.apply(positions, table.contiguous(), self.geometry)


def hash_grid_torch(positions: Tensor, table: Tensor, geometry: np.ndarray) -> Tensor:
    """The reference of the other backends; in double precision where its arguments are."""
    return torch.cat([level_torch(positions, table, *level) for level in geometry.tolist()], -1)


def level_torch(positions: Tensor, table: Tensor, offset: int, size: int, resolution: int,
                scale: float) -> Tensor:
    """Features (N, F) of one level, whose entries lie from `offset` on in the table."""
    corner = torch.tensor([[(c >> axis) & 1 for axis in range(3)] for c in range(8)],
                          device=positions.device)                    # (8, 3)
    position = positions * scale + 0.5
    low = position.detach().floor()
    part = (position - low)[:, None]                                  # (N, 1, 3)
    weight = torch.where(corner.bool(), part, 1 - part)               # (N, 8, 3)
    # Not prod(): its gradient is slow, and takes another way where a factor is 0.
    weight = weight[..., 0] * weight[..., 1] * weight[..., 2]         # (N, 8)
    p = low.long()[:, None] + corner                                  # (N, 8, 3)
    if resolution ** 3 <= size:
        index = p[..., 0] + resolution * (p[..., 1] + resolution * p[..., 2])
    else:
        hashed = [p[..., axis] * PRIMES[axis] for axis in range(3)]
        index = hashed[0] ^ hashed[1] ^ hashed[2]
    # The others count in 32 bits without sign: it matters outside of 0..1.
    entries = table[offset + (index & UINT32) % size]                 # (N, 8, F)
    return (weight[..., None] * entries).sum(1)


class _NativeHashGrid(torch.autograd.Function):

    @staticmethod
    def forward(ctx, positions, table, geometry):  # type: ignore[no-untyped-def, override]
        # The table is kept only where the gradient of the positions will read it.
        ctx.save_for_backward(positions, table if ctx.needs_input_grad[0] else None)
        ctx.geometry, ctx.table_shape = geometry, table.shape
        out = torch.empty(len(positions), len(geometry) * table.shape[1])
        _call('hash_grid_forward', positions, (table,), geometry, table.shape[1], out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        positions, table = ctx.saved_tensors
        grad, features = grad.contiguous(), ctx.table_shape[1]
        grad_positions = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_positions = torch.zeros_like(positions)
            _call('hash_grid_backward_positions', positions, (table, grad), ctx.geometry,
                  features, grad_positions)
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros(ctx.table_shape)
            _call('hash_grid_backward', positions, (grad,), ctx.geometry, features, grad_table)
        return grad_positions, grad_table, None


def _call(name: str, positions: Tensor, sources: tuple[Tensor, ...], geometry: np.ndarray,
          features: int, target: Tensor) -> None:
    kernel = load_kernel()
    assert kernel is not None
    failed = getattr(kernel, name)(
        ctypes.c_void_p(positions.data_ptr()), ctypes.c_int64(len(positions)),
        *(ctypes.c_void_p(source.data_ptr()) for source in sources),
        ctypes.c_void_p(geometry.ctypes.data), ctypes.c_int(len(geometry)),
        ctypes.c_int(features), ctypes.c_void_p(target.data_ptr()))
    assert not failed, f'{name} has no version for {features} features'
