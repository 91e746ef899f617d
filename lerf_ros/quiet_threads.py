# SPDX-License-Identifier: Apache-2.0
"""Settings for threads of numpy and torch, which read them when they are imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

SETTINGS = {'OMP_WAIT_POLICY': 'PASSIVE', 'OPENBLAS_NUM_THREADS': '1'}
# How often GCC's OpenMP, which torch uses, looks for work before it sleeps.
LOOKS = 'GOMP_SPINCOUNT', '2000'


def wait_quietly() -> None:
    """Makes waiting threads sleep, here and in child processes, unless the user chose otherwise.

    To be called before numpy and torch are imported. Threads that spin slow each other down on a
    busy machine. numpy's OpenBLAS cannot sleep, and splits even products with 3 x 3 matrices among
    threads: 100,000 points took 14 ms instead of 0.2 on two busy cores. torch uses another library.
    Waking a thread takes longer than a moment awake: with LOOKS a training step took 39 ms
    instead of 51 on two idle cores, and 79 instead of 78 on two busy ones.
    """
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault(*LOOKS)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def run_quietly(main: Callable[[], object]) -> None:
    """Runs a script's main function, with threads that wait quietly.

    In a script other imports come first, and with them numpy and torch, which read these settings
    only then. So where a setting was missing the interpreter starts over, with all of them.
    """
    if all(name in os.environ for name in SETTINGS):
        main()
        return
    wait_quietly()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
