# SPDX-License-Identifier: Apache-2.0
"""The hash grid: a value computed by hand, and the native kernel against plain torch."""

import pytest
import torch

from lerf_ros.field.hash_encoding import HashEncoding, hash_grid_torch, level_geometry
from lerf_ros.field.native_kernel import load_kernel


def test_geometry_follows_tiny_cuda_nn():
    # growth = 64 / 16 = 4, scales 15 and 63; 16^3 = 4096 entries are dense, 64^3 are capped.
    geometry = level_geometry(2, 16, 64, 14)
    assert geometry['scale'].tolist() == pytest.approx([15, 63])
    assert geometry['resolution'].tolist() == [16, 64]
    assert geometry['size'].tolist() == [4096, 16384]
    assert geometry['offset'].tolist() == [0, 4096]


def test_dense_level_by_hand():
    # One level of 2 cells: scale 1, so x = 0.25 lies at 0.25 * 1 + 0.5 = 0.75 between corners.
    geometry = level_geometry(1, 2, 2, 8)
    table = torch.arange(8.0)[:, None]           # entry = x + 2 y + 4 z of its corner
    value = hash_grid_torch(torch.tensor([[0.25, 0.0, 0.1]]), table, geometry)
    # Trilinear interpolation of a linear function is that function: 0.75 + 2 * 0.5 + 4 * 0.6.
    assert value.item() == pytest.approx(0.75 + 1.0 + 2.4, abs=1e-6)


def test_hashed_corner_by_hand():
    # 8 entries cannot hold 64 corners. At x = 0.5 the position is 3 * 0.5 + 0.5 = 2 exactly, on
    # every axis: index = (2 * 1) ^ (2 * 2654435761 mod 2^32) ^ (2 * 805459861) mod 8.
    geometry = level_geometry(1, 4, 4, 3)
    index = (2 ^ (2 * 2654435761 % 2 ** 32) ^ (2 * 805459861 % 2 ** 32)) % 8
    table = torch.zeros(8, 1)
    table[index] = 1
    assert hash_grid_torch(torch.full((1, 3), 0.5), table, geometry).item() == pytest.approx(1)


@pytest.mark.parametrize('features', [1, 2, 4, 8])
def test_native_kernel_agrees_with_torch(features):
    if load_kernel() is None:
        pytest.skip('no C++ compiler: the native kernel cannot be built')
    torch.manual_seed(0)
    encoding = HashEncoding(5, 8, 128, 12, features)
    with torch.no_grad():
        encoding.table.normal_()
    positions, weight = torch.rand(500, 3), torch.randn(500, 5 * features)
    native = encoding(positions)
    (native * weight).sum().backward()
    gradient = encoding.table.grad.clone()
    encoding.table.grad = None
    plain = hash_grid_torch(positions, encoding.table, encoding.geometry)
    (plain * weight).sum().backward()
    assert torch.allclose(native, plain, atol=1e-4)
    assert torch.allclose(gradient, encoding.table.grad, atol=1e-4)


def test_positions_on_the_faces_are_inside():
    encoding = HashEncoding(3, 4, 64, 10, 2)
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 1, 0]])
    assert torch.isfinite(encoding(corners)).all()


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
