# SPDX-License-Identifier: Apache-2.0
"""Images that could not be used, or with a doubt: counted by reason, warned of now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable


class Missing(Exception):
    """Something of a frame has not arrived; (reason, message) if it never does."""


class Unusable(Missing):
    """What has arrived cannot be used: the image is refused at once, with (reason, message)."""


WARN_PERIOD_S = 5.0


class Refusals:
    """Counts refusals; each reason is warned of at once and then every few seconds at most."""

    def __init__(self, warn: Callable[[str], None],
                 clock_s: Callable[[], float] = time.monotonic) -> None:
        self._warn, self._clock_s = warn, clock_s
        self._warned_s: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self._messages: dict[str, tuple[float, str]] = {}    # reason -> when and what it last was
        self.latest = ''

    def refuse(self, reason: str, message: str) -> None:
        """Counts one image under a short reason; the message says what to do about it."""
        self.counts[reason] += 1
        self.latest = message
        count = self.counts[reason]
        self._say(reason, message, f' ({count} images so far)' if count > 1 else '')

    def note(self, reason: str, message: str) -> None:
        """Says what is wrong with an image that is used all the same."""
        self._say(f'note: {reason}', message, '')

    def _say(self, reason: str, message: str, more: str) -> None:
        now = self._clock_s()
        self._messages[reason] = now, message
        if now - self._warned_s.get(reason, float('-inf')) >= WARN_PERIOD_S:
            self._warned_s[reason] = now
            self._warn(message + more)

    def recent(self, seconds: float) -> dict[str, str]:
        """The latest message of each reason that an image was refused or noted for not long ago."""
        since = self._clock_s() - seconds
        return {reason: text for reason, (at, text) in self._messages.items() if at >= since}

    @property
    def total(self) -> int:
        """All refusals together."""
        return sum(self.counts.values())
