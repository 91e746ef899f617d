# SPDX-License-Identifier: Apache-2.0
"""Threads that wait without work: read when numpy and torch load, so this comes before them."""

from __future__ import annotations

import os


def wait_quietly() -> None:
    """Lets waiting threads sleep, here and in child processes, where nobody chose otherwise.

    Threads that spin slow each other down many times on a busy machine. OpenBLAS, numpy's, knows no
    sleep, and shares out even products with 3 x 3 matrices: on two busy cores 100,000 points took
    14 ms instead of 0.2. torch, whose products are large, has a library of its own.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
