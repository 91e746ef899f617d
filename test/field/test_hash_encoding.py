# SPDX-License-Identifier: Apache-2.0
"""The hash grid: layout and values computed by hand, and the native kernel against plain torch."""

import math

import pytest
import torch
from tiny_grids import assert_agree, gradients, positions_inside_cells, random_encoding

from lerf_ros.field.hash_encoding import (
    HashEncoding,
    NativeGrid,
    TorchGrid,
    hash_grid_torch,
    level_geometry,
    level_growth,
)
from lerf_ros.field.native_kernel import load_kernel

# Grids of the presets: levels, coarsest, finest, log2 of the table, and the corners of each level,
# ceil(base * growth^level - 1) + 1. The last of each is what was asked for.
PRESETS = [
    ((16, 16, 2048, 19), [16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1482,
                          2048]),
    ((16, 16, 512, 19), [16, 21, 26, 32, 41, 51, 64, 81, 102, 128, 162, 204, 256, 323, 407, 512]),
    ((12, 16, 128, 19), [16, 20, 24, 29, 35, 42, 50, 61, 73, 88, 106, 128]),
    ((12, 128, 512, 19), [128, 146, 165, 187, 212, 241, 273, 310, 351, 398, 452, 512]),
    ((5, 16, 128, 17), [16, 27, 46, 77, 128]),
    ((5, 16, 256, 17), [16, 32, 64, 128, 256]),
]


def need_kernel():
    if load_kernel() is None:
        pytest.skip('no C++ compiler: the native kernel cannot be built')


# The layout

def test_geometry_by_hand():
    # growth = 64 / 16 = 4, scales 15 and 63; 16^3 = 4096 entries are dense, 64^3 are capped.
    geometry = level_geometry(2, 16, 64, 14)
    assert geometry['scale'].tolist() == pytest.approx([15, 63], rel=2e-5)
    assert geometry['resolution'].tolist() == [16, 64]
    assert geometry['size'].tolist() == [4096, 16384]
    assert geometry['offset'].tolist() == [0, 4096]


def test_sizes_are_rounded_up_to_eight_entries():
    # Corners 3 and 6 (growth 2): 27 entries take the room of 32, 216 are a multiple of 8.
    geometry = level_geometry(2, 3, 6, 10)
    assert geometry['size'].tolist() == [32, 216]
    assert HashEncoding(2, 3, 6, 10, 2).table.shape == (248, 2)


@pytest.mark.parametrize('grid, corners', PRESETS)
def test_geometry_of_the_presets(grid, corners):
    geometry = level_geometry(*grid)
    assert geometry['resolution'].tolist() == corners
    table = 1 << grid[3]
    sizes = [min(8 * math.ceil(c ** 3 / 8), table) for c in corners]
    assert geometry['size'].tolist() == sizes
    assert geometry['offset'].tolist() == [sum(sizes[:level]) for level in range(grid[0])]


@pytest.mark.parametrize('grid', [grid for grid, _ in PRESETS])
def test_no_layout_hangs_on_the_last_bit_of_exp2(grid):
    # Level 0 is exact everywhere (2^0 = 1). CUDA's fast exp2 is right to 2^-22, a float to 2^-24.
    growth = level_growth(*grid[:3])
    for level in range(1, grid[0]):
        scale = grid[1] * growth ** level - 1
        assert abs(scale - round(scale)) > 2 * 2 ** -22 * scale


# Values by hand

def test_dense_level_by_hand():
    # 3 corners an axis: scale 2, so (0.1, 0.5, 0.7) lies at (0.7, 1.5, 1.9): cell (0, 1, 1),
    # parts 0.7, 0.5 and 0.9. Entry = x + 3 y + 9 z holds 100 times its own number.
    geometry = level_geometry(1, 3, 3, 8)
    table = 100 * torch.arange(32.0)[:, None]
    corners = {(0, 1, 1): 12, (1, 1, 1): 13, (0, 2, 1): 15, (1, 2, 1): 16,
               (0, 1, 2): 21, (1, 1, 2): 22, (0, 2, 2): 24, (1, 2, 2): 25}
    assert all(x + 3 * y + 9 * z == index for (x, y, z), index in corners.items())
    expected = 100 * (0.1 * (0.5 * (0.3 * 12 + 0.7 * 13) + 0.5 * (0.3 * 15 + 0.7 * 16))
                      + 0.9 * (0.5 * (0.3 * 21 + 0.7 * 22) + 0.5 * (0.3 * 24 + 0.7 * 25)))
    value = hash_grid_torch(torch.tensor([[0.1, 0.5, 0.7]]), table, geometry)
    assert expected == pytest.approx(2230)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_gradient_of_a_position_by_hand():
    # The same level holds 1 x + 10 y + 100 z of its corners; a cell is 1/2 wide, scale 2.
    geometry = level_geometry(1, 3, 3, 8)
    table = torch.tensor([[x + 10.0 * y + 100.0 * z]
                          for z in range(3) for y in range(3) for x in range(3)] + [[0.0]] * 5)
    position = torch.tensor([[0.1, 0.2, 0.3]], requires_grad=True)
    hash_grid_torch(position, table, geometry).sum().backward()
    assert position.grad.tolist()[0] == pytest.approx([2, 20, 200], rel=1e-5)


