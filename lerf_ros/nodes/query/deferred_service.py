# SPDX-License-Identifier: Apache-2.0
"""A service that answers later, from a thread, in order, and no faster than clients can read.

A client at the default QoS keeps 10 replies that it has not read; the eleventh overwrites the
first without a word. Of 1,000 requests sent in one go and answered at once, 853 got a reply; with
5 ms between the replies all did, while the machine was idle. On a busy one clients read later:
how late our own thread wakes up tells how busy it is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import QoSProfile

UNREAD = 5          # replies that may go out at once: half of what a client keeps by default
GAP_S = 0.02        # between further ones, on an idle machine: four times what was just enough
LATE_FACTOR = 4     # and so many times the latest that a sleep has ended of late,
LATE_DECAY = 0.95   # which counts less with every reply
MAX_LATE_S = 0.05
QUIET_S = 0.02      # a client that has sent nothing for so long reads
MAX_HOLD_S = 1.0    # replies wait no longer than this for a client that goes on sending
LOOK_S = 0.001


class ReplyPace:
    """Tells when the next reply may go out. Not for several threads, except `arrived`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self._clock, self._sleep = clock, sleep
        self._left, self._late_s = float(UNREAD), 0.0
        self._last_arrival = self._last_reply = clock()

    def arrived(self) -> None:
        """A request has come in."""
        self._last_arrival = self._clock()

    def wait(self, others_wait: bool) -> None:
        """Returns when a reply may go out; others_wait: whether more requests are to be answered.

        While requests keep coming and the allowance is used up nothing is sent: who still sends
        does not read yet.
        """
        quiet_s = self._clock() - max(self._last_arrival, self._last_reply)
        self._left = min(self._left + quiet_s / self._gap_s, UNREAD)
        if self._left < 1:
            held_since = self._clock()
            while (others_wait and self._clock() - self._last_arrival < QUIET_S
                   and self._clock() - held_since < MAX_HOLD_S):
                self._sleep(LOOK_S)
            self._rest(self._gap_s)
            self._left = 1.0
        self._left -= 1
        self._last_reply = self._clock()

    @property
    def _gap_s(self) -> float:
        return GAP_S + LATE_FACTOR * self._late_s

    def _rest(self, seconds: float) -> None:
        """Sleeps, and learns by how much that was too long."""
        start = self._clock()
        self._sleep(seconds)
        late_s = min(self._clock() - start - seconds, MAX_LATE_S)
        self._late_s = max(late_s, LATE_DECAY * self._late_s)


@dataclass
class Call:
    """A request that waits. refused: there was no room for it, so that it is not kept."""

    request: Any
    response: Any
    header: Any
    refused: bool


class DeferredService:
    """Takes requests in the executor's thread and answers them in one of its own, in order.

    answer: fills the response of a request, and returns what is to be done once it has been sent.
    refuse: fills that of a request beyond `max_waiting`. None of them may raise.
    """

    def __init__(self, node: Node, kind: type, name: str, qos: QoSProfile, max_waiting: int,
                 answer: Callable[[Any, Any], Callable[[], None] | None],
                 refuse: Callable[[Any], None],
                 pace: ReplyPace | None = None) -> None:
        self._answer, self._refuse, self._max_waiting = answer, refuse, max_waiting
        self._pace = pace or ReplyPace()
        self._logger = node.get_logger()
        self._calls: deque[Call] = deque()
        self._waiting, self._changed, self._stopped = 0, threading.Condition(), False
        self._jobs: deque[Callable[[], None]] = deque()
        # rclpy sends what a callback returns, and shows the request's header to no one but
        # send_response; replaced, it hands over both.
        self._service = node.create_service(
            kind, name, lambda request, response: (request, response), qos_profile=qos)
        self._send = self._service.send_response
        self._service.send_response = self._take
        self._thread = threading.Thread(target=self._run, name=f'{name} answers', daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait for their answer."""
        return self._waiting

    def do(self, job: Callable[[], None]) -> None:
        """Runs a job between two answers, before those that wait; it must not raise."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Ends the thread after the answer in work; those that wait get none."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _take(self, pair: tuple[Any, Any], header: Any) -> None:
        request, response = pair
        self._pace.arrived()
        with self._changed:
            refused = self._waiting >= self._max_waiting
            self._waiting += not refused
            self._calls.append(Call(None if refused else request, response, header, refused))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._calls or self._jobs or self._stopped):
                    self._changed.wait()
                if self._stopped:
                    return
                job = self._jobs.popleft() if self._jobs else None
                call = self._calls.popleft() if job is None else None
                self._waiting -= call is not None and not call.refused
            if job is not None:
                job()
            elif call is not None:
                self._serve(call)

    def _serve(self, call: Call) -> None:
        afterwards = None
        if call.refused:
            self._refuse(call.response)
        else:
            afterwards = self._answer(call.request, call.response)
        self._pace.wait(bool(self._calls))
        self._reply(call)
        if afterwards is not None:
            afterwards()

    def _reply(self, call: Call) -> None:
        try:
            self._send(call.response, call.header)
        except InvalidHandle:
            return      # the node is being destroyed
        except RuntimeError as error:   # rcl's errors; a client that is gone is none
            self._logger.warning(f'a reply could not be sent: {error}')
