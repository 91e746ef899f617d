# SPDX-License-Identifier: Apache-2.0
"""A tensor that rows are appended to, without copying it each time."""

from __future__ import annotations

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
        first, needed = self._count, self._count + len(rows)
        if needed > len(self._buffer):
            # A quarter more than needed: doubling would waste gigabytes on a large capture.
            capacity = max(needed, needed + needed // 4)
            grown = self._buffer.new_empty((capacity, *self._buffer.shape[1:]))
            grown[:first] = self._buffer[:first]
            self._buffer = grown
        self._buffer[first:needed] = rows.to(self._buffer)
        self._count = needed
        return first
