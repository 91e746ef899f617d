# SPDX-License-Identifier: Apache-2.0
"""The perceptrons' native kernel against plain torch, as ratios within one run.

    python bench/native_perceptron.py

On a processor for which the kernel's tiles are wrong it is not a little slower but many times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lerf_ros.field.native_kernel import load_kernel
from lerf_ros.field.networks import network

ROWS, REPEATS = 16384, 7
# inputs, hidden, layers, outputs: density, colour, and a language head
SHAPES = ((24, 64, 1, 16), (31, 64, 2, 3), (64, 256, 3, 512))


def step_s(run: Callable[[Tensor], Tensor], inputs: int) -> float:
    """Seconds of a forward and a backward pass."""
    x = torch.rand(ROWS, inputs, requires_grad=True)
    start = time.perf_counter()
    run(x).square().sum().backward()
    return time.perf_counter() - start


def main() -> None:
    if load_kernel() is None:
        raise SystemExit('no C++ compiler: there is no native kernel to measure')
    print(f'{ROWS} rows, {torch.get_num_threads()} threads, median of {REPEATS}')
    for shape in SHAPES:
        perceptron = network(*shape)
        runs = (perceptron, partial(nn.Sequential.forward, perceptron))
        rounds = [[step_s(run, shape[0]) for run in runs] for _ in range(REPEATS + 1)]
        native, plain = np.median(rounds[1:], axis=0)
        print(f'{shape}: native {native * 1e3:.1f} ms, plain torch {plain / native:.2f} times that')


if __name__ == '__main__':
    main()
