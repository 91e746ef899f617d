# SPDX-License-Identifier: Apache-2.0
"""Multiresolution hash encoding (Mueller et al. 2022, section 3), with tiny-cuda-nn's layout."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import torch
from torch import Tensor, nn

from lerf_ros.field.native_kernel import load_kernel

PRIMES = (1, 2654435761, 805459861)
INITIAL_RANGE = 1e-4   # tiny-cuda-nn draws the entries from U(-1e-4, 1e-4)
_LEVEL = np.dtype([('offset', '<i8'), ('size', '<u4'), ('resolution', '<u4'), ('scale', '<f4')],
                  align=True)


def level_geometry(levels: int, base_resolution: int, max_resolution: int,
                   log2_table: int) -> np.ndarray:
    """Offset, size, corners an axis and scale of each level, (levels,) structured.

    scale = base * growth**level - 1, corners = ceil(scale) + 1, sizes rounded up to 8 entries and
    capped at the table size (tiny-cuda-nn's rules).
    """
    growth = math.exp(math.log(max_resolution / base_resolution) / max(levels - 1, 1))
    out = np.zeros(levels, _LEVEL)
    offset = 0
    for level in range(levels):
        scale = base_resolution * growth ** level - 1
        resolution = math.ceil(round(scale, 6)) + 1
        size = min(-(-resolution ** 3 // 8) * 8, 1 << log2_table)
        out[level] = (offset, size, resolution, scale)
        offset += size
    return out


class HashEncoding(nn.Module):
    """Positions (N, 3) in [0, 1] to features (N, levels * features)."""

    def __init__(self, levels: int, base_resolution: int, max_resolution: int, log2_table: int,
                 features: int) -> None:
        super().__init__()
        self.geometry = level_geometry(levels, base_resolution, max_resolution, log2_table)
        self.features = features
        self.output_dimension = levels * features
        entries = int(self.geometry['offset'][-1] + self.geometry['size'][-1])
        self.table = nn.Parameter(torch.empty(entries, features))
        nn.init.uniform_(self.table, -INITIAL_RANGE, INITIAL_RANGE)

    def forward(self, positions: Tensor) -> Tensor:
        """Interpolated features; gradients reach the table, not the positions."""
        positions = positions.detach().float().contiguous()
        kernel = load_kernel() if positions.device.type == 'cpu' else None
        if kernel is None or self.features not in (1, 2, 4, 8):
            return hash_grid_torch(positions, self.table, self.geometry)
        return _NativeHashGrid.apply(positions, self.table, self.geometry)


class _NativeHashGrid(torch.autograd.Function):

    @staticmethod
    def forward(ctx, positions, table, geometry):  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(positions)
        ctx.geometry, ctx.table_shape = geometry, table.shape
        out = torch.empty(len(positions), len(geometry) * table.shape[1])
        _call('hash_grid_forward', positions, table.detach(), geometry, table.shape[1], out)
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        (positions,) = ctx.saved_tensors
        grad_table = torch.zeros(ctx.table_shape)
        _call('hash_grid_backward', positions, grad.contiguous(), ctx.geometry,
              ctx.table_shape[1], grad_table)
        return None, grad_table, None


def _call(name: str, positions: Tensor, source: Tensor, geometry: np.ndarray, features: int,
          target: Tensor) -> None:
    kernel = load_kernel()
    assert kernel is not None
    failed = getattr(kernel, name)(
        ctypes.c_void_p(positions.data_ptr()), ctypes.c_int64(len(positions)),
        ctypes.c_void_p(source.data_ptr()), ctypes.c_void_p(geometry.ctypes.data),
        ctypes.c_int(len(geometry)), ctypes.c_int(features), ctypes.c_void_p(target.data_ptr()))
    assert not failed, f'{name} has no version for {features} features'


def hash_grid_torch(positions: Tensor, table: Tensor, geometry: np.ndarray) -> Tensor:
    """The same in plain torch, on any device: the reference of the native kernel."""
    corner = torch.tensor([[(c >> axis) & 1 for axis in range(3)] for c in range(8)],
                          device=positions.device)                        # (8, 3)
    out = []
    for offset, size, resolution, scale in geometry.tolist():
        position = positions * scale + 0.5
        low = position.floor()
        part = (position - low)[:, None]                                  # (N, 1, 3)
        weight = torch.where(corner.bool(), part, 1 - part).prod(-1)      # (N, 8)
        p = low.long()[:, None] + corner                                  # (N, 8, 3)
        if resolution ** 3 <= size:
            index = p[..., 0] + resolution * (p[..., 1] + resolution * p[..., 2])
        else:
            hashed = [p[..., axis] * PRIMES[axis] & 0xffffffff for axis in range(3)]
            index = hashed[0] ^ hashed[1] ^ hashed[2]
        entries = table[offset + index % size]                            # (N, 8, F)
        out.append((weight[..., None] * entries).sum(1))
    return torch.cat(out, -1)
