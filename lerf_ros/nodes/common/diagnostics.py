# SPDX-License-Identifier: Apache-2.0
"""Rate, age and QoS of what a node listens to, and the messages on /diagnostics (REP-107)."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import ns_to_stamp

Message = TypeVar('Message')
RATE_WINDOW_S = 5.0
STATE_NAMES = {FieldStatus.WAITING: 'waiting', FieldStatus.MAPPING: 'mapping',
               FieldStatus.PAUSED: 'paused', FieldStatus.FAILED: 'failed',
               FieldStatus.SETTLED: 'settled'}


@dataclass
class InputMonitor:
    """Counts the messages on a topic that a node listens to.

    name: of the input, for people. parameter: the one that sets the topic. type_name: as
    'package/msg/Name'. qos: returns what the subscription asks for now. clock_s: seconds of any
    origin. rare: messages come only when something happens, so that silence is no fault.
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
    incompatible: str = ''      # the QoS policy of the last incompatible offer
    _arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def __post_init__(self) -> None:
        self.since_s = self.clock_s()

    def seen(self) -> None:
        """Counts a message that has just arrived."""
        self.count += 1
        self.last_s = self.clock_s()
        self._arrivals.append(self.last_s)

    def publishers(self, present: bool) -> None:
        """Notes whether anybody publishes on the topic now."""
        self.publisher_since_s = min(self.publisher_since_s, self.clock_s()) if present \
            else math.inf

    def rate(self) -> float:
        """Returns the messages per second over the last RATE_WINDOW_S seconds."""
        start = self.clock_s() - RATE_WINDOW_S
        return sum(at > start for at in self._arrivals) / RATE_WINDOW_S

    def age_s(self) -> float:
        """Returns the seconds since the last message; infinite before the first."""
        return self.clock_s() - self.last_s


def input_monitor(node: Node, name: str, kind: type, topic: str, parameter: str, qos: QoSProfile,
                  rare: bool = False) -> InputMonitor:
    """Returns the monitor of a message class on a topic, which the node's remappings resolve."""
    type_name = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
    return InputMonitor(name, node.resolve_topic_name(topic), parameter, type_name, lambda: qos,
                        rare=rare)


def subscribe_monitored(node: Node, monitor: InputMonitor, kind: type[Message], topic: str,
                        callback: Callable[[Message], None], qos: QoSProfile,
                        identity: str | None = None) -> Subscription:
    """Returns a subscription whose messages and QoS the monitor follows.

    Raises ConfigError as qos_overrides.subscribe, which also explains `identity`.
    """
    def take(msg: Message) -> None:
        monitor.seen()
        callback(msg)
    subscription = qos_overrides.subscribe(node, kind, topic, take, qos, identity)
    monitor.qos = lambda: subscription.qos_profile
    return subscription


def mapper_diagnostics(node: str, status: FieldStatus, faults: Mapping[str, str],
                       monitors: Sequence[InputMonitor], now_ns: int) -> DiagnosticArray:
    """Returns one status for the field and one for each input.

    faults: what is wrong with an input, by topic.
    """
    array = DiagnosticArray()
    array.header.stamp = ns_to_stamp(now_ns)
    array.status.append(_field_status(node, status))
    array.status.extend(_input_status(node, monitor, faults.get(monitor.topic, ''))
                        for monitor in monitors)
    return array


def _field_status(node: str, status: FieldStatus) -> DiagnosticStatus:
    failed = status.state == FieldStatus.FAILED
    level = DiagnosticStatus.ERROR if failed else \
        DiagnosticStatus.WARN if status.diagnoses else DiagnosticStatus.OK
    words = '; '.join(filter(None, [STATE_NAMES[status.state], status.message,
                                    *status.diagnoses]))
    refusals = zip(status.refusal_reasons, status.refusal_counts, strict=True)
    return diagnostic_status(level, f'{node}: field', words, {
        'images received': status.images_received, 'keyframes used': status.keyframes_used,
        'images refused': status.images_refused,
        **{f'refused: {reason}': count for reason, count in refusals},
        'image age (s)': status.image_age, 'steps': status.steps,
        'rays per second': status.rays_per_second, 'psnr (dB)': status.psnr})


def _input_status(node: str, monitor: InputMonitor, fault: str) -> DiagnosticStatus:
    level = DiagnosticStatus.OK
    if fault:
        level = DiagnosticStatus.STALE if monitor.count else DiagnosticStatus.WARN
    words = fault or (f'{monitor.rate():.1f} Hz' if monitor.count else 'nothing yet')
    return diagnostic_status(level, f'{node}: {monitor.name}', words, {
        'topic': monitor.topic, 'messages': monitor.count, 'rate (Hz)': monitor.rate(),
        'age (s)': monitor.age_s()})


def diagnostic_status(level: bytes, name: str, message: str,
                      values: Mapping[str, object]) -> DiagnosticStatus:
    """Returns the message of values by key: floats in four digits, '' where they are not finite."""
    def as_text(value: object) -> str:
        if isinstance(value, float):
            return f'{value:.4g}' if math.isfinite(value) else ''
        return str(value)
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id='lerf_ros',
                            values=[KeyValue(key=key, value=as_text(value))
                                    for key, value in values.items()])
