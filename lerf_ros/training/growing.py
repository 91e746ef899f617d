# SPDX-License-Identifier: Apache-2.0
"""A tensor that rows are appended to, without copying it each time, and taken out of at times."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class GrowingTensor:
    """Rows of one shape and type; `rows` is a view of all that were appended."""

    def __init__(self, row_shape: tuple[int, ...], dtype: torch.dtype,
                 device: torch.device) -> None:
        self._buffer = torch.empty((0, *row_shape), dtype=dtype, device=device)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Tensor:
        return self._buffer[:self._count]

    def append(self, rows: Tensor) -> int:
        """Adds rows (N, ...) and returns the number of the first of them."""
        first = self._count
        self.write(first, rows)
        return first

    def write(self, first: int, rows: Tensor) -> None:
        """Puts rows (N, ...) from row `first` on, over what is there; behind the last they add."""
        needed = first + len(rows)
        if needed > len(self._buffer):
            # A quarter more than needed: doubling would waste gigabytes on a large capture.
            capacity = max(needed, needed + needed // 4)
            grown = self._buffer.new_empty((capacity, *self._buffer.shape[1:]))
            grown[:self._count] = self._buffer[:self._count]
            self._buffer = grown
        self._buffer[first:needed] = rows.to(self._buffer)
        self._count = max(self._count, needed)

    def bytes_used(self) -> int:
        """Memory of the buffer."""
        return self._buffer.numel() * self._buffer.element_size()

    def keep(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Keeps rows of these ranges (first, count) alone, in this order; where each begins now."""
        starts, position = [], 0
        for _, count in ranges:
            starts.append(position)
            position += count
        parts = [self._buffer[first:first + count] for first, count in ranges]
        self._buffer = torch.cat([self._buffer[:0], *parts])
        self._count = position
        return starts
