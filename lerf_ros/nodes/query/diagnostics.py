# SPDX-License-Identifier: Apache-2.0
"""/diagnostics of the query node: which map answers, how old it is, how queries go (REP-107)."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.conversions import ns_to_stamp, stamp_to_ns
from lerf_ros.nodes.common.diagnostics import RATE_WINDOW_S, as_status
from lerf_ros.srv import Query

PERIOD_S = 1.0
RECENT_S = 10.0     # what went wrong so long ago is still the present state
KEPT = 1000         # answers that rate and latency are taken from, at most
CODES: Mapping[int, str] = {
    getattr(Query.Response, error): error for error in (
        'EMPTY_TEXT', 'NO_SNAPSHOT', 'MAP_UNREADABLE', 'ENCODER_UNAVAILABLE', 'ENCODER_MISMATCH',
        'INVALID_THRESHOLD', 'NOT_ACTIVE', 'BUSY', 'EMPTY_NEGATIVE', 'INVALID_REQUEST',
        'NO_TRANSFORM', 'BAD_IMAGE', 'NOT_UNDERSTOOD', 'INTERNAL')}
# Failures that are the node's own, not those of who asks.
OURS = {'BUSY', 'INTERNAL'}


class QueryTally:
    """Counts the answers since the node was started; for any thread."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s, self._lock = clock_s, threading.Lock()
        self.answered = 0
        self.failed: Counter[str] = Counter()       # by the name of the error code
        self._recent: deque[tuple[float, float]] = deque(maxlen=KEPT)   # when, seconds
        self._wrong_at = -math.inf
        self._wrong = ''

    def add(self, error_code: int, seconds: float) -> None:
        """Takes one answer: its code in srv/Query, and how long the node worked on it."""
        now = self._clock_s()
        with self._lock:
            if error_code == Query.Response.NONE:
                self.answered += 1
                self._recent.append((now, seconds))
                return
            name = CODES.get(error_code, str(error_code))
            self.failed[name] += 1
            if name in OURS:
                self._wrong_at, self._wrong = now, name

    def report(self, waiting: int) -> DiagnosticStatus:
        """Counts, rate and latency; a warning while answers fail that should not."""
        now = self._clock_s()
        with self._lock:
            recent, failed = list(self._recent), dict(self.failed)
            wrong = self._wrong if now - self._wrong_at < RECENT_S else ''
            answered = self.answered
        rate = sum(at > now - RATE_WINDOW_S for at, _ in recent) / RATE_WINDOW_S
        last = [1000 * seconds for at, seconds in recent if at > now - RECENT_S]
        words = f'{answered} answered, {rate:.1f} Hz' if answered else 'none yet'
        if wrong:
            words += f'; {wrong} in the last {RECENT_S:.0f} s: {failed[wrong]} so far'
        return as_status(
            DiagnosticStatus.WARN if wrong else DiagnosticStatus.OK, 'queries', words, {
                'answered': answered, 'failed': sum(failed.values()) - failed.get('BUSY', 0),
                'busy': failed.get('BUSY', 0), 'waiting': waiting, 'rate (Hz)': rate,
                'latency p50 (ms)': median(last) if last else math.nan,
                'latency max (ms)': max(last, default=math.nan),
                'age of the last answer (s)': now - recent[-1][0] if recent else math.nan,
                **{f'failed: {name}': count for name, count in sorted(failed.items())}})


def map_status(map_: Any, active: bool, error: str, now_ns: int) -> DiagnosticStatus:
    """Which snapshot answers and how old it is, by the clock of the node (now_ns).

    map_: a MapQuery, None while nothing is configured. error: why the newest look for a snapshot
    failed; empty when it did not.
    """
    loaded = map_ is not None and map_.ready
    level = DiagnosticStatus.OK if loaded and active and not error else DiagnosticStatus.WARN
    if error and not loaded:
        level = DiagnosticStatus.ERROR
    state = 'not configured' if map_ is None else 'not active' if not active else (
        f'snapshot {map_.snapshot_id} answers' if loaded else 'no snapshot yet')
    return as_status(level, 'map', '; '.join(filter(None, [state, error])), {
        'loaded': loaded, 'snapshot': map_.snapshot_id if loaded else 0,
        'map frame': map_.frame_id if loaded else '',
        'snapshot age (s)':
            max(now_ns - map_.snapshot_stamp_ns, 0) * 1e-9 if loaded else math.nan})


class QueryDiagnostics:
    """Publishes /diagnostics once a second, in every state of the node."""

    def __init__(self, node: Node, look: Callable[[], tuple[Any, bool, str, int]]) -> None:
        """look: the map or None, whether the node is active, the map's error, queries waiting."""
        self.tally = QueryTally()
        self._node, self._look = node, look
        self._publisher = qos_overrides.publisher(
            node, DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        node.create_timer(PERIOD_S, self.publish)

    def publish(self) -> None:
        """Sends the report of this moment."""
        map_, active, error, waiting = self._look()
        array = DiagnosticArray()
        array.header.stamp = ns_to_stamp(self._node.get_clock().now().nanoseconds)
        name = self._node.get_fully_qualified_name().lstrip('/')
        for status in (map_status(map_, active, error, stamp_to_ns(array.header.stamp)),
                       self.tally.report(waiting)):
            status.name = f'{name}: {status.name}'
            array.status.append(status)
        self._publisher.publish(array)
