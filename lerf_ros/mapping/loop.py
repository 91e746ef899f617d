# SPDX-License-Identifier: Apache-2.0
"""What the mapping process does: store keyframes, learn them, train, write, obey, report."""

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
from typing import Any

import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.errors import LerfError, MapUnreadableError, StorageError
from lerf_ros.frames.pose_jump import Placed, PoseJump, of_stamps
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.messages import INBOX_SIZE, Channels, Command, MapperStatus, Reply
from lerf_ros.mapping.restart import check_same_map
from lerf_ros.mapping.saving import Saving
from lerf_ros.storage.lock import FolderLock
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.saved_maps import SavedMaps, finish_load
from lerf_ros.training.devices import choose_device, reuse_memory

TRAIN_SLICE_S = 0.5      # training between two looks into the inbox
HURRY = 5                # so many times less of it while keyframes wait to be learned, at most
# What is told to those who ask the map before its first snapshot.
DOING = {'waiting': 'waiting for images', 'mapping': 'training; its first snapshot comes soon',
         'settled': 'at rest', 'paused': 'paused'}
IDLE_S = 0.2             # between two looks when there is nothing to train
HANDOVER_S = 2.0         # a command may overtake keyframes that were handed over before it
# How long an earlier process may take for its last snapshot before the map counts as in use.
LOCK_PATIENCE_S = 60.0

log = logging.getLogger(__name__)


