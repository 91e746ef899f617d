# SPDX-License-Identifier: Apache-2.0
"""The main loop of the mapping process: store keyframes, learn, train, write, obey, report."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.errors import LerfError, MapUnreadableError, StorageError
from lerf_ros.frames.pose_jump import StampedPose, by_index
from lerf_ros.mapping.making import claim_map, make_map
from lerf_ros.mapping.map_maker import MapMaker
from lerf_ros.mapping.messages import (
    INBOX_SIZE,
    Channels,
    Command,
    FollowJump,
    Load,
    MapperStatus,
    MoveKeyframes,
    Pause,
    Reply,
    Request,
    Reset,
    Save,
    SetClock,
    StartSession,
    State,
    Stop,
    UndoMove,
)
from lerf_ros.mapping.saving import SnapshotSchedule
from lerf_ros.storage.lock import FolderLock, parent_pid
from lerf_ros.storage.saved_maps import SavedMaps, finish_load
from lerf_ros.training.devices import choose_device, reuse_memory

TRAIN_SLICE_S = 0.5      # training between two looks into the inbox
MAX_SLICE_DIVISOR = 5    # a slice is at most so many times shorter while keyframes wait
# What queries are told before the first snapshot.
DOING: dict[State, str] = {
    'waiting': 'waiting for images', 'mapping': 'training; its first snapshot comes soon',
    'settled': 'at rest', 'paused': 'paused'}
TAKE_S = 0.5             # in which keyframes are stored before something else is done
IDLE_S = 0.2             # between two looks when there is nothing to train
HANDOVER_S = 2.0         # how long a command waits for keyframes that it has overtaken
# How long an earlier process may take for its last snapshot before the map counts as in use.
LOCK_PATIENCE_S = 60.0

log = logging.getLogger(__name__)


class Loop:
    """Owns the map directory for as long as the process lives."""

    def __init__(self, config: LerfConfig, map_directory: str, frame_id: str, metric: bool,
                 channels: Channels) -> None:
        """Locks and opens the map directory.

        Raises LockedError while another mapper works there, ForeignFolderError for a folder that
        is no map, and the errors of `Mapper.restore`.
        """
        self.config, self.channels, self.parent = config, channels, parent_pid()
        self.path, self.frame_id, self.metric = Path(map_directory), frame_id, metric
        reuse_memory()
        if config.training.threads:
            torch.set_num_threads(config.training.threads)
        claim_map(self.path)    # before anything is written there, also the lock
        self.lock = FolderLock(self.path)
        self.lock.acquire(LOCK_PATIENCE_S)
        self.lock.announce(doing='loading models')
        finish_load(self.path)
        self.encoder = load_encoder(config.features, str(choose_device(config.training.device)))
        self.status = MapperStatus(state='waiting')
        self.taken, self.clock_ns = 0, 0    # clock_ns: ROS time where that is not the wall's, or 0
        self.paused = self.stopping = False
        self.announced = ''     # what the lock file says that this process does
        self.open()

    def open(self) -> None:
        """Resumes the map in the directory, or begins one."""
        cache = FeatureCache(self.path / 'features', self.config.features.cache_megabytes)
        self.mapper: MapMaker = make_map(self.config, self.path, self.encoder, self.frame_id,
                                         self.metric, cache)
        self.mapper.now_ns = self.now_ns
        self.mapper.restore()
        self.saving = SnapshotSchedule(self.mapper, self.config.map)
        # Keyframes of an earlier process may belong to another run of the localisation.
        self.first_of_session = self.mapper.waiting.next_index
        self.known = self.mapper.stamps(INBOX_SIZE)

    def now_ns(self) -> int:
        """Returns the newest time that the node has sent, or the wall clock's."""
        return self.clock_ns or time.time_ns()

    def run(self) -> None:
        """Works until it is told to stop or the parent is gone."""
        while not self.stopping and os.getppid() == self.parent:
            self.obey()
            self.take(IDLE_S if self.idle else 0.0)
            if self.mapper.restoring:
                self.learn()
                self.report('restoring')
            elif self.paused:
                self.report('paused')
            else:
                self.learn()
                if self.mapper.ready:
                    self.train()
                else:
                    self.report('waiting')
        self.lock.announce(leave=True, doing='writing its last snapshot')
        self.saving.last()
        for word in self.mapper.words():    # such as that a part of the map waits for a rest
            log.warning('%s', word)
        self.report('paused')

    @property
    def idle(self) -> bool:
        """Returns whether there is nothing to do until a keyframe comes."""
        mapper = self.mapper
        return not mapper.restoring and (self.paused or mapper.settled or not mapper.ready)

    def take(self, wait_s: float) -> None:
        """Stores keyframes that have come; `learn` takes them later, one at a time.

        Where they come faster than they can be stored, the others have to wait for the next call:
        there is more to be done, and a status to be told.
        """
        end = time.monotonic() + TAKE_S
        with contextlib.suppress(queue.Empty):
            while True:
                frame = self.channels.inbox.get(timeout=wait_s) if wait_s else \
                    self.channels.inbox.get_nowait()
                wait_s = 0.0
                self.mapper.hurried = self.channels.inbox.qsize() > INBOX_SIZE // 2
                # The process before may have stored a frame and died before it said so.
                if frame.stamp_ns not in self.known:
                    self.mapper.store(frame)
                self.taken += 1
                self.known.discard(frame.stamp_ns)
                if time.monotonic() >= end:
                    return

    def learn(self) -> None:
        """Learns one waiting keyframe at most, so that training goes on while many wait."""
        try:
            self.mapper.learn_next()
        except MapUnreadableError as error:
            log.warning('a keyframe is left out: %s', error)

    def train(self) -> None:
        """Trains for one slice and writes what is due; the longer the queue, the shorter it is."""
        self.mapper.train_for(TRAIN_SLICE_S / min(1 + len(self.mapper.waiting), MAX_SLICE_DIVISOR))
        self.saving.tick()
        self.report('settled' if self.mapper.settled else 'mapping')

    def obey(self) -> None:
        """Carries out all commands that have come, and answers those that ask for a reply."""
        with contextlib.suppress(queue.Empty):
            while True:
                request = self.channels.commands.get_nowait()
                reply = self.answer(request)
                if request.number:
                    self.channels.outbox.put(replace(reply, number=request.number))

    def answer(self, request: Request) -> Reply:
        """Carries out a command; an error is named in the reply, and the map stays as it was."""
        try:
            return self.carry_out(request.command, request.handed_over)
        except LerfError as error:
            log.warning('%s: %s', type(request.command).__name__, error)
            return Reply(code=error.code, message=str(error))

    def carry_out(self, command: Command, handed_over: int) -> Reply:
        """Does what a command asks for; handed_over: keyframes that were sent before it."""
        match command:
            case Pause():
                self.paused = command.paused
            case Stop():
                self.stopping = True
            case SetClock():
                self.clock_ns = command.now_ns
            case Save():
                return self.save(command)
            case Load():
                return self.load(command)
            case Reset():
                self.mapper.clear()
                self.open()
            case StartSession():
                self.poses_of_all(handed_over)
                self.first_of_session = self.mapper.waiting.next_index
            case MoveKeyframes():
                poses = by_index(self.poses_of_all(handed_over), command.poses)
                return Reply(keyframes=self.mapper.move_keyframes(poses))
            case FollowJump():
                session = [pose for pose in self.poses_of_all(handed_over)
                           if pose.index >= self.first_of_session]
                poses = command.jump.corrected(session)
                return Reply(keyframes=self.mapper.move_keyframes(poses))
            case UndoMove():
                return Reply(keyframes=self.mapper.undo_move())
            case _:
                raise AssertionError(f'{command!r} is not carried out by anybody')
        return Reply()

    def save(self, command: Save) -> Reply:
        """Writes a snapshot of this moment and copies the map under a name."""
        SavedMaps(command.root).check_free(command.name, command.overwrite)
        self.saving.snapshot()
        if self.saving.fault:
            raise StorageError(self.saving.fault)
        path = self.mapper.save(command.root, command.name, command.overwrite)
        return Reply(path=str(path))

    def load(self, command: Load) -> Reply:
        """Replaces the map by a saved one."""
        keyframes = self.mapper.load(command.root, command.name)
        self.open()
        return Reply(keyframes=keyframes)

    def poses_of_all(self, handed_over: int) -> list[StampedPose]:
        """Returns where all keyframes are, once `handed_over` of them have come."""
        end = time.monotonic() + HANDOVER_S
        self.take(0.0)
        while self.taken < handed_over and time.monotonic() < end:
            self.take(IDLE_S)
        return [*self.mapper.learned.placed(), *self.mapper.waiting.placed()]

    def report(self, state: State) -> None:
        """Sends the status to the parent, and writes it into the lock file where it changed."""
        mapper, saving = self.mapper, self.saving
        doing = {'restoring': f'{len(mapper.waiting)} keyframes are learned again',
                 'waiting': self.too_few()}.get(state, '')
        if (told := doing or DOING.get(state, state)) != self.announced:
            self.announced = told
            self.lock.announce(leave=self.stopping, doing=told)
        words = [doing, mapper.waiting.fault, saving.fault, *mapper.words()]
        self.status = replace(
            self.status, state=state, message='; '.join(filter(None, words)),
            code='STORAGE' if mapper.waiting.fault or saving.fault else '',
            keyframes=len(mapper.learned), stored=mapper.stored, taken=self.taken,
            steps=mapper.steps, loss=mapper.loss,
            rays_per_second=mapper.rays_per_second if state == 'mapping' else 0.0,
            forgotten=mapper.learned.forgotten,
            weak_areas=tuple((x, y, z) for x, y, z in mapper.weak_areas.tolist()),
            psnr=mapper.quality.psnr, depth_error=mapper.quality.depth_error,
            snapshot_id=saving.snapshot_id, snapshot_stamp_ns=saving.snapshot_stamp_ns,
            snapshot_keyframes=saving.snapshot_keyframes, memory_bytes=memory_bytes())
        self.channels.outbox.put(self.status)

    def too_few(self) -> str:
        """Says what is missing before training can begin; empty before the first keyframe."""
        count, first = len(self.mapper.waiting), self.mapper.first_keyframes
        if count >= first:
            return (f'{count} keyframes without depth, all from one place, so that nothing tells '
                    'how far anything is: move the camera sideways, or set depth_topic')
        return '' if not count else (
            f'{count} of the {first} keyframes with which training begins: move the camera (a '
            'keyframe is taken when it has moved by keyframes.min_translation or turned by '
            'keyframes.min_rotation)')


def memory_bytes() -> int:
    """Returns the resident memory of this process; its peak where only that can be read."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == 'darwin' else 1024)
