# SPDX-License-Identifier: Apache-2.0
"""Images that were not used, or used with a doubt: counted by reason, with rare warnings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

WARN_PERIOD_S = 5.0


class MissingInput(Exception):
    """Something that belongs to an image has not arrived; (reason, message) if it never does."""


class UnusableInput(MissingInput):
    """What has arrived cannot be used; the image is refused at once with (reason, message)."""


class Refusals:
    """Counts refusals, and warns of each reason at once and then every WARN_PERIOD_S at most."""

    def __init__(self, warn: Callable[[str], None],
                 clock_s: Callable[[], float] = time.monotonic) -> None:
        """warn: logs a text. clock_s: seconds of any origin."""
        self._warn, self._clock_s = warn, clock_s
        self._warned_s: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self._messages: dict[str, tuple[float, str]] = {}    # reason -> time and text of the last
        self.latest = ''

    def refuse(self, reason: str, message: str) -> None:
        """Counts one image under a short reason; the message says what to do about it."""
        self.counts[reason] += 1
        self.latest = message
        count = self.counts[reason]
        self._say(reason, message, f' ({count} images so far)' if count > 1 else '')

    def note(self, reason: str, message: str) -> None:
        """Warns of something odd about an image that is used all the same."""
        self._say(f'note: {reason}', message, '')

    def _say(self, reason: str, message: str, suffix: str) -> None:
        now = self._clock_s()
        self._messages[reason] = now, message
        if now - self._warned_s.get(reason, float('-inf')) >= WARN_PERIOD_S:
            self._warned_s[reason] = now
            self._warn(message + suffix)

    def recent(self, seconds: float) -> dict[str, str]:
        """Returns the latest message of each reason that occurred in the last seconds."""
        since = self._clock_s() - seconds
        return {reason: text for reason, (at, text) in self._messages.items() if at >= since}

    @property
    def total(self) -> int:
        """The number of refused images."""
        return sum(self.counts.values())
