# SPDX-License-Identifier: Apache-2.0
"""A service that answers from its own thread, in order, and no faster than clients can read.

A client at the default QoS keeps 10 unread replies; the eleventh silently overwrites the first. Of
1,000 requests that were sent at once and answered immediately, 853 got a reply; with 5 ms between
the replies all did, on an idle machine. On a busy machine clients read later; how late our own
thread wakes up tells how busy it is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import QoSProfile

Request = TypeVar('Request')
Response = TypeVar('Response')

UNREAD = 5          # replies that may go out at once: half of what a client keeps by default
GAP_S = 0.02        # between further replies on an idle machine: four times the measured minimum
LATE_FACTOR = 4     # multiples of the recent delay of a sleep that are added to the gap
LATE_DECAY = 0.95   # of that delay, with every reply
MAX_LATE_S = 0.05
QUIET_S = 0.02      # a client that has sent nothing for so long is reading
MAX_HOLD_S = 1.0    # replies wait no longer for a client that goes on sending
POLL_S = 0.001


class ReplyPacer:
    """Decides when the next reply may go out. Only `arrived` may be called from another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        """clock: seconds of any origin. sleep: waits for seconds."""
        self._clock, self._sleep = clock, sleep
        self._allowance, self._late_s = float(UNREAD), 0.0
        self._last_arrival = self._last_reply = clock()

    def arrived(self) -> None:
        """Notes that a request has arrived."""
        self._last_arrival = self._clock()

    def wait(self, others_wait: bool) -> None:
        """Returns when a reply may go out. others_wait: whether more requests wait for an answer.

        Once the allowance is used up, it waits while requests keep arriving, because a client that
        still sends does not read yet.
        """
        quiet_s = self._clock() - max(self._last_arrival, self._last_reply)
        self._allowance = min(self._allowance + quiet_s / self._gap_s, UNREAD)
        if self._allowance < 1:
            held_since = self._clock()
            while (others_wait and self._clock() - self._last_arrival < QUIET_S
                   and self._clock() - held_since < MAX_HOLD_S):
                self._sleep(POLL_S)
            self._rest(self._gap_s)
            self._allowance = 1.0
        self._allowance -= 1
        self._last_reply = self._clock()

    @property
    def _gap_s(self) -> float:
        return GAP_S + LATE_FACTOR * self._late_s

    def _rest(self, seconds: float) -> None:
        """Sleeps, and measures by how much that was too long."""
        start = self._clock()
        self._sleep(seconds)
        late_s = min(self._clock() - start - seconds, MAX_LATE_S)
        self._late_s = max(late_s, LATE_DECAY * self._late_s)


@dataclass
class PendingCall(Generic[Request, Response]):
    """A call that waits for its reply.

    request: None for a call that was refused, because too many waited. header: identifies the
    client for rclpy.
    """

    request: Request | None
    response: Response
    header: object


class DeferredService(Generic[Request, Response]):
    """Takes requests in the executor's thread and answers them in its own thread, in order."""

    def __init__(self, node: Node, kind: type, name: str, qos: QoSProfile, max_waiting: int,
                 answer: Callable[[Request, Response], Callable[[], None] | None],
                 refuse: Callable[[Response], None],
                 pacer: ReplyPacer | None = None) -> None:
        """answer: fills a response, and may return what to call once it has been sent.

        refuse: fills the response to a request beyond `max_waiting`. Neither may raise.
        """
        self._answer, self._refuse, self._max_waiting = answer, refuse, max_waiting
        self._pacer = pacer or ReplyPacer()
        self._logger = node.get_logger()
        self._calls: deque[PendingCall[Request, Response]] = deque()
        self._waiting, self._changed, self._stopped = 0, threading.Condition(), False
        self._jobs: deque[Callable[[], None]] = deque()
        # rclpy passes what a callback returns to send_response, with the header of the request;
        # replacing that method is the only way to get both.
        self._service = node.create_service(
            kind, name, lambda request, response: (request, response), qos_profile=qos)
        self._send = self._service.send_response
        self._service.send_response = self._take
        self._thread = threading.Thread(target=self._run, name=f'{name} answers', daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their answer."""
        return self._waiting

    def do(self, job: Callable[[], None]) -> None:
        """Runs a job before the next answer; it must not raise."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Ends the thread after the current answer; requests that wait get none."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _take(self, pair: tuple[Request, Response], header: object) -> None:
        request, response = pair
        self._pacer.arrived()
        with self._changed:
            refused = self._waiting >= self._max_waiting
            self._waiting += not refused
            self._calls.append(PendingCall(None if refused else request, response, header))
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
                self._waiting -= call is not None and call.request is not None
            if job is not None:
                job()
            elif call is not None:
                self._serve(call)

    def _serve(self, call: PendingCall[Request, Response]) -> None:
        afterwards = None
        if call.request is None:
            self._refuse(call.response)
        else:
            afterwards = self._answer(call.request, call.response)
        self._pacer.wait(bool(self._calls))
        self._reply(call)
        if afterwards is not None:
            afterwards()

    def _reply(self, call: PendingCall[Request, Response]) -> None:
        try:
            self._send(call.response, call.header)
        except InvalidHandle:
            return      # the node is being destroyed
        except RuntimeError as error:   # an error of rcl; a client that is gone causes none
            self._logger.warning(f'a reply could not be sent: {error}')
