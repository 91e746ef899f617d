# SPDX-License-Identifier: Apache-2.0
"""Run by test_triton_grid.py in a process of its own: Triton asks at its import what to be.

    python triton_check.py interpret    the kernels in Triton's interpreter against float64 torch
    python triton_check.py compile      the kernels compiled for GPUs that are not here
"""

from __future__ import annotations

import json
import os
import sys

if sys.argv[1] == 'interpret':
    os.environ['TRITON_INTERPRET'] = '1'

import torch

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.field import triton_grid
from lerf_ros.field.hash_encoding import HashEncoding, hash_grid_torch
from lerf_ros.field.triton_grid import TritonGrid

PRESETS = ('offline', 'online', 'lite', 'reference', 'paper', 'big')
COMPUTE_CAPABILITIES = (87, 89, 90, 100)    # Orin, Ada, Hopper, Blackwell


def shapes(config: LerfConfig) -> set[tuple[int, int, int, int, int]]:
    """Returns the arguments of all hash grids of a preset; tables at most 2**14, to be quick."""
    field, language = config.field, config.language
    found = {(field.levels, field.base_resolution, field.max_resolution, field.log2_table,
              field.features)}
    found |= {(field.proposal_levels, 16, finest, field.proposal_log2_table,
               field.proposal_features) for finest in field.proposal_resolutions}
    found |= {(*grid, language.log2_table, language.features) for grid in zip(
        language.levels, language.base_resolutions, language.max_resolutions, strict=True)}
    return {(*shape[:3], min(shape[3], 14), shape[4]) for shape in found}


def differences(encoding: HashEncoding) -> list[float]:
    """Returns the largest differences of values and of both gradients, parts of the largest."""
    torch.nn.init.normal_(encoding.table)
    positions = torch.rand(300, 3) * 1.2 - 0.1      # a backend counts beyond 0..1 as the others do
    positions[0], positions[1] = 0.0, 1.0
    # Away from the borders of cells, where the last bit of a position decides on its gradient.
    for scale in encoding.geometry['scale'].tolist():
        part = (positions * scale + 0.5) % 1
        positions = positions[((part > 2e-3) & (part < 1 - 2e-3)).all(1)]
    assert len(positions) >= 100
    positions = positions[:100]
    weight, found = torch.randn(len(positions), encoding.output_dimension), []
    for double in (True, False):
        table = encoding.table.detach().clone().requires_grad_()
        where = positions.clone().requires_grad_()
        if double:
            values = hash_grid_torch(where.double(), table.double(), encoding.geometry)
        else:
            values = TritonGrid(encoding.geometry)(where, table)
        (values.double() * weight).sum().backward()
        found.append([values.detach().double(), table.grad.double(), where.grad.double()])
    return [float((a - b).abs().max() / a.abs().max()) for a, b in zip(*found, strict=True)]


def interpret() -> dict[str, list[float]]:
    """Compares every grid of every preset."""
    torch.manual_seed(0)
    every = sorted({shape for name in PRESETS
                    for shape in shapes(load_preset(preset_path(name), LerfConfig()))})
    return {str(shape): differences(HashEncoding(*shape)) for shape in every}


def compile_all() -> dict[str, int]:
    """Compiles each kernel for each GPU; returns the bytes of the machine code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    sizes = {}
    for name in ('_forward', '_backward_table', '_backward_positions'):
        kernel = getattr(triton_grid, name)
        for features, number in ((8, 'fp32'), (2, 'fp16')):
            types = {'positions': '*fp32', 'table': f'*{number}', 'grad': f'*{number}',
                     'levels': '*i64', 'scales': '*fp32', 'out': f'*{number}',
                     'grad_table': '*fp32', 'grad_positions': '*fp32', 'rows': 'i32',
                     'level_count': 'i32', 'FEATURES': 'constexpr', 'BLOCK': 'constexpr'}
            signature = {argument: types[argument] for argument in kernel.arg_names}
            for capability in COMPUTE_CAPABILITIES:
                built = triton.compile(
                    ASTSource(fn=kernel, signature=signature,
                              constexprs={'FEATURES': features, 'BLOCK': triton_grid.BLOCK}),
                    target=GPUTarget('cuda', capability, 32))
                sizes[f'{name} {features} {number} {capability}'] = len(built.asm['cubin'])
    return sizes


if __name__ == '__main__':
    print(json.dumps(interpret() if sys.argv[1] == 'interpret' else compile_all()))