def test_hashed_level_by_hand():
    # 8 entries cannot hold the 64 corners: at x = 1/6, y = 1/2, z = 5/6 the position is
    # 3 x + 0.5 = 1, 2 and 3, a corner, with indices (1 * 1) ^ (2 * 2654435761) ^ (3 * 805459861):
    #   2 * 2654435761 = 5308871522 = 2^32 + 1013904226 and 3 * 805459861 = 2416379583,
    #   whose last three bits are 010 and 111: 001 ^ 010 ^ 111 = 100.
    assert (1 ^ 1013904226 ^ 2416379583) % 8 == 0b100
    geometry = level_geometry(1, 4, 4, 3)
    table = torch.zeros(8, 1)
    table[0b100] = 1
    value = hash_grid_torch(torch.tensor([[1 / 6, 1 / 2, 5 / 6]]), table, geometry)
    assert value.item() == pytest.approx(1, abs=1e-5)


def test_far_faces_wrap_around():
    # 2 corners an axis: x = 1 lies at 1.5, between corner 1 and corner 2, which is entry 2 of the
    # row below it; at y = z = 0, position 0.5, this meets y + 1, and 8 entries.
    geometry = level_geometry(1, 2, 2, 8)
    entries = [(x + 2 * y + 4 * z) % 8 for x in (1, 2) for y in (0, 1) for z in (0, 1)]
    assert sum(entries) == 1 + 5 + 3 + 7 + 2 + 6 + 4 + 0
    value = hash_grid_torch(torch.tensor([[1.0, 0, 0]]), torch.arange(8.0)[:, None], geometry)
    assert value.item() == pytest.approx(sum(entries) / 8)


# The backends of a CPU

@pytest.mark.parametrize('features', [1, 2, 4, 8])
def test_native_kernel_agrees_with_torch(features):
    need_kernel()
    encoding = random_encoding(5, 8, 128, 12, features)
    native = encoding.backend(torch.device('cpu'))
    assert isinstance(native, NativeGrid)
    # 3000: more than a thread takes at once.
    positions = positions_inside_cells(encoding, 3000)
    weight = torch.randn(3000, 5 * features)
    weight[:100] = 0   # skipped
    ours = gradients(native, encoding, positions, weight)
    assert_agree(ours, gradients(TorchGrid(encoding.geometry), encoding, positions, weight))
    assert not ours[2][:100].any() and ours[2][100:].any(1).all()


def test_native_kernel_agrees_outside_of_the_unit_cube():
    need_kernel()
    # The level of 10 corners has 1000 entries, which 2^32 is no multiple of: there it matters how
    # an index below 0 is counted.
    encoding = random_encoding(3, 5, 20, 11, 2)
    assert encoding.geometry['size'].tolist() == [128, 1000, 2048]
    positions = 5 * torch.rand(500, 3) - 2
    assert torch.allclose(encoding(positions), hash_grid_torch(
        positions, encoding.table, encoding.geometry), atol=1e-3)


def test_finite_differences():
    encoding = random_encoding(4, 4, 32, 8, 2)
    table = encoding.table.detach().double()
    positions = positions_inside_cells(encoding, 100).double()
    look_up = TorchGrid(encoding.geometry)
    moving = positions.clone().requires_grad_()
    look_up(moving, table).sum().backward()
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-5   # of a cell of 1/31, a border being 0.01 cells away
        difference = look_up(positions + step, table) - look_up(positions - step, table)
        assert torch.allclose(difference.sum(1) / 2e-5, moving.grad[:, axis], rtol=1e-6, atol=1e-6)


def test_positions_get_gradients_only_where_they_require_them():
    encoding = random_encoding(3, 4, 64, 10, 2)
    still, moving = torch.rand(7, 3), torch.rand(7, 3, requires_grad=True)
    encoding(still).sum().backward()
    assert still.grad is None and encoding.table.grad.abs().sum() > 0
    encoding.table.requires_grad_(False)
    assert not encoding(still).requires_grad
    encoding(moving).square().sum().backward()   # a frozen map refines a pose
    assert moving.grad.abs().sum(1).gt(0).all()


def test_positions_on_the_faces_are_inside():
    encoding = HashEncoding(3, 4, 64, 10, 2)
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 1, 0]])
    assert torch.isfinite(encoding(corners)).all()


def test_a_cpu_answers_in_single_precision():
    encoding = random_encoding(3, 4, 64, 10, 2)
    positions = torch.rand(5, 3).half()
    expected = encoding(positions.float())
    assert expected.dtype == torch.float32
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(encoding(positions), expected)
    assert encoding.half()(positions).dtype == torch.float32
    assert encoding(torch.zeros(0, 3)).shape == (0, 6)


def test_missing_compiler_falls_back_with_a_warning(monkeypatch, caplog):
    load_kernel.cache_clear()
    monkeypatch.setenv('CXX', '/nowhere/compiler')
    try:
        encoding = HashEncoding(2, 4, 16, 8, 2)
        values = encoding(torch.rand(4, 3))
        assert values.shape == (4, 4)
        assert 'several times slower' in caplog.text
    finally:
        load_kernel.cache_clear()
