# SPDX-License-Identifier: Apache-2.0
"""The hash grid as Triton kernels, for NVIDIA GPUs: one launch for all levels and corners.

Lays out and indexes tables as tiny-cuda-nn and the other backends do (hash_encoding.py), so that a
map that was trained with one loads with the others. Raises ImportError where Triton is missing.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128     # positions of a program
# The primes of the hash, as two's complement: products wrap around as those of uint32 do.
PRIME_Y, PRIME_Z = tl.constexpr(2654435761 - (1 << 32)), tl.constexpr(805459861)


@triton.jit
def _locate(positions, row, live, scale):  # type: ignore[no-untyped-def]
    """Returns the lowest corner of the cell of each position, and the position in the cell."""
    x = tl.load(positions + row * 3, live, 0.0) * scale + 0.5
    y = tl.load(positions + row * 3 + 1, live, 0.0) * scale + 0.5
    z = tl.load(positions + row * 3 + 2, live, 0.0) * scale + 0.5
    low_x, low_y, low_z = tl.floor(x), tl.floor(y), tl.floor(z)
    return (low_x.to(tl.int32), low_y.to(tl.int32), low_z.to(tl.int32),
            x - low_x, y - low_y, z - low_z)


@triton.jit
def _level_of(levels, scales, level):  # type: ignore[no-untyped-def]
    """Returns offset, size, corners per axis, whether a level is dense, and its scale."""
    size, corners = tl.load(levels + level * 3 + 1), tl.load(levels + level * 3 + 2)
    return (tl.load(levels + level * 3), size.to(tl.uint32), corners.to(tl.int32),
            corners * corners * corners <= size, tl.load(scales + level))


@triton.jit
def _entry(x, y, z, corners, size, dense):  # type: ignore[no-untyped-def]
    """Returns which entry of its level each corner is; counts in unsigned 32 bits."""
    straight = x + corners * (y + corners * z)
    hashed = x ^ (y * PRIME_Y) ^ (z * PRIME_Z)
    index = tl.where(dense, straight, hashed).to(tl.uint32, bitcast=True)
    return (index % size).to(tl.int64)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
        positions, table, levels, scales, out, rows, level_count, FEATURES: tl.constexpr,
        BLOCK: tl.constexpr):
    level = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    offset, size, corners, dense, scale = _level_of(levels, scales, level)
    x, y, z, part_x, part_y, part_z = _locate(positions, row, live, scale)
    feature = tl.arange(0, FEATURES)
    total = tl.zeros((BLOCK, FEATURES), tl.float32)
    for corner in tl.static_range(8):
        weight = ((part_x if corner & 1 else 1 - part_x)
                  * (part_y if corner & 2 else 1 - part_y)
                  * (part_z if corner & 4 else 1 - part_z))
        at = offset + _entry(x + (corner & 1), y + ((corner >> 1) & 1), z + (corner >> 2),
                             corners, size, dense)
        value = tl.load(table + at[:, None] * FEATURES + feature[None, :], live[:, None], 0.0)
        total += weight[:, None] * value.to(tl.float32)
    tl.store(out + row[:, None] * (level_count * FEATURES) + level * FEATURES + feature[None, :],
             total, live[:, None])


@triton.jit
def _backward_table(  # type: ignore[no-untyped-def]
        positions, grad, levels, scales, grad_table, rows, level_count, FEATURES: tl.constexpr,
        BLOCK: tl.constexpr):
    level = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    offset, size, corners, dense, scale = _level_of(levels, scales, level)
    x, y, z, part_x, part_y, part_z = _locate(positions, row, live, scale)
    feature = tl.arange(0, FEATURES)
    value = tl.load(grad + row[:, None] * (level_count * FEATURES) + level * FEATURES
                    + feature[None, :], live[:, None], 0.0).to(tl.float32)
    for corner in tl.static_range(8):
        weight = ((part_x if corner & 1 else 1 - part_x)
                  * (part_y if corner & 2 else 1 - part_y)
                  * (part_z if corner & 4 else 1 - part_z))
        at = offset + _entry(x + (corner & 1), y + ((corner >> 1) & 1), z + (corner >> 2),
                             corners, size, dense)
        tl.atomic_add(grad_table + at[:, None] * FEATURES + feature[None, :],
                      weight[:, None] * value, live[:, None], sem='relaxed')


@triton.jit
def _backward_positions(positions, table, grad, levels, scales,  # type: ignore[no-untyped-def]
                        grad_positions, rows, level_count, FEATURES: tl.constexpr,
                        BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    feature = tl.arange(0, FEATURES)
    grad_x = tl.zeros((BLOCK,), tl.float32)
    grad_y = tl.zeros((BLOCK,), tl.float32)
    grad_z = tl.zeros((BLOCK,), tl.float32)
    for level in range(level_count):
        offset, size, corners, dense, scale = _level_of(levels, scales, level)
        x, y, z, part_x, part_y, part_z = _locate(positions, row, live, scale)
        value = tl.load(grad + row[:, None] * (level_count * FEATURES) + level * FEATURES
                        + feature[None, :], live[:, None], 0.0).to(tl.float32)
        for corner in tl.static_range(8):
            weight_x = part_x if corner & 1 else 1 - part_x
            weight_y = part_y if corner & 2 else 1 - part_y
            weight_z = part_z if corner & 4 else 1 - part_z
            at = offset + _entry(x + (corner & 1), y + ((corner >> 1) & 1), z + (corner >> 2),
                                 corners, size, dense)
            entry = tl.load(table + at[:, None] * FEATURES + feature[None, :], live[:, None], 0.0)
            along = tl.sum(value * entry.to(tl.float32), 1) * scale
            grad_x += along * weight_y * weight_z * (1 if corner & 1 else -1)
            grad_y += along * weight_x * weight_z * (1 if corner & 2 else -1)
            grad_z += along * weight_x * weight_y * (1 if corner & 4 else -1)
    tl.store(grad_positions + row * 3, grad_x, live)
    tl.store(grad_positions + row * 3 + 1, grad_y, live)
    tl.store(grad_positions + row * 3 + 2, grad_z, live)


class TritonGrid:
    """Looks up in a table (entries, F) that its caller owns, float32; F is 1, 2, 4 or 8.

    Under autocast it returns half precision. The kernels read the table itself all the same: making
    a half-precision copy of it each step costs more than reading it saves (measured on an H100).
    """

    def __init__(self, geometry: np.ndarray) -> None:
        """geometry: of hash_encoding.level_geometry."""
        levels = np.stack([geometry[name].astype(np.int64)
                           for name in ('offset', 'size', 'resolution')], 1)
        self._geometry = torch.from_numpy(levels), torch.from_numpy(geometry['scale'].copy())
        self._copies: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, positions: Tensor, table: Tensor) -> Tensor:
        device = positions.device
        if device not in self._copies:
            levels, scales = self._geometry     # (L, 3), (L,)
            self._copies[device] = levels.to(device), scales.to(device)
        half = torch.is_autocast_enabled(device.type)
        return _TritonHashGrid.apply(positions, table.contiguous(), *self._copies[device],
                                     torch.float16 if half else torch.float32)


class _TritonHashGrid(torch.autograd.Function):

    @staticmethod
    def forward(  # type: ignore[no-untyped-def, override]
            ctx, positions, table, levels, scales, dtype):
        out = positions.new_empty((len(positions), len(levels) * table.shape[1]), dtype=dtype)
        _launch(_forward, len(levels), table.shape[1], positions, table, levels, scales, out)
        # Only the gradient of the positions reads the table.
        ctx.save_for_backward(positions, table if ctx.needs_input_grad[0] else None, levels,
                              scales)
        ctx.table_shape = table.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        positions, table, levels, scales = ctx.saved_tensors
        grad, features = grad.contiguous(), ctx.table_shape[1]
        grad_positions = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_positions = torch.empty_like(positions)
            _launch(_backward_positions, len(levels), features, positions, table, grad, levels,
                    scales, grad_positions)
        if ctx.needs_input_grad[1]:
            grad_table = positions.new_zeros(ctx.table_shape)
            _launch(_backward_table, len(levels), features, positions, grad, levels, scales,
                    grad_table)
        return grad_positions, grad_table, None, None, None


def _launch(kernel: triton.JITFunction, levels: int, features: int, positions: Tensor,
            *tensors: Tensor) -> None:
    """Starts a kernel over all positions; those of one level are a row of programs."""
    if len(positions):
        blocks = triton.cdiv(len(positions), BLOCK)
        grid = (blocks,) if kernel is _backward_positions else (blocks, levels)
        kernel[grid](positions, *tensors, len(positions), levels, FEATURES=features, BLOCK=BLOCK)
