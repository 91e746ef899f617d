# SPDX-License-Identifier: Apache-2.0
"""Multiresolution hash encoding (Mueller et al. 2022, section 3), with tiny-cuda-nn's layout.

This follows tiny-cuda-nn, as its source of April 2026 has it:

- scale = exp2(level * log2(growth)) * base - 1 in single precision, corners = ceil(scale) + 1;
- a level has corners**3 entries, rounded up to 8, and 2**log2_table at most;
- the position in a level is x * scale + 0.5, so that levels do not share their cell borders;
- a level is dense where corners**3 <= its entries, with x fastest and z slowest; otherwise the
  index is the exclusive or of the coordinates times 1, 2654435761 and 805459861, modulo 2**32.
  Both are taken modulo the entries, so a dense level wraps around at its far faces (corner
  number `corners` of the last cell), and a position outside 0..1 reads some entry, never beyond;
- entries are drawn from U(-1e-4, 1e-4), and lie level by level, entry by entry, features
  innermost, as the features of the output do.

Its versions before June 2025 overflow, and so may index differently, in tables above 2**21.
"""

from __future__ import annotations

import ctypes
import logging
import math
import subprocess
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lerf_ros.field.native_kernel import load_kernel
from lerf_ros.field.tinycudann_grid import make_tiny_cuda_grid

PRIMES = (1, 2654435761, 805459861)
UINT32 = 0xffffffff
INITIAL_RANGE = 1e-4
KERNEL_FEATURES = (1, 2, 4, 8)   # per entry, that the compiled backends support
CHECKED = 64            # positions at which a GPU's backend is compared with plain torch
GOLDEN = 0.6180339887   # its multiples spread over 0..1
HALF_ACCURACY = 1e-2    # of the largest value; half precision has 11 bits, of each of 8 corners
# The finest level lies this much below the resolution asked for. Otherwise a scale can fall on an
# integer (16 to 512 in 16 levels: 31.000004 at level 3). There the last bit of exp2, in which GPUs
# and CPUs differ, decides how many corners a level has, and so what the table means.
MARGIN = 1e-5
log = logging.getLogger(__name__)

_LEVEL = np.dtype([('offset', '<i8'), ('size', '<u4'), ('resolution', '<u4'), ('scale', '<f4')],
                  align=True)


def level_growth(levels: int, base_resolution: int, max_resolution: int) -> float:
    """Returns the factor from one level's resolution to the next, exact in single precision."""
    ratio = max_resolution * (1 - MARGIN) / base_resolution
    return float(np.float32(math.exp(math.log(ratio) / max(levels - 1, 1))))


