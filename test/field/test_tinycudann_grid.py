# SPDX-License-Identifier: Apache-2.0
"""tiny-cuda-nn, played by a module that knows no more than its configuration, against torch."""

import copy
import logging
import math
import sys
import types

import pytest
import torch
from tiny_grids import assert_agree, gradients, positions_inside_cells, random_encoding
from torch import nn

from lerf_ros.field import tinycudann_grid
from lerf_ros.field.hash_encoding import HashEncoding, TorchGrid
from lerf_ros.field.tinycudann_grid import TinyCudaGrid, load_tinycudann

CUDA = torch.device('cuda')   # names the backend of a GPU; no test touches one


class FakeEncoding(nn.Module):
    """What tinycudann.Encoding is seen to do, computed on any device, corner by corner."""

    def __init__(self, n_input_dims, encoding_config, seed=1337, dtype=None):
        super().__init__()
        config = {'type': 'Hash', **encoding_config}
        assert n_input_dims == 3 and config['otype'] == 'HashGrid'
        assert config['interpolation'] == 'Linear'
        self.dtype, self.features = dtype, config['n_features_per_level']
        self.levels, end = [], 0
        for level in range(config['n_levels']):
            scale = config['base_resolution'] * config['per_level_scale'] ** level - 1
            corners = math.ceil(scale) + 1
            size = min((corners ** 3 + 7) // 8 * 8, 2 ** config['log2_hashmap_size'])
            self.levels.append((scale, corners, end, size))
            end += size
        self.params = nn.Parameter(torch.zeros(end * self.features))

    def forward(self, x):
        assert x.dtype == torch.float32 and len(x) > 0
        entries = self.params.to(self.dtype).reshape(-1, self.features)
        return torch.cat([self.level(x, entries[start:start + size], scale, corners, size)
                          for scale, corners, start, size in self.levels], 1)

    def level(self, x, entries, scale, corners, size):
        total = 0.0
        low = (x * scale + 0.5).floor().detach()
        part = x * scale + 0.5 - low
        for bits in ((i & 1, i >> 1 & 1, i >> 2 & 1) for i in range(8)):
            weight = torch.ones(len(x))
            for axis, bit in enumerate(bits):
                weight = weight * (part[:, axis] if bit else 1 - part[:, axis])
            indices = [self.index(*(int(c) + b for c, b in zip(cell, bits)), corners, size)
                       for cell in low.tolist()]
            total = total + weight.to(self.dtype)[:, None] * entries[indices]
        return total

    @staticmethod
    def index(x, y, z, corners, size):
        if corners ** 3 <= size:
            return (x + y * corners + z * corners ** 2) % size
        return (x ^ y * 2654435761 % 2 ** 32 ^ z * 805459861 % 2 ** 32) % size


@pytest.fixture
def tinycudann(monkeypatch):
    module = types.ModuleType('tinycudann')
    module.Encoding = FakeEncoding
    monkeypatch.setitem(sys.modules, 'tinycudann', module)
    load_tinycudann.cache_clear()
    yield module
    load_tinycudann.cache_clear()


def test_tiny_cuda_nn_agrees_with_torch(tinycudann):
    encoding = random_encoding(4, 6, 48, 11, 2)   # two dense levels, two hashed
    backend = encoding.backend(CUDA)
    assert isinstance(backend, TinyCudaGrid)
    positions, weight = positions_inside_cells(encoding, 60), torch.randn(60, 8)
    assert_agree(gradients(backend, encoding, positions, weight),
                 gradients(TorchGrid(encoding.geometry), encoding, positions, weight))


def test_a_map_trained_with_tiny_cuda_nn_loads_without_it(tinycudann):
    trained = HashEncoding(3, 4, 16, 9, 2)
    backend, positions = trained.backend(CUDA), torch.rand(30, 3)
    optimizer = torch.optim.SGD(trained.parameters(), lr=1.0)
    backend(positions, trained.table).square().sum().backward()
    optimizer.step()
    state = trained.state_dict()
    assert list(state) == ['table'] and len(list(trained.parameters())) == 1
    served = HashEncoding(3, 4, 16, 9, 2)
    served.load_state_dict(state)
    assert torch.allclose(served(positions), backend(positions, trained.table), atol=1e-7)
    back = copy.deepcopy(trained)   # and the other way, into a field that has looked up already
    back.load_state_dict(served.state_dict())
    assert torch.equal(back.backend(CUDA)(positions, back.table),
                       backend(positions, trained.table))


def test_tiny_cuda_nn_answers_in_half_precision_under_autocast(tinycudann, monkeypatch):
    encoding = random_encoding(2, 4, 8, 9, 2)
    backend, positions = encoding.backend(CUDA), torch.rand(10, 3)
    single = backend(positions, encoding.table)
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda device: device == 'cuda')
    half = backend(positions, encoding.table)
    assert (single.dtype, half.dtype) == (torch.float32, torch.float16)
    assert torch.allclose(half.float(), single, atol=1e-2)
    half.float().sum().backward()
    assert encoding.table.grad.dtype == torch.float32


def test_tiny_cuda_nn_gives_an_empty_batch_a_zero_gradient(tinycudann):
    encoding = HashEncoding(2, 4, 8, 9, 2)
    values = encoding.backend(CUDA)(torch.zeros(0, 3), encoding.table)
    assert values.shape == (0, 4)
    values.sum().backward()
    assert not encoding.table.grad.any()


def test_grids_that_tiny_cuda_nn_cannot_serve_run_in_torch(tinycudann, caplog):
    # 17 levels of 8 features: 136 outputs, of which 8 rows make more threads than CUDA starts.
    assert isinstance(HashEncoding(17, 4, 16, 8, 8).backend(CUDA), TorchGrid)
    assert '136 features' in caplog.text
    tinycudann.Encoding = lambda *args, **kwargs: FakeEncoding(3, dict(
        kwargs['encoding_config'], log2_hashmap_size=3))
    assert isinstance(HashEncoding(2, 4, 16, 8, 2).backend(CUDA), TorchGrid)
    assert 'its layout has 32 parameters' in caplog.text
    assert isinstance(HashEncoding(2, 4, 16, 8, 3).backend(CUDA), TorchGrid)


@pytest.mark.parametrize('error', [
    OSError('no CUDA'), ImportError('libtorch'), RuntimeError('driver'),
    ModuleNotFoundError('no bindings', name='tinycudann_bindings')])
def test_a_broken_tiny_cuda_nn_warns_once_and_falls_back(monkeypatch, caplog, error):
    def fail(name):
        raise error

    monkeypatch.setattr(tinycudann_grid.importlib, 'import_module', fail)
    load_tinycudann.cache_clear()
    try:
        for _ in range(2):
            assert isinstance(HashEncoding(2, 4, 16, 8, 2).backend(CUDA), TorchGrid)
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert sum(str(error) in r.getMessage() for r in warnings) == 1
    finally:
        load_tinycudann.cache_clear()