class Loop:
    """Owns the map directory for as long as the process lives."""

    def __init__(self, config: LerfConfig, map_directory: str, frame_id: str, metric: bool,
                 channels: Channels) -> None:
        """Raises LockedError while another mapper works there, ForeignFolderError where something
        else lies there, and what `Mapper.restore` does."""
        self.config, self.channels, self.parent = config, channels, os.getppid()
        self.path, self.frame_id, self.metric = Path(map_directory), frame_id, metric
        reuse_memory()
        if config.training.threads:
            torch.set_num_threads(config.training.threads)
        MapDirectory(self.path).claim()     # before anything is written there, also the lock
        self.lock = FolderLock(self.path)
        self.lock.acquire(LOCK_PATIENCE_S)
        self.lock.announce(doing='loading models')
        finish_load(self.path)
        self.encoder = load_encoder(config.features, str(choose_device(config.training.device)))
        self.status = MapperStatus(state='waiting')
        self.taken, self.clock_ns = 0, 0    # clock_ns: ROS time where that is not the wall's, or 0
        self.paused = self.stopping = False
        self.announced = ''     # what was told of this process's work
        self.open()

    def open(self) -> None:
        """Goes on with the map in the directory, or begins one."""
        directory = MapDirectory(self.path, self.metric)
        cache = FeatureCache(self.path / 'features', self.config.features.cache_megabytes)
        self.mapper = Mapper(self.config, directory, self.encoder, self.frame_id, self.metric,
                             cache)
        self.mapper.now_ns = self.now_ns
        self.mapper.restore()
        self.saving = Saving(self.mapper, self.config.map)
        # Keyframes of an earlier process are of another localisation, or may be.
        self.first_of_session = self.mapper.waiting.next_index
        self.stored = directory.keyframes.indices()
        self.known = {directory.keyframes.record(i)['frame']['stamp_ns']
                      for i in self.stored[-INBOX_SIZE:] if i in directory.keyframes}

    def now_ns(self) -> int:
        """The time of the node's clock: the wall's, or what the node told last."""
        return self.clock_ns or time.time_ns()

    def run(self) -> None:
        """Until it is told to stop or the parent is gone."""
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
        self.report('paused')

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a keyframe comes."""
        mapper = self.mapper
        return not mapper.restoring and (self.paused or mapper.settled or not mapper.ready)

    def take(self, wait_s: float) -> None:
        """Stores all keyframes that have come; they are learned later, one at a time."""
        with contextlib.suppress(queue.Empty):
            while True:
                frame = self.channels.inbox.get(timeout=wait_s) if wait_s else \
                    self.channels.inbox.get_nowait()
                wait_s = 0.0
                # A frame that the process before stored with its last breath comes again.
                if frame.stamp_ns not in self.known:
                    self.mapper.store(frame)
                self.taken += 1
                self.known.discard(frame.stamp_ns)

    def learn(self) -> None:
        """At most one keyframe, so that training goes on while many wait."""
        try:
            self.mapper.learn_next()
        except MapUnreadableError as error:
            log.warning('a keyframe is left out: %s', error)

    def train(self) -> None:
        """One slice of training, and what is due to be written.

        What was seen comes before polish: the longer the queue, the shorter the slice.
        """
        self.mapper.train_for(TRAIN_SLICE_S / min(1 + len(self.mapper.waiting), HURRY))
        self.saving.tick()
        self.report('settled' if self.mapper.settled else 'mapping')

    def obey(self) -> None:
        """Does what was asked for; an error is the answer, and the map stays as it was."""
        with contextlib.suppress(queue.Empty):
            while True:
                command: Command = self.channels.commands.get_nowait()
                if command.name == 'stop':
                    self.stopping = True
                elif command.name in ('pause', 'resume'):
                    self.paused = command.name == 'pause'
                elif command.name == 'clock':
                    self.clock_ns = command.arguments['now_ns']
                else:
                    reply = self.answer(command)
                    if command.number:
                        self.channels.outbox.put(reply)

    def answer(self, command: Command) -> Reply:
        """Does what a command asks for."""
        try:
            result = getattr(self, f'on_{command.name}')(**command.arguments)
            return Reply(command.number, result=result)
        except LerfError as error:
            log.warning('%s: %s', command.name, error)
            return Reply(command.number, error.code, str(error))

    def on_save(self, root: str, name: str, overwrite: bool) -> dict[str, Any]:
        """A snapshot of this moment, copied under a name."""
        SavedMaps(root).check_free(name, overwrite)
        self.saving.snapshot()
        if self.saving.fault:
            raise StorageError(self.saving.fault)
        return {'path': str(SavedMaps(root).save(self.mapper.directory, name, overwrite))}

    def on_load(self, root: str, name: str) -> dict[str, Any]:
        """A saved map in the place of this one."""
        meta = self.mapper.meta(None)
        keyframes = SavedMaps(root).load(name, self.mapper.directory,
                                         lambda saved: check_same_map(saved.meta(), meta, saved))
        self.open()
        return {'keyframes': keyframes}

    def on_reset(self) -> dict[str, Any]:
        """An empty map in the place of this one."""
        self.mapper.directory.clear(self.mapper.meta(None))
        self.open()
        return {}

    def on_move(self, poses: dict[int, np.ndarray], handed_over: int = 0) -> dict[str, Any]:
        """Better poses (4, 4) of keyframes by stamp (ns), also of those just handed over."""
        placed = self.placed(handed_over)
        return {'moved': self.mapper.move_keyframes(of_stamps(placed, poses))}

    def on_jump(self, jump: PoseJump, handed_over: int = 0) -> dict[str, Any]:
        """The localisation has corrected itself at once: earlier keyframes of it follow."""
        placed = [p for p in self.placed(handed_over) if p.index >= self.first_of_session]
        return {'moved': self.mapper.move_keyframes(jump.corrected(placed))}

    def on_session(self, handed_over: int = 0) -> dict[str, Any]:
        """A localisation has started: keyframes handed over before belong to another one."""
        self.placed(handed_over)
        self.first_of_session = self.mapper.waiting.next_index
        return {}

    def on_undo_move(self) -> dict[str, Any]:
        """Keyframes go back to where they were before their newest move."""
        return {'moved': self.mapper.undo_move()}

    def placed(self, handed_over: int) -> list[Placed]:
        """Where all keyframes are, also those that were handed over before and come later."""
        end = time.monotonic() + HANDOVER_S
        self.take(0.0)
        while self.taken < handed_over and time.monotonic() < end:
            self.take(IDLE_S)
        return [*self.mapper.slots.placed(), *self.mapper.waiting.placed()]

    def report(self, state: str) -> None:
        """Sends the status to the parent."""
        mapper, saving = self.mapper, self.saving
        doing = {'restoring': f'{len(mapper.waiting)} keyframes are learned again',
                 'waiting': self.too_few()}.get(state, '')
        if (told := doing or DOING.get(state, state)) != self.announced:
            self.announced = told
            self.lock.announce(leave=self.stopping, doing=told)
        words = [doing, mapper.waiting.fault, saving.fault,
                 mapper.moves.message,
                 mapper.extractor.limits.message, mapper.guard.message if mapper.guard else '']
        self.status = replace(
            self.status, state=state, message='; '.join(filter(None, words)),
            code='STORAGE' if mapper.waiting.fault or saving.fault else '',
            keyframes=len(mapper.views), stored=mapper.stored, taken=self.taken,
            steps=mapper.steps, loss=mapper.loss,
            rays_per_second=mapper.rays_per_second if state == 'mapping' else 0.0,
            forgotten=mapper.slots.forgotten,
            weak_areas=tuple((x, y, z) for x, y, z in mapper.weak_areas.tolist()),
            psnr=mapper.quality.psnr, depth_error=mapper.quality.depth_error,
            snapshot_id=saving.snapshot_id, snapshot_stamp_ns=saving.snapshot_stamp_ns,
            snapshot_keyframes=saving.snapshot_keyframes, memory_bytes=memory_bytes())
        self.channels.outbox.put(self.status)

    def too_few(self) -> str:
        """What is missing before training can begin; empty before the first keyframe."""
        count, first = len(self.mapper.waiting), self.config.scene.keyframes
        if count >= first:
            return (f'{count} keyframes without depth, all from one place, so that nothing tells '
                    'how far anything is: move the camera sideways, or set depth_topic')
        return '' if not count else (
            f'{count} of the {first} keyframes with which training begins: move the camera (a '
            'keyframe is taken when it has moved by keyframes.min_translation or turned by '
            'keyframes.min_rotation)')


def memory_bytes() -> int:
    """Resident memory of this process; its peak where the present value is not told."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == 'darwin' else 1024)
