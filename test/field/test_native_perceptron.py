# SPDX-License-Identifier: Apache-2.0
"""The native perceptron against plain torch: values, gradients, and when it steps aside."""

import platform

import pytest
import torch
from torch import nn

from lerf_ros.field import native_kernel
from lerf_ros.field.native_kernel import load_kernel
from lerf_ros.field.networks import network


@pytest.fixture(autouse=True)
def kernel():
    if load_kernel() is None:
        pytest.skip('no C++ compiler: the native kernel cannot be built')


def plain(perceptron, x):
    return nn.Sequential.forward(perceptron, x)


# Inputs, hidden, layers, outputs: multiples of 4, 8 and 16 lanes, and none.
SHAPES = [(10, 16, 1, 1), (32, 64, 1, 16), (63, 64, 2, 3), (33, 128, 2, 384), (5, 7, 3, 17),
          (4, 8, 0, 9)]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('rows', [1, 64, 1000])
def test_values_and_gradients_are_those_of_torch(shape, rows):
    require_equal_to_torch(shape, rows)


@pytest.mark.skipif(platform.machine() not in ('x86_64', 'AMD64'), reason='flags of x86')
@pytest.mark.parametrize('flags', ['-march=x86-64', '-march=x86-64-v3'])
def test_so_are_those_of_kernels_for_other_processors(flags, tmp_path, monkeypatch):
    """Registers of 4 and of 8 numbers have tiles of their own."""
    if flags == '-march=x86-64-v3' and 'avx2' not in native_kernel._processor():
        pytest.skip('this processor has no AVX2')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(native_kernel, 'FLAGS', (*native_kernel.FLAGS, flags))
    load_kernel.cache_clear()
    try:
        assert load_kernel() is not None
        for shape in SHAPES:
            require_equal_to_torch(shape, 100)
    finally:
        load_kernel.cache_clear()


def require_equal_to_torch(shape, rows):
    torch.manual_seed(sum(shape) + rows)
    perceptron = network(*shape)
    weight = torch.randn(rows, shape[3])
    found = []
    for run in (perceptron, lambda x: plain(perceptron, x)):
        x = torch.randn(rows, shape[0], generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        perceptron.zero_grad()
        out = run(x)
        (out * weight).sum().backward()
        found.append([out.detach(), x.grad, *(p.grad.clone() for p in perceptron.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_by_hand():
    perceptron = network(1, 2, 1, 1)
    values = ([[1.0], [-1.0]], [0.5, 0.0], [[2.0, 3.0]], [10.0])
    with torch.no_grad():
        for parameter, value in zip(perceptron.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    # 2 relu(x + 0.5) + 3 relu(-x) + 10
    assert perceptron(torch.tensor([[1.0], [-1.0], [0.0]])).flatten().tolist() == [13, 13, 11]


def test_leading_dimensions_stay_and_nothing_is_something():
    perceptron = network(4, 8, 1, 3)
    assert perceptron(torch.rand(2, 5, 4)).shape == (2, 5, 3)
    assert perceptron(torch.rand(0, 4)).shape == (0, 3)


def test_a_run_can_be_repeated():
    perceptron = network(10, 16, 1, 4)
    x = torch.randn(5000, 10)
    found = []
    for _ in range(3):
        perceptron.zero_grad()
        perceptron(x).square().sum().backward()
        found.append(perceptron[0].weight.grad.clone())
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_other_precisions_go_to_torch():
    double = network(4, 8, 1, 3).double()
    x = torch.rand(6, 4).double()
    assert torch.equal(double(x), plain(double, x))
    single = network(4, 8, 1, 3)
    with torch.autocast('cpu', torch.bfloat16):
        assert single(x.float()).dtype == torch.bfloat16


def test_a_number_that_is_none_stays_visible():
    perceptron = network(4, 8, 2, 3)
    assert not torch.isfinite(perceptron(torch.tensor([[1.0, float('nan'), 0, 0]]))).any()
