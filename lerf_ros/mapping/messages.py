# SPDX-License-Identifier: Apache-2.0
"""What goes between a node and its mapper process, and the channels that it goes through."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from typing import Any

from lerf_ros.mapping.frame_channel import FrameChannel

INBOX_SIZE = 32          # keyframes that may wait to be stored


@dataclass(frozen=True)
class MapperStatus:
    """What the mapper has done so far; NaN where not known.

    state: loading (models), restoring (keyframes of an earlier process), waiting (for keyframes),
    mapping, settled (the newest keyframe is trained on and the snapshot written), paused or failed
    (message says why and what to do, code names the error). depth_error in world units, psnr in
    dB, both held out. keyframes: learned; stored: on the disk; taken: from the inbox; in_flight:
    handed over and not taken yet. final: another start would fail in the same way.
    """

    state: str = 'loading'
    message: str = ''
    code: str = ''
    final: bool = False
    keyframes: int = 0
    stored: int = 0
    taken: int = 0
    in_flight: int = 0
    steps: int = 0
    rays_per_second: float = 0.0
    loss: float = math.nan
    psnr: float = math.nan
    depth_error: float = math.nan
    forgotten: int = 0                                          # keyframes, beyond the budget
    weak_areas: tuple[tuple[float, float, float], ...] = ()     # world, least seen first
    snapshot_id: int = 0
    snapshot_stamp_ns: int = 0
    snapshot_keyframes: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Command:
    """Something the child shall do between two slices of training.

    pause, resume, stop, clock (now_ns: ROS time) and what has no number go without a reply. No
    event or lock is shared with the child: a child that is killed while it holds one would take
    the parent with it.
    """

    # save, load, reset, move, jump, session, undo_move, clock, pause, resume or stop
    name: str
    number: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What became of a command: code and message of the error, both empty when it was done."""

    number: int
    code: str = ''
    message: str = ''
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LogLine:
    """What the child has logged: the logger's name, the level of Python's logging, the text."""

    name: str
    level: int
    text: str


class OutboxHandler(logging.Handler):
    """Sends what the child logs to the parent, which knows where its own lines go."""

    def __init__(self, outbox: Queue) -> None:
        super().__init__()
        self._outbox = outbox
        # Else logging.basicConfig puts level and name before the message, which go with it anyway.
        self.setFormatter(logging.Formatter('%(message)s'))

    def emit(self, record: logging.LogRecord) -> None:
        """One line, with its traceback if it has one."""
        self._outbox.put(LogLine(record.name, record.levelno, self.format(record)))


@dataclass(frozen=True)
class Channels:
    """What parent and child share."""

    inbox: FrameChannel
    commands: Queue       # Command
    outbox: Queue         # MapperStatus, Reply and LogLine

    @classmethod
    def open(cls, context: Any) -> Channels:
        """Empty ones."""
        channels = cls(FrameChannel(context, INBOX_SIZE), context.Queue(), context.Queue())
        # What nobody takes any more must not keep this process from ending.
        channels.commands.cancel_join_thread()
        return channels

    def close(self) -> None:
        """Frees the pipes."""
        self.inbox.close()
        self.commands.close()
        self.outbox.close()
