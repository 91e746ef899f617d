# SPDX-License-Identifier: Apache-2.0
"""Compares the hash grid's native kernel with plain torch and torch.compile, within one run.

    python bench/hash_grid.py
"""

from __future__ import annotations

import functools
import time

import numpy as np
import torch
from torch import Tensor

from lerf_ros.field.hash_encoding import (
    HashEncoding,
    HashGridBackend,
    NativeGrid,
    hash_grid_torch,
    level_torch,
)

POINTS, REPEATS = 65536, 5


def step_s(look_up: HashGridBackend, encoding: HashEncoding, mode: str) -> float:
    """Returns the seconds of a step: 'forward', or with gradients of 'table' or 'positions'."""
    encoding.table.grad = None
    positions = torch.rand(POINTS, 3, requires_grad=mode == 'positions')
    start = time.perf_counter()
    if mode == 'forward':
        with torch.no_grad():
            look_up(positions, encoding.table)
    else:
        look_up(positions, encoding.table).square().sum().backward()
    return time.perf_counter() - start


def compiled(encoding: HashEncoding) -> HashGridBackend:
    """Runs plain torch through torch.compile, which does not support structured NumPy arrays."""
    levels = encoding.geometry.tolist()

    def look_up(positions: Tensor, table: Tensor) -> Tensor:
        return torch.cat([level_torch(positions, table, *level) for level in levels], -1)

    return torch.compile(look_up)


def main() -> None:
    torch.manual_seed(0)
    encoding = HashEncoding(12, 16, 512, 17, 2)
    native = encoding.backend(torch.device('cpu'))
    if not isinstance(native, NativeGrid):
        raise SystemExit('no C++ compiler: there is no native kernel to measure')
    backends: dict[str, HashGridBackend] = {
        'native': native,
        'plain torch': functools.partial(hash_grid_torch, geometry=encoding.geometry),
        'torch.compile': compiled(encoding)}
    print(f'{POINTS} points, 12 levels, 2 features, {torch.get_num_threads()} threads, '
          f'median of {REPEATS}')
    titles = {'forward': 'forward', 'table': 'forward and gradient of the table',
              'positions': 'forward and gradients of table and positions'}
    pairs = [(mode, look_up) for mode in titles for look_up in backends.values()]
    # All in turn, so that other load on the machine affects all of them. The first round warms up
    # and compiles.
    rounds = [[step_s(look_up, encoding, mode) for mode, look_up in pairs]
              for _ in range(REPEATS + 1)]
    seconds = np.median(rounds[1:], axis=0).reshape(len(titles), len(backends))
    for title, row in zip(titles.values(), seconds):
        print(f'{title}: native {row[0] * 1e3:.1f} ms ({row[0] / seconds[0, 0]:.1f} forwards); '
              + ', '.join(f'{name} {s / row[0]:.1f} times that'
                          for name, s in list(zip(backends, row))[1:]))


if __name__ == '__main__':
    main()
