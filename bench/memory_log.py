# SPDX-License-Identifier: Apache-2.0
"""Records the resident memory of a process and its children while something runs.

    with MemoryLog() as log:
        log.phase = 'drive'
        work()
    log.write(Path('out/bench/memory'))     # memory.json, and memory.png where matplotlib is there
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

MB = 2 ** 20


@dataclass(frozen=True)
class Sample:
    """The memory of all processes together at a moment, seconds after the beginning."""

    s: float
    mb: float
    phase: str


class MemoryLog:
    """Samples in a thread, from the beginning of a block to its end."""

    def __init__(self, every_s: float = 2.0, root: int = 0) -> None:
        """root: the process that is watched with its children; this one if 0."""
        self.samples: list[Sample] = []
        self.phase, self._every_s, self._root = '', every_s, root or os.getpid()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        start = time.monotonic()
        while True:
            self.samples.append(Sample(round(time.monotonic() - start, 1),
                                       round(resident_bytes(self._root) / MB, 1), self.phase))
            if self._end.wait(self._every_s):
                return

    def peak_mb(self, phase: str = '') -> float:
        """Returns the most memory in a phase, or in all."""
        return max((s.mb for s in self.samples if phase in ('', s.phase)), default=0.0)

    def write(self, path: Path) -> None:
        """Writes PATH.json, and PATH.png where matplotlib is installed."""
        path.with_suffix('.json').write_text(json.dumps([asdict(s) for s in self.samples]))
        try:
            import matplotlib
        except ImportError:
            return
        matplotlib.use('Agg')
        from matplotlib import pyplot
        figure, axes = pyplot.subplots(figsize=(8, 3), layout='constrained')
        for phase in dict.fromkeys(s.phase for s in self.samples):
            own = [s for s in self.samples if s.phase == phase]
            axes.plot([s.s / 60 for s in own], [s.mb for s in own], '.', markersize=2, label=phase)
        axes.set(xlabel='minutes', ylabel='resident memory, MB', ylim=(0, None))
        axes.legend(loc='lower right')
        figure.savefig(path.with_suffix('.png'), dpi=120)
        pyplot.close(figure)


def resident_bytes(root: int) -> int:
    """Returns the resident memory of a process and all its children, shared pages each time."""
    parents = dict(filter(None, map(parent_of, Path('/proc').glob('[0-9]*'))))
    family, grown = {root}, True
    while grown:
        found = {pid for pid, parent in parents.items() if parent in family} - family
        family, grown = family | found, bool(found)
    return sum(map(resident, family))


def parent_of(process: Path) -> tuple[int, int] | None:
    """Returns the ids of a process and of its parent; None for one that has ended."""
    try:
        # The name, in brackets, may hold blanks and brackets.
        return int(process.name), int((process / 'stat').read_text().rpartition(')')[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def resident(pid: int) -> int:
    """Returns the resident memory of one process, bytes; 0 for one that has ended."""
    try:
        pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf('SC_PAGE_SIZE')
