# SPDX-License-Identifier: Apache-2.0
"""Settings for threads of numpy and torch, which read them when they are imported."""

from __future__ import annotations

import os


def wait_quietly() -> None:
    """Makes waiting threads sleep, here and in child processes, unless the user chose otherwise.

    To be called before numpy and torch are imported. Threads that spin slow each other down on a
    busy machine. numpy's OpenBLAS cannot sleep, and splits even products with 3 x 3 matrices among
    threads: 100,000 points took 14 ms instead of 0.2 on two busy cores. torch uses another library.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
