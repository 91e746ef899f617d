# SPDX-License-Identifier: Apache-2.0
"""/diagnostics: rates and ages of the inputs, and what the mapper does (REP-107)."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile

from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common.conversions import ns_to_stamp

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


STATE_NAMES = {FieldStatus.WAITING: 'waiting', FieldStatus.MAPPING: 'mapping',
               FieldStatus.PAUSED: 'paused', FieldStatus.FAILED: 'failed',
               FieldStatus.SETTLED: 'settled'}


def diagnostics(node: str, status: FieldStatus, faults: Mapping[str, str],
                watches: Sequence[InputWatch], now_ns: int) -> DiagnosticArray:
    """One status for the field and one for each input; `faults` by topic, in words."""
    array = DiagnosticArray()
    array.header.stamp = ns_to_stamp(now_ns)
    array.status.append(field_status(node, status))
    array.status.extend(input_status(node, watch, faults.get(watch.topic, ''))
                        for watch in watches)
    return array


def field_status(node: str, status: FieldStatus) -> DiagnosticStatus:
    """What the mapper does, and all that is wrong with what it gets."""
    failed = status.state == FieldStatus.FAILED
    level = DiagnosticStatus.ERROR if failed else \
        DiagnosticStatus.WARN if status.diagnoses else DiagnosticStatus.OK
    words = '; '.join(filter(None, [STATE_NAMES[status.state], status.message,
                                    *status.diagnoses]))
    refusals = zip(status.refusal_reasons, status.refusal_counts, strict=True)
    return as_status(level, f'{node}: field', words, {
        'images received': status.images_received, 'keyframes used': status.keyframes_used,
        'images refused': status.images_refused,
        **{f'refused: {reason}': count for reason, count in refusals},
        'image age (s)': status.image_age, 'steps': status.steps,
        'rays per second': status.rays_per_second, 'psnr (dB)': status.psnr})


def input_status(node: str, watch: InputWatch, fault: str) -> DiagnosticStatus:
    """Rate and age of one input."""
    level = DiagnosticStatus.OK
    if fault:
        level = DiagnosticStatus.STALE if watch.count else DiagnosticStatus.WARN
    words = fault or (f'{watch.rate():.1f} Hz' if watch.count else 'nothing yet')
    return as_status(level, f'{node}: {watch.name}', words, {
        'topic': watch.topic, 'messages': watch.count, 'rate (Hz)': watch.rate(),
        'age (s)': watch.age_s()})


def as_status(level: bytes, name: str, message: str,
              values: Mapping[str, object]) -> DiagnosticStatus:
    """The message, with numbers in few digits and nothing where there is none."""
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id='lerf_ros',
                            values=[KeyValue(key=key, value=as_text(value))
                                    for key, value in values.items()])


def as_text(value: object) -> str:
    """A value of a diagnostic; empty for a number that is not known."""
    if isinstance(value, float):
        return f'{value:.4g}' if math.isfinite(value) else ''
    return str(value)
