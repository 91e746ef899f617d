# SPDX-License-Identifier: Apache-2.0
"""The hash grid's native kernel against plain torch and torch.compile, as ratios within one run.

    python bench/hash_grid.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lerf_ros.field.hash_encoding import HashEncoding, hash_grid_torch

POINTS, REPEATS = 65536, 5


def forward_backward(look_up: Callable[[Tensor], Tensor], encoding: HashEncoding) -> float:
    """Median seconds of a look-up and its gradient, after one that warms up."""
    torch.manual_seed(0)
    positions = torch.rand(POINTS, 3)
    seconds = []
    for _ in range(REPEATS + 1):
        encoding.table.grad = None
        start = time.perf_counter()
        look_up(positions).square().sum().backward()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def main() -> None:
    encoding = HashEncoding(12, 16, 512, 17, 2)
    plain = lambda x: hash_grid_torch(x, encoding.table, encoding.geometry)  # noqa: E731
    compiled = torch.compile(hash_grid_torch)
    native = forward_backward(encoding, encoding)
    print(f'{POINTS} points, 12 levels, 2 features, forward and backward, '
          f'{torch.get_num_threads()} threads')
    for name, look_up in (('plain torch', plain),
                          ('torch.compile',
                           lambda x: compiled(x, encoding.table, encoding.geometry))):
        seconds = forward_backward(look_up, encoding)
        print(f'native {native:.3f} s, {name} {seconds:.3f} s: {seconds / native:.1f} times')


if __name__ == '__main__':
    main()
