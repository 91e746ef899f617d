# SPDX-License-Identifier: Apache-2.0
"""The mapper in a child process, so that training never holds up the callbacks of a node."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import time
from dataclasses import replace
from pathlib import Path

from lerf_ros.config import LerfConfig
from lerf_ros.errors import LerfError
from lerf_ros.frames.frame import Frame
from lerf_ros.mapping.messages import (
    Channels,
    Command,
    LogLine,
    MapperStatus,
    OutboxHandler,
    Reply,
    Request,
    Stop,
)
from lerf_ros.quiet_threads import wait_quietly

NICENESS = 5             # a node's callbacks come first on a small machine

log = logging.getLogger(__name__)


class MapperProcess:
    """Starts, feeds, watches and stops the child; only `join` and `stop` wait for it."""

    def __init__(self, config: LerfConfig, map_directory: str | Path, frame_id: str,
                 metric: bool) -> None:
        context = multiprocessing.get_context('spawn')   # fork is unsafe with threads and CUDA
        self._channels = Channels.open(context)
        self._process = context.Process(
            target=run_mapper, name='lerf_mapper', daemon=True,
            args=(config, str(map_directory), frame_id, metric, self._channels,
                  logging.getLogger('lerf_ros').level or logging.INFO))
        self._status = MapperStatus()
        # Handed over and not known to be stored, by the channel's number, oldest first: the next
        # child gets them when this one dies.
        self.in_flight: dict[int, Frame] = {}
        self._added = 0
        self._replies: dict[int, Reply] = {}

    def start(self) -> None:
        """Starts the child, which loads its models; `status` tells when it is ready or failed."""
        self._process.start()

    @property
    def alive(self) -> bool:
        """Returns whether the child runs."""
        return self._process.pid is not None and self._process.is_alive()

    @property
    def pid(self) -> int | None:
        """The child's process id; None before it is started."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The child's exit code: None while it runs, -N where signal N ended it."""
        return self._process.exitcode

    def add(self, frame: Frame) -> int:
        """Hands over a keyframe; returns how many were lost: the oldest, where too many wait."""
        number, dropped = self._channels.inbox.put(frame)
        if dropped is not None:
            del self.in_flight[dropped]
            self._added -= 1
        if number is not None:
            self.in_flight[number] = frame
            self._added += 1
        return (dropped is not None) + (number is None)

    def send(self, command: Command, number: int = 0) -> None:
        """Gives the child a command; with a number, `reply` returns its outcome later."""
        self._channels.commands.put(Request(command, number, self._added))

    def reply(self, number: int) -> Reply | None:
        """Returns the reply to a command, once; None while there is none."""
        self.status()
        return self._replies.pop(number, None)

    def status(self) -> MapperStatus:
        """Returns the newest report of the child, `failed` where it died without one."""
        # A child that was killed while it sent a message leaves a part of it.
        with contextlib.suppress(queue.Empty, EOFError, OSError):
            while True:
                report = self._channels.outbox.get_nowait()
                if isinstance(report, Reply):
                    self._replies[report.number] = report
                elif isinstance(report, LogLine):
                    logging.getLogger(report.name).log(report.level, '%s', report.text)
                else:
                    self._status = report
        while self._added - len(self.in_flight) < self._status.taken:
            del self.in_flight[next(iter(self.in_flight))]
        self._status = replace(self._status, in_flight=len(self.in_flight))
        if self._status.state != 'failed' and self.exit_code not in (None, 0):
            self._status = replace(
                self._status, state='failed',
                message=f'the mapping process ended with exit code {self.exit_code}; '
                        'its last words are in the log above; start the mapper again')
        return self._status

    def stop(self, timeout_s: float = 30.0) -> None:
        """Ends the child after a last snapshot; kills it where that takes too long."""
        self.send(Stop())
        if not self.join(timeout_s):
            log.warning('the mapping process did not end within %.0f s: it is killed; the last '
                        'complete snapshot stays', timeout_s)
            self._process.kill()
            self._process.join()
        self.close()

    def close(self) -> None:
        """Frees the channels; to be called once the child has ended."""
        self._channels.close()

    def join(self, timeout_s: float) -> bool:
        """Waits for the child's end; returns whether it came in time."""
        end = time.monotonic() + timeout_s
        while self.alive and time.monotonic() < end:
            self.status()   # an unread outbox would keep the child from ending
            self._process.join(min(0.1, timeout_s))
        return not self.alive


def run_mapper(config: LerfConfig, map_directory: str, frame_id: str, metric: bool,
               channels: Channels, log_level: int = logging.INFO) -> None:
    """Runs the mapper in the child; records from log_level on are logged by the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # Ctrl-C reaches the parent, which stops us
    logging.basicConfig(level=logging.WARNING, handlers=[OutboxHandler(channels.outbox)])
    logging.getLogger('lerf_ros').setLevel(log_level)
    logging.captureWarnings(True)
    os.nice(NICENESS)
    wait_quietly()
    try:
        # Heavy imports happen here, in the child: the node's process needs no torch.
        from lerf_ros.mapping.loop import Loop
        Loop(config, map_directory, frame_id, metric, channels).run()
    except LerfError as error:
        log.error('mapping stopped: %s', error)
        # The same settings on the same map would fail in the same way.
        channels.outbox.put(MapperStatus(state='failed', code=error.code, final=True,
                                         message=str(error)))
        raise SystemExit(1) from error
    except Exception as error:
        log.exception('mapping stopped')
        channels.outbox.put(MapperStatus(state='failed', code='INTERNAL',
                                         message=f'{type(error).__name__}: {error}'))
        raise SystemExit(1) from error