def level_geometry(levels: int, base_resolution: int, max_resolution: int,
                   log2_table: int) -> np.ndarray:
    """Computes offset, size (entries), resolution (corners per axis) and scale of each level.

    Returns a structured array (levels,) in the memory layout of the native kernel. The rules are
    those of tiny-cuda-nn.
    """
    growth = level_growth(levels, base_resolution, max_resolution)
    log2_growth = np.float32(math.log2(growth))
    out = np.zeros(levels, _LEVEL)
    offset = 0
    for level in range(levels):
        # In double precision: NumPy's exp2 in single precision depends on the processor.
        power = np.float32(2.0 ** float(np.float32(level) * log2_growth))
        scale = power * np.float32(base_resolution) - np.float32(1)
        resolution = math.ceil(scale) + 1
        size = min(-(-resolution ** 3 // 8) * 8, 1 << log2_table)
        out[level] = (offset, size, resolution, scale)
        offset += size
    return out


class HashGridBackend(Protocol):
    """Looks up features (N, levels * F) at positions (N, 3) in a table (entries, F), float32.

    Owns neither, so that one map serves all backends. Gradients reach the table, and positions
    that require them.
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
    """Looks up as a backend does: the reference of the others, also in double precision."""
    return torch.cat([level_torch(positions, table, *level) for level in geometry.tolist()], -1)


def level_torch(positions: Tensor, table: Tensor, offset: int, size: int, resolution: int,
                scale: float) -> Tensor:
    """Looks up features (N, F) of one level, whose entries lie from `offset` on in the table."""
    corner = _corners(positions.device)                               # (8, 3)
    position = positions * scale + 0.5
    low = position.detach().floor()
    part = (position - low)[:, None]                                  # (N, 1, 3)
    weight = torch.where(corner.bool(), part, 1 - part)               # (N, 8, 3)
    # prod() has a slow gradient, which is computed in another way where a factor is 0.
    weight = weight[..., 0] * weight[..., 1] * weight[..., 2]         # (N, 8)
    p = low.long()[:, None] + corner                                  # (N, 8, 3)
    if resolution ** 3 <= size:
        index = p[..., 0] + resolution * (p[..., 1] + resolution * p[..., 2])
    else:
        hashed = [p[..., axis] * PRIMES[axis] for axis in range(3)]
        index = hashed[0] ^ hashed[1] ^ hashed[2]
    # The other backends count in unsigned 32 bits, which matters outside of 0..1.
    entries = table[offset + (index & UINT32) % size]                 # (N, 8, F)
    return (weight[..., None] * entries).sum(1)


@lru_cache(maxsize=16)
def _corners(device: torch.device) -> Tensor:
    """Returns the corners (8, 3) of a cell, 0 or 1; copied to a device once, not in each step."""
    return torch.tensor([[(c >> axis) & 1 for axis in range(3)] for c in range(8)], device=device)


class _NativeHashGrid(torch.autograd.Function):

    @staticmethod
    def forward(ctx, positions, table, geometry):  # type: ignore[no-untyped-def, override]
        # Only the gradient of the positions reads the table.
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


class HashEncoding(nn.Module):
    """Maps positions (N, 3) in [0, 1] to features (N, levels * features).

    `table` (entries, features), float32, means the same to every backend: a map that was trained
    with one loads with the others. A GPU uses tiny-cuda-nn where it is installed, else Triton's
    kernels; a CPU uses the native kernel where a C++ compiler is found; all else uses plain torch.

    Args:
        levels: grids, from coarse to fine.
        base_resolution: corners per axis of the coarsest.
        max_resolution: corners per axis of the finest; ignored where there is one level.
        log2_table: log2 of the most entries that a level has.
        features: numbers per entry; the compiled backends support 1, 2, 4 and 8.
    """

    def __init__(self, levels: int, base_resolution: int, max_resolution: int, log2_table: int,
                 features: int) -> None:
        super().__init__()
        self.geometry = level_geometry(levels, base_resolution, max_resolution, log2_table)
        self.features = features
        self.output_dimension = levels * features
        # In tiny-cuda-nn's own words, with the very numbers that the layout was computed from.
        self.grid_config: dict[str, str | int | float] = {
            'otype': 'HashGrid', 'n_levels': levels, 'n_features_per_level': features,
            'log2_hashmap_size': log2_table, 'base_resolution': base_resolution,
            'per_level_scale': level_growth(levels, base_resolution, max_resolution),
            'interpolation': 'Linear'}
        entries = int(self.geometry['offset'][-1] + self.geometry['size'][-1])
        self.table = nn.Parameter(torch.empty(entries, features))
        nn.init.uniform_(self.table, -INITIAL_RANGE, INITIAL_RANGE)
        self._backends: dict[str, HashGridBackend] = {}

    def forward(self, positions: Tensor) -> Tensor:
        """Interpolates features, float32, or half where a GPU's kernels run under autocast.

        Gradients reach the table, and positions that require them.
        """
        # Neighbours in half precision would be a few cells of the finest level apart.
        positions = positions.float().contiguous()
        return self.backend(positions.device)(positions, self.table.float())

    def backend(self, device: torch.device) -> HashGridBackend:
        """Returns the backend for a device, which is chosen at its first use."""
        if device.type not in self._backends:
            self._backends[device.type] = self._choose_backend(device.type)
        return self._backends[device.type]

    def _choose_backend(self, device_type: str) -> HashGridBackend:
        if self.features in KERNEL_FEATURES:
            if device_type == 'cpu' and load_kernel() is not None:
                return NativeGrid(self.geometry)
            if device_type == 'cuda':
                tiny = make_tiny_cuda_grid(self.grid_config, self.table.numel())
                if tiny is not None and self._agrees(tiny, 'tiny-cuda-nn'):
                    return tiny
                grid = make_triton_grid(self.geometry)
                if grid is not None and self._agrees(grid, 'Triton'):
                    return grid
                _warn_once('the hash grid runs in plain torch on the GPU, many times slower: '
                           'install triton, which comes with the Linux wheels of torch')
        return TorchGrid(self.geometry)

    @torch.no_grad()
    def _agrees(self, backend: HashGridBackend, name: str) -> bool:
        """Returns whether a backend starts here and looks up what plain torch does."""
        # No random numbers, which training draws from.
        positions = torch.arange(3.0 * CHECKED, device=self.table.device).reshape(-1, 3)
        positions = positions * GOLDEN % 1
        expected = hash_grid_torch(positions, self.table, self.geometry)
        try:
            found = backend(positions, self.table).float()
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            _warn_once(f'{name} does not start here ({str(error).partition(chr(10))[0]})')
            return False
        if (found - expected).abs().max() <= HALF_ACCURACY * expected.abs().max():
            return True
        _warn_once(f'{name} looks up other values than plain torch: it is not used')
        return False


@lru_cache(maxsize=16)
def _warn_once(message: str) -> None:
    log.warning(message)


def make_triton_grid(geometry: np.ndarray) -> HashGridBackend | None:
    """Makes the grid of Triton kernels; None where Triton is not installed."""
    try:
        from lerf_ros.field.triton_grid import TritonGrid
    except ImportError:
        return None
    return TritonGrid(geometry)
