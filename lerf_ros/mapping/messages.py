# SPDX-License-Identifier: Apache-2.0
"""Messages between a node and its mapper process, and the channels that carry them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.queues import Queue
from typing import Literal

import numpy as np

from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.mapping.frame_channel import FrameChannel

INBOX_SIZE = 32          # keyframes that may wait to be stored

State = Literal['loading', 'restoring', 'waiting', 'mapping', 'settled', 'paused', 'failed']


@dataclass(frozen=True)
class MapperStatus:
    """The progress of the mapper; NaN where a number is not known.

    state: loading (models), restoring (keyframes of an earlier process), waiting (for keyframes),
    mapping, settled (the newest keyframe is trained on and the snapshot written), paused or failed
    (message says why and what to do, code names the error). depth_error in world units, psnr in
    dB, both held out. keyframes: learned; stored: on the disk; taken: from the inbox; in_flight:
    handed over and not taken yet. final: another start would fail in the same way.
    """

    state: State = 'loading'
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
    forgotten: int = 0                                          # keyframes beyond the budget
    weak_areas: tuple[tuple[float, float, float], ...] = ()     # world, least seen first
    snapshot_id: int = 0
    snapshot_stamp_ns: int = 0
    snapshot_keyframes: int = 0
    memory_bytes: int = 0


# Commands: what the child is asked to do between two slices of training. No event or lock is shared
# with the child: one that is killed while it holds a lock would take the parent with it.

@dataclass(frozen=True)
class Save:
    """Writes a snapshot now and copies the map below `root`. Reply: `path`."""

    root: str
    name: str
    overwrite: bool


@dataclass(frozen=True)
class Load:
    """Replaces the map by a saved one. Reply: `keyframes`, how many it has."""

    root: str
    name: str


@dataclass(frozen=True)
class Reset:
    """Replaces the map by an empty one."""


@dataclass(frozen=True)
class MoveKeyframes:
    """Gives keyframes better poses (4, 4) by stamp (ns). Reply: `keyframes`, how many moved."""

    poses: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class FollowJump:
    """Moves the keyframes of this session after a jump of the localisation. Reply: `keyframes`."""

    jump: PoseJump


@dataclass(frozen=True)
class StartSession:
    """Says that the localisation started anew: its jumps do not move keyframes from before."""


@dataclass(frozen=True)
class UndoMove:
    """Moves keyframes back to before their newest move. Reply: `keyframes`, how many moved."""


@dataclass(frozen=True)
class SetClock:
    """Gives the ROS time (ns) that snapshots are stamped with instead of the wall clock."""

    now_ns: int


@dataclass(frozen=True)
class Pause:
    """Stops training, or resumes it; keyframes are stored meanwhile."""

    paused: bool


@dataclass(frozen=True)
class Stop:
    """Ends the child after a last snapshot."""


Command = (Save | Load | Reset | MoveKeyframes | FollowJump | StartSession | UndoMove | SetClock
           | Pause | Stop)


@dataclass(frozen=True)
class Request:
    """A command on its way to the child.

    number: under which the reply comes back; 0 asks for none. handed_over: keyframes that were
    handed over before it, since a command may overtake them.
    """

    command: Command
    number: int = 0
    handed_over: int = 0


@dataclass(frozen=True)
class Reply:
    """The outcome of a command; code and message name the error, both empty where there is none.

    path: of a saved map. keyframes: how many were loaded or moved.
    """

    number: int = 0
    code: str = ''
    message: str = ''
    path: str = ''
    keyframes: int = 0


@dataclass(frozen=True)
class LogLine:
    """A line that the child logged: name of its logger, level as in Python's logging, text."""

    name: str
    level: int
    text: str


Report = MapperStatus | Reply | LogLine


class OutboxHandler(logging.Handler):
    """Sends log records of the child to the parent, which logs them as its own."""

    def __init__(self, outbox: Queue[Report]) -> None:
        super().__init__()
        self._outbox = outbox
        # Without this, basicConfig repeats level and name, which LogLine holds, in the text.
        self.setFormatter(logging.Formatter('%(message)s'))

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one record, with its traceback if it has one."""
        self._outbox.put(LogLine(record.name, record.levelno, self.format(record)))


@dataclass(frozen=True)
class Channels:
    """The three queues between parent and child."""

    inbox: FrameChannel
    commands: Queue[Request]
    outbox: Queue[Report]

    @classmethod
    def open(cls, context: BaseContext) -> Channels:
        """Creates empty channels for a child of this multiprocessing context."""
        channels = cls(FrameChannel(context, INBOX_SIZE), context.Queue(), context.Queue())
        # A child that died reads no more; unread commands must not keep the parent from ending.
        channels.commands.cancel_join_thread()
        return channels

    def close(self) -> None:
        """Closes the pipes and frees the shared memory."""
        self.inbox.close()
        self.commands.close()
        self.outbox.close()
