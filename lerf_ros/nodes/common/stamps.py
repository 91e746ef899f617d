# SPDX-License-Identifier: Apache-2.0
"""Detects time that goes back (a bag that starts again, a simulator reset) and duplicate stamps."""

from __future__ import annotations

from collections import deque

# Messages that DDS repeats are up to 3 s late; anything older than this belongs to another run.
BACK_NS = 5 * 10**9
HISTORY = 200   # stamps that are remembered to detect duplicates


class StampMonitor:
    """Remembers the newest stamp and the last stamps of each source, in integer nanoseconds."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._recent: dict[str, deque[int]] = {}

    def went_back(self, source: str, stamp_ns: int) -> bool:
        """Takes a stamp; returns whether it is so much older than the newest that time went back.

        The source then starts anew with this stamp.
        """
        newest = self._newest.get(source, stamp_ns)
        if newest - stamp_ns > BACK_NS:
            self.restart(source)
            self._newest[source] = stamp_ns
            return True
        self._newest[source] = max(newest, stamp_ns)
        return False

    def duplicate(self, source: str, stamp_ns: int) -> bool:
        """Takes a stamp; returns whether the source had it before."""
        recent = self._recent.setdefault(source, deque(maxlen=HISTORY))
        if stamp_ns in recent:
            return True
        recent.append(stamp_ns)
        return False

    def restart(self, source: str) -> None:
        """Forgets all stamps of a source."""
        self._newest.pop(source, None)
        self._recent.pop(source, None)
