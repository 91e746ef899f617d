# SPDX-License-Identifier: Apache-2.0
"""Keeps libraries from holding on to memory, for a node that lives long and loads many snapshots.

Measured with bench/query_memory.py: 640 snapshots of one size, each loaded in a thread of its own,
left 12 MB more than 80 of them, free memory in the heaps that glibc keeps for each thread. Those of
different sizes left 0.7 MB each: oneDNN, with which torch multiplies in half precision, keeps a
kernel for every shape that it has seen, up to 1,024 of them.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from typing import Any

M_ARENA_MAX, ARENAS = -8, 2     # malloc.h; one for the main thread and one for all others
KERNELS = 'ONEDNN_PRIMITIVE_CACHE_CAPACITY', '64'   # a query needs a handful


@lru_cache(maxsize=2)
def _glibc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):   # another C library
        return None


def share_heaps() -> bool:
    """Has all threads that start from now on share a heap; whether that was possible.

    A user's MALLOC_ARENA_MAX is left as it is.
    """
    mallopt = _glibc('mallopt')
    if mallopt is None or 'MALLOC_ARENA_MAX' in os.environ:
        return False
    return bool(mallopt(M_ARENA_MAX, ARENAS))


def keep_few_kernels() -> None:
    """Bounds what oneDNN keeps, unless the user has; to be called before torch is loaded."""
    os.environ.setdefault(*KERNELS)


def give_back() -> bool:
    """Returns free pages of the heaps; whether there were any. Does nothing without glibc."""
    trim = _glibc('malloc_trim')
    return bool(trim(0)) if trim is not None else False
