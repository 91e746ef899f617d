# SPDX-License-Identifier: Apache-2.0
"""Where workers write how far they are (mapping/submap_workers.py); loads nothing of the method."""

from __future__ import annotations


class Board:
    """Takes the progress of all workers, and tells them whether to stop. An actor of Ray."""

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}
        self._processes: dict[int, int] = {}
        self._stopping = False

    def report(self, number: int, steps: int, process: int) -> bool:
        """Takes the steps of a submap, and the worker's process id; returns whether to stop."""
        self._steps[number], self._processes[number] = steps, process
        return self._stopping

    def read(self, stop: bool) -> tuple[dict[int, int], dict[int, int]]:
        """Returns steps and process ids by submap. stop: whether workers shall stop."""
        self._stopping = stop
        return self._steps, self._processes
