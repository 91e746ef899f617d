# SPDX-License-Identifier: Apache-2.0
"""Gives memory back to the system that the C library keeps after something large was replaced."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):   # not glibc
        return None


def give_back() -> bool:
    """Returns free pages of the heap; whether there were any. Does nothing without glibc.

    What one thread has freed another one does not always use again: without this, resident memory
    creeps up as snapshots come and go (bench/query_memory.py).
    """
    trim = _trim()
    return bool(trim(0)) if trim is not None else False
