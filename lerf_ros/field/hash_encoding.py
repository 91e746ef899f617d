# SPDX-License-Identifier: Apache-2.0
"""Multiresolution hash encoding (Mueller et al. 2022, section 3), with tiny-cuda-nn's layout.

Facts of tiny-cuda-nn that this follows, read from its source of April 2026:

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

import math

import numpy as np
import torch
from torch import Tensor, nn

from lerf_ros.field.hash_backends import HashGridBackend, NativeGrid, TorchGrid
from lerf_ros.field.native_kernel import load_kernel
from lerf_ros.field.tinycudann_grid import make_tiny_cuda_grid

INITIAL_RANGE = 1e-4
KERNEL_FEATURES = (1, 2, 4, 8)   # per entry, that the compiled versions are made for
# The finest level lies this much below the resolution asked for. Without it a scale can fall on an
# integer (16 to 512 in 16 levels: 31.000004 at level 3), where the last bit of exp2, which a GPU
# rounds otherwise than a CPU, decides how many corners a level has, and so what the table means.
MARGIN = 1e-5
_LEVEL = np.dtype([('offset', '<i8'), ('size', '<u4'), ('resolution', '<u4'), ('scale', '<f4')],
                  align=True)


def level_growth(levels: int, base_resolution: int, max_resolution: int) -> float:
    """Factor from one level's resolution to the next, exact in single precision."""
    ratio = max_resolution * (1 - MARGIN) / base_resolution
    return float(np.float32(math.exp(math.log(ratio) / max(levels - 1, 1))))


def level_geometry(levels: int, base_resolution: int, max_resolution: int,
                   log2_table: int) -> np.ndarray:
    """Offset, size (entries), resolution (corners an axis) and scale of each level, (levels,).

    A structured array that the native kernel reads as it lies; the rules are tiny-cuda-nn's.
    """
    growth = level_growth(levels, base_resolution, max_resolution)
    log2_growth = np.float32(math.log2(growth))
    out = np.zeros(levels, _LEVEL)
    offset = 0
    for level in range(levels):
        # Through double precision: NumPy's own single precision exp2 depends on the processor.
        power = np.float32(2.0 ** float(np.float32(level) * log2_growth))
        scale = power * np.float32(base_resolution) - np.float32(1)
        resolution = math.ceil(scale) + 1
        size = min(-(-resolution ** 3 // 8) * 8, 1 << log2_table)
        out[level] = (offset, size, resolution, scale)
        offset += size
    return out


class HashEncoding(nn.Module):
    """Positions (N, 3) in [0, 1] to features (N, levels * features).

    `table` (entries, features), float32, means the same to every backend: a map that was trained
    with one loads with the others. On a GPU tiny-cuda-nn looks up where it can be imported; on a
    CPU the native kernel does where a C++ compiler is found; plain torch does everywhere else.

    Args:
        levels: grids, from coarse to fine.
        base_resolution: corners an axis of the coarsest.
        max_resolution: corners an axis of the finest; ignored where there is one level.
        log2_table: log2 of the entries that a level has at most.
        features: numbers per entry; the compiled backends know 1, 2, 4 and 8.
    """

    def __init__(self, levels: int, base_resolution: int, max_resolution: int, log2_table: int,
                 features: int) -> None:
        super().__init__()
        self.geometry = level_geometry(levels, base_resolution, max_resolution, log2_table)
        self.features = features
        self.output_dimension = levels * features
        # tiny-cuda-nn's own names, so that it is told the very numbers that the layout is from.
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
        """Interpolated features, float32, or half where tiny-cuda-nn runs under autocast.

        Gradients reach the table, and the positions where these require them.
        """
        # In half precision positions would be a few cells of the finest level apart.
        positions = positions.float().contiguous()
        return self.backend(positions.device)(positions, self.table.float())

    def backend(self, device: torch.device) -> HashGridBackend:
        """What looks up on a device; chosen once, at the first use."""
        if device.type not in self._backends:
            self._backends[device.type] = self._choose_backend(device.type)
        return self._backends[device.type]

    def _choose_backend(self, device_type: str) -> HashGridBackend:
        if self.features in KERNEL_FEATURES:
            if device_type == 'cpu' and load_kernel() is not None:
                return NativeGrid(self.geometry)
            if device_type == 'cuda':
                grid = make_tiny_cuda_grid(self.grid_config, self.table.numel())
                if grid is not None:
                    return grid
        return TorchGrid(self.geometry)
