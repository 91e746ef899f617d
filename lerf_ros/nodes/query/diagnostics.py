# SPDX-License-Identifier: Apache-2.0
"""/diagnostics of the query node: which snapshot answers, its age, how queries go (REP-107)."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from lerf_ros.msg import ErrorCode
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.conversions import ns_to_stamp, stamp_to_ns
from lerf_ros.nodes.common.diagnostics import RATE_WINDOW_S, diagnostic_status
from lerf_ros.nodes.query.messages import error_name

if TYPE_CHECKING:
    from lerf_ros.asked_map import AskedMap

PERIOD_S = 1.0
RECENT_S = 10.0     # a failure is reported for so long, and latencies are of this time
HISTORY = 1000      # answers from which rate and latency are computed, at most
# Failures of the node itself; the others are the client's.
NODE_FAILURES = {'BUSY', 'INTERNAL'}


@dataclass(frozen=True)
class QueryNodeState:
    """What the diagnostics report on.

    map_query: None while the node is not configured. error: why the newest search for a snapshot
    failed, empty when it did not. waiting: queries that wait for their answer.
    """

    map_query: AskedMap | None
    active: bool
    error: str
    waiting: int


class QueryStatistics:
    """Counts the answers since the node started; thread-safe."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """clock_s: seconds of any origin."""
        self._clock_s, self._lock = clock_s, threading.Lock()
        self.answered = 0
        self.failed: Counter[str] = Counter()       # by the name of the error code
        self._recent: deque[tuple[float, float]] = deque(maxlen=HISTORY)    # time, latency
        self._failed_at = -math.inf
        self._failure = ''

    def add(self, error_code: int, seconds: float) -> None:
        """Counts an answer. error_code: of msg/ErrorCode. seconds: that the node worked on it."""
        now = self._clock_s()
        with self._lock:
            if error_code == ErrorCode.NONE:
                self.answered += 1
                self._recent.append((now, seconds))
                return
            name = error_name(error_code)
            self.failed[name] += 1
            if name in NODE_FAILURES:
                self._failed_at, self._failure = now, name

    def report(self, waiting: int) -> DiagnosticStatus:
        """Returns counts, rate and latency; a warning while the node itself fails."""
        now = self._clock_s()
        with self._lock:
            recent, failed = list(self._recent), dict(self.failed)
            failure = self._failure if now - self._failed_at < RECENT_S else ''
            answered = self.answered
        rate = sum(at > now - RATE_WINDOW_S for at, _ in recent) / RATE_WINDOW_S
        last = [1000 * seconds for at, seconds in recent if at > now - RECENT_S]
        words = f'{answered} answered, {rate:.1f} Hz' if answered else 'none yet'
        if failure:
            words += f'; {failure} in the last {RECENT_S:.0f} s: {failed[failure]} so far'
        return diagnostic_status(
            DiagnosticStatus.WARN if failure else DiagnosticStatus.OK, 'queries', words, {
                'answered': answered, 'failed': sum(failed.values()) - failed.get('BUSY', 0),
                'busy': failed.get('BUSY', 0), 'waiting': waiting, 'rate (Hz)': rate,
                'latency p50 (ms)': median(last) if last else math.nan,
                'latency max (ms)': max(last, default=math.nan),
                'age of the last answer (s)': now - recent[-1][0] if recent else math.nan,
                **{f'failed: {name}': count for name, count in sorted(failed.items())}})


def map_status(state: QueryNodeState, now_ns: int) -> DiagnosticStatus:
    """Returns which snapshot answers and its age at now_ns of the node's clock."""
    map_, active, error = state.map_query, state.active, state.error
    loaded = map_ is not None and map_.ready
    level = DiagnosticStatus.OK if loaded and active and not error else DiagnosticStatus.WARN
    if error and not loaded:
        level = DiagnosticStatus.ERROR
    words = 'not configured' if map_ is None else 'not active' if not active else (
        f'snapshot {map_.snapshot_id} answers' if loaded else 'no snapshot yet')
    age_s = max(now_ns - map_.snapshot_stamp_ns, 0) * 1e-9 if map_ and loaded else math.nan
    return diagnostic_status(level, 'map', '; '.join(filter(None, [words, error])), {
        'loaded': loaded, 'snapshot': map_.snapshot_id if map_ and loaded else 0,
        'map frame': map_.frame_id if map_ and loaded else '', 'snapshot age (s)': age_s})


class QueryDiagnostics:
    """Publishes /diagnostics once a second, in every state of the node."""

    def __init__(self, node: Node, state: Callable[[], QueryNodeState]) -> None:
        """state: returns the state at this moment."""
        self.statistics = QueryStatistics()
        self._node, self._state = node, state
        self._publisher = qos_overrides.publisher(
            node, DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        node.create_timer(PERIOD_S, self.publish)

    def publish(self) -> None:
        """Publishes the state at this moment."""
        state = self._state()
        array = DiagnosticArray()
        array.header.stamp = ns_to_stamp(self._node.get_clock().now().nanoseconds)
        name = self._node.get_fully_qualified_name().lstrip('/')
        for status in (map_status(state, stamp_to_ns(array.header.stamp)),
                       self.statistics.report(state.waiting)):
            status.name = f'{name}: {status.name}'
            array.status.append(status)
        self._publisher.publish(array)
