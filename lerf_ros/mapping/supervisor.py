# SPDX-License-Identifier: Apache-2.0
"""Keeps a mapping process alive: one that dies is started again on the same map directory."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lerf_ros.config import LerfConfig
from lerf_ros.frames.frame import Frame
from lerf_ros.mapping.messages import Command, MapperStatus, Pause, Reply, Stop
from lerf_ros.mapping.process import MapperProcess
from lerf_ros.process_group import exit_in_words

WINDOW_S = 600.0        # in which restarts are counted
NOTE_S = 60.0           # how long a restart stays in the status

log = logging.getLogger(__name__)
# Processes that were asked to end and still write their last snapshot.
_leaving: list[MapperProcess] = []


class MapperSupervisor:
    """A MapperProcess and its successors, used as one; only `stop` waits for it."""

    def __init__(self, config: LerfConfig, map_directory: str | Path, frame_id: str, metric: bool,
                 restarts: int = 5, make: Callable[..., MapperProcess] = MapperProcess) -> None:
        """restarts: how many processes that died are replaced within ten minutes, at most."""
        self._make = lambda: make(config, map_directory, frame_id, metric)
        self._limit = restarts
        self._deaths: deque[float] = deque()
        self._note, self._paused, self._left_out = '', False, 0
        self._numbers = itertools.count(1)
        self._asked: set[int] = set()
        self._lost: dict[int, Reply] = {}
        self._before = MapperStatus()   # the last report of the process that died
        self._process = self._make()

    def start(self) -> None:
        """Starts the process, which loads its models; `status` tells when it is ready."""
        close_ended()
        self._process.start()

    @property
    def pid(self) -> int | None:
        """The id of the process that runs now."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Returns whether a process runs."""
        return self._process.alive

    def add(self, frame: Frame) -> int:
        """Hands over a keyframe; returns how many were lost since the last call, oldest first."""
        lost, self._left_out = self._left_out + self._process.add(frame), 0
        return lost

    def pause(self, paused: bool) -> None:
        """Stops or resumes training, also in a process that is started later."""
        self._paused = paused
        self._process.send(Pause(paused))

    def send(self, command: Command) -> None:
        """Gives the process a command whose outcome nobody waits for; lost if it dies first."""
        self._process.send(command)

    def ask(self, command: Command) -> int:
        """Gives the process a command; returns the number under which `reply` has the outcome."""
        number = next(self._numbers)
        self._asked.add(number)
        self._process.send(command, number)
        return number

    def reply(self, number: int) -> Reply | None:
        """Returns the reply to a command, once; None while it is under way."""
        self.status()
        found = self._lost.pop(number, None) or self._process.reply(number)
        if found is not None:
            self._asked.discard(number)
        return found

    def status(self) -> MapperStatus:
        """Returns the newest report; replaces a process that died, as often as allowed."""
        close_ended()
        status = self._process.status()
        if status.state == 'loading':   # what is on the disk is there all the same
            status = replace(self._before, state='loading', message='', taken=0,
                             in_flight=status.in_flight)
        if status.state == 'failed' and not self._process.alive:
            return self._died(status)
        if self._deaths and time.monotonic() - self._deaths[-1] < NOTE_S:
            status = replace(status, message='; '.join(filter(None, [self._note, status.message])))
        return status

    def _died(self, status: MapperStatus) -> MapperStatus:
        now = time.monotonic()
        while self._deaths and now - self._deaths[0] > WINDOW_S:
            self._deaths.popleft()
        for number in self._asked:
            self._lost[number] = Reply(number, 'INTERNAL', 'the mapping process ended before it '
                                       f'was done: {status.message}')
        self._asked.clear()
        if status.final:
            return status
        if len(self._deaths) >= self._limit:
            return replace(status, message=f'{status.message}; it was restarted {self._limit} '
                                           'times in ten minutes, that is enough')
        self._deaths.append(now)
        self._note = (f'the mapping process ended ({exit_in_words(self._process.exit_code)}) and '
                      f'was restarted, {len(self._deaths)} of {self._limit} times in ten minutes')
        log.warning('%s: %s', self._note, status.message)
        self._before = replace(status, final=False, code='', rays_per_second=0.0)
        frames = list(self._process.in_flight.values())
        self._process.close()
        self._process = self._make()
        self._process.start()
        self._process.send(Pause(self._paused))
        lost = sum(self._process.add(frame) for frame in frames)
        self._left_out += lost
        return replace(status, state='loading', message=self._note, code='',
                       in_flight=len(frames) - lost)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Asks the process to write a last snapshot and end.

        One that takes longer than timeout_s goes on alone; a successor on the same map directory
        waits for it, and so does `wait_for_leaving`.
        """
        self._process.send(Stop())
        if self._process.join(timeout_s):
            self._process.close()
        else:
            _leaving.append(self._process)


def close_ended() -> None:
    """Reads the outboxes of processes that were asked to end; closes the channels of ended ones."""
    for process in list(_leaving):
        process.status()    # an unread outbox would keep it from ending
        if not process.alive:
            _leaving.remove(process)
            process.close()


def wait_for_leaving(timeout_s: float) -> None:
    """Waits for all processes that were asked to end; kills those that take longer."""
    end = time.monotonic() + timeout_s
    while _leaving:
        process = _leaving.pop()
        process.stop(max(end - time.monotonic(), 0.0))
