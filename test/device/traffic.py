# SPDX-License-Identifier: Apache-2.0
"""Counts what a program asks of a device: launches, copies and waits, by file and line."""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

PROJECT = Path(__file__).resolve().parents[2] / 'lerf_ros'
# A line of a stack as torch keeps it of the forward pass.
_STACK_LINE = re.compile(re.escape(f'File "{PROJECT}/') + r'(.+?)", line (\d+)')


class Traffic:
    """Counters by place, `file:line` below lerf_ros; they count only inside of `counted`.

    launches: operations that start at least one kernel. Some start several (a sort, an index that
    accumulates), so a GPU sees at least as many. copies: from the host to the device, which a GPU
    waits for as well unless they are non_blocking. waits: where the host stands until the device
    has finished, because it needs a number, or a size that depends on numbers, or copied.
    """

    def __init__(self) -> None:
        self.counting = self.capturing = False
        self.launches: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    @property
    def watching(self) -> bool:
        """Whether anybody has to know of an operation."""
        return self.counting or self.capturing

    @contextlib.contextmanager
    def counted(self) -> Iterator[Traffic]:
        """Counts from zero; the places of gradients are those of what they are gradients of."""
        for counter in (self.launches, self.copies, self.waits):
            counter.clear()
        self.counting = True
        try:
            # Its records of the forward pass tell in the backward pass where that was.
            with torch.autograd.set_detect_anomaly(True, check_nan=False):
                yield self
        finally:
            self.counting = False

    def launch(self) -> None:
        """Counts an operation on the device."""
        if self.counting and not self.capturing:
            self.launches[place()] += 1

    def copy(self) -> None:
        """Counts a copy from the host to the device."""
        if self.counting and not self.capturing:
            self.copies[place()] += 1

    def wait(self, reason: str) -> None:
        """Counts a synchronisation of the host with the device, which a capture cannot have."""
        if self.capturing:
            raise RuntimeError('CUDA error: operation not permitted when stream is capturing '
                               f'({reason} at {place()})')
        if self.counting:
            self.waits[f'{place()} ({reason})'] += 1

    def totals(self, steps: int) -> dict[str, float]:
        """Returns the counts of each kind, for each of so many steps."""
        return {name: getattr(self, name).total() / steps
                for name in ('launches', 'copies', 'waits')}

    def table(self, steps: int, most: int = 1000) -> str:
        """Returns the places that count most as lines of text, for each of so many steps."""
        lines = []
        for name in ('waits', 'copies', 'launches'):
            counter: Counter[str] = getattr(self, name)
            lines += [f'{name}: {counter.total() / steps:g} a step'] + [
                f'  {count / steps:7g}  {where}' for where, count in counter.most_common(most)]
        return '\n'.join(lines)


TRAFFIC = Traffic()     # of the device


def place() -> str:
    """Returns the innermost line of the project that is running, or whose gradient is."""
    node = torch._C._current_autograd_node()
    stack = [] if node is None else node.metadata.get('traceback_', [])
    for line in reversed(stack):
        found = _STACK_LINE.search(line)
        if found:
            return f'{found[1]}:{found[2]} backward'
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(f'{PROJECT}/'):
            return f'{name[len(str(PROJECT)) + 1:]}:{frame.f_lineno}'
        frame = frame.f_back
    return 'outside of lerf_ros'
