# SPDX-License-Identifier: Apache-2.0
"""Limits the memory that libraries keep, for a node that loads many snapshots over a long time.

Measured with bench/query_memory.py: after 640 snapshots of one size, each loaded in its own thread,
the process held 12 MB more than after 80 of them: free memory in the heaps that glibc keeps for
each thread. Snapshots of different sizes left 0.7 MB each: oneDNN, which multiplies in half
precision for torch, caches a kernel for each of the last 1,024 shapes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache

M_ARENA_MAX, ARENAS = -8, 2     # malloc.h; one heap for the main thread, one for all others
KERNEL_CACHE = 'ONEDNN_PRIMITIVE_CACHE_CAPACITY', '64'   # a query needs a handful


@lru_cache(maxsize=2)
def _glibc(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
        return function
    except (AttributeError, OSError):   # another C library
        return None


def limit_heaps() -> bool:
    """Makes all threads that start from now on share a heap; returns whether that was possible.

    Respects MALLOC_ARENA_MAX of the user.
    """
    mallopt = _glibc('mallopt')
    if mallopt is None or 'MALLOC_ARENA_MAX' in os.environ:
        return False
    return bool(mallopt(M_ARENA_MAX, ARENAS))


def limit_kernel_cache() -> None:
    """Limits the kernels that oneDNN caches, unless the user has; call it before torch is loaded.
    """
    os.environ.setdefault(*KERNEL_CACHE)


def release_free_memory() -> bool:
    """Gives free pages of the heaps back to the system; returns whether there were any.

    Does nothing without glibc.
    """
    trim = _glibc('malloc_trim')
    return bool(trim(0)) if trim is not None else False
