# SPDX-License-Identifier: Apache-2.0
"""What has arrived on one topic, and since when nothing has."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.qos import QoSProfile

RATE_WINDOW_S = 5.0


@dataclass
class InputWatch:
    """One topic that a node listens to.

    name: of the input, for people. parameter: that sets the topic. type_name: as
    'package/msg/Name'. qos: what the subscription asks for now. rare: messages come only when
    something has happened, so that silence means nothing.
    """

    name: str
    topic: str
    parameter: str
    type_name: str
    qos: Callable[[], QoSProfile]
    clock_s: Callable[[], float] = time.monotonic
    rare: bool = False
    count: int = 0
    last_s: float = -math.inf
    publisher_since_s: float = math.inf
    incompatible: str = ''      # the policy of the last incompatible offer
    _arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def __post_init__(self) -> None:
        self.since_s = self.clock_s()

    def seen(self) -> None:
        """A message has arrived."""
        self.count += 1
        self.last_s = self.clock_s()
        self._arrivals.append(self.last_s)

    def publishers(self, there: bool) -> None:
        """Whether somebody publishes there now."""
        self.publisher_since_s = min(self.publisher_since_s, self.clock_s()) if there else math.inf

    def rate(self) -> float:
        """Messages a second over the last seconds."""
        start = self.clock_s() - RATE_WINDOW_S
        return sum(at > start for at in self._arrivals) / RATE_WINDOW_S

    def age_s(self) -> float:
        """Seconds since the last message; infinite before the first."""
        return self.clock_s() - self.last_s


def type_name(kind: type) -> str:
    """'package/msg/Name' of a message class."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
