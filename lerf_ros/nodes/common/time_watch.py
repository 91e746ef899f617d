# SPDX-License-Identifier: Apache-2.0
"""Notices when time goes back: a bag that starts again, a simulator that was reset."""

from __future__ import annotations

from collections import deque

# Messages that DDS repeats come up to 3 s late; what is older than this belongs to another run.
BACK_NS = 5 * 10**9
RECENT = 200    # stamps that are remembered to notice a duplicate


class TimeWatch:
    """The newest stamp of each source, and the last stamps of it, in integer nanoseconds."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._recent: dict[str, deque[int]] = {}

    def went_back(self, source: str, stamp_ns: int) -> bool:
        """Whether a stamp lies so far before the newest of its source that time has jumped.

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
        """Whether this stamp has come before from its source; it is remembered."""
        recent = self._recent.setdefault(source, deque(maxlen=RECENT))
        if stamp_ns in recent:
            return True
        recent.append(stamp_ns)
        return False

    def restart(self, source: str) -> None:
        """Forgets what is known of a source."""
        self._newest.pop(source, None)
        self._recent.pop(source, None)
