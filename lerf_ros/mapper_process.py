# SPDX-License-Identifier: Apache-2.0
"""The mapper in a child process, so that training never holds up the callbacks of a node."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import queue
import signal
import time
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from lerf_ros.config import LerfConfig
from lerf_ros.keyframes.frame import Frame

INBOX_SIZE = 32          # keyframes that may wait while features are extracted
TRAIN_SLICE_S = 0.5      # training between two looks into the inbox
SNAPSHOT_SHARE = 0.15    # of the time at most that snapshots may take while training
NICENESS = 5             # a node's callbacks come first on a small machine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MapperStatus:
    """What the mapper has done so far; NaN where not known.

    state: waiting (for keyframes), loading (models), mapping, settled (the newest keyframe is
    trained on and the snapshot written), paused or failed (message says why and what to do).
    depth_error in world units, psnr in dB, both held out.
    """

    state: str = 'loading'
    message: str = ''
    keyframes: int = 0
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


class MapperProcess:
    """Starts, feeds, watches and stops the child; all calls return at once except `stop`."""

    def __init__(self, config: LerfConfig, map_directory: str | Path, frame_id: str,
                 metric: bool) -> None:
        context = multiprocessing.get_context('spawn')   # fork is unsafe with threads and CUDA
        self._inbox: Queue = context.Queue(INBOX_SIZE)
        self._outbox: Queue = context.Queue()
        # Frames that nobody takes any more must not keep this process from ending.
        self._inbox.cancel_join_thread()
        self._paused, self._stopping = context.Event(), context.Event()
        self._process = context.Process(
            target=run_mapper, name='lerf_mapper', daemon=True,
            args=(config, str(map_directory), frame_id, metric, self._inbox, self._outbox,
                  self._paused, self._stopping))
        self._status = MapperStatus()

    def start(self) -> None:
        """Starts the child; models load there, `status` tells when it is ready or has failed."""
        self._process.start()

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process.pid is not None and self._process.is_alive()

    def add(self, frame: Frame) -> bool:
        """Hands over a keyframe; False when the inbox is full and the frame was not taken."""
        try:
            self._inbox.put_nowait(frame)
        except queue.Full:
            return False
        return True

    def status(self) -> MapperStatus:
        """The newest report of the child; `failed` when it died without one."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._status = self._outbox.get_nowait()
        if self._status.state != 'failed' and self._process.exitcode not in (None, 0):
            self._status = replace(
                self._status, state='failed',
                message=f'the mapping process ended with exit code {self._process.exitcode}; '
                        'its last words are in the log above; start the mapper again')
        return self._status

    def pause(self, paused: bool) -> None:
        """Stops or resumes training; keyframes wait meanwhile."""
        (self._paused.set if paused else self._paused.clear)()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Writes a last snapshot and ends the child; kills it when that takes too long."""
        self._stopping.set()
        end = time.monotonic() + timeout_s
        while self.alive and time.monotonic() < end:
            self.status()   # an unread outbox would keep the child from ending
            self._process.join(0.1)
        if self.alive:
            log.warning('the mapping process did not end within %.0f s: it is killed; the last '
                        'complete snapshot stays', timeout_s)
            self._process.kill()
            self._process.join()
        for channel in (self._inbox, self._outbox):
            channel.close()


def run_mapper(config: LerfConfig, map_directory: str, frame_id: str, metric: bool,
               inbox: Queue, outbox: Queue, paused: Event, stopping: Event) -> None:
    """The child's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # Ctrl-C reaches the parent, which stops us
    logging.basicConfig(level=logging.INFO, format='[%(name)s] %(message)s')
    os.nice(NICENESS)
    # Threads that spin while they wait take the second core from the nodes. Read when torch loads.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    try:
        Loop(config, map_directory, frame_id, metric, outbox).run(inbox, paused, stopping)
    except Exception as error:
        log.exception('mapping stopped')
        outbox.put(MapperStatus(state='failed', message=f'{type(error).__name__}: {error}'))
        raise SystemExit(1) from error


class Loop:
    """What the child does: take keyframes, train, write snapshots, report."""

    def __init__(self, config: LerfConfig, map_directory: str, frame_id: str, metric: bool,
                 outbox: Queue) -> None:
        # Heavy imports happen here, in the child: the node's process needs no torch.
        import torch

        from lerf_ros.features.encoders import load_encoder
        from lerf_ros.map_directory import MapDirectory
        from lerf_ros.mapper import Mapper
        from lerf_ros.training.device import choose_device

        self.config, self.outbox, self.parent = config, outbox, os.getppid()
        if config.training.threads:
            torch.set_num_threads(config.training.threads)
        encoder = load_encoder(config.features, str(choose_device(config.training.device)))
        self.mapper = Mapper(config, MapDirectory(map_directory, metric), encoder,
                             frame_id, metric)
        self.status = MapperStatus(state='waiting')
        self.snapshot_steps = 0
        self.snapshot_due = math.inf   # a first interval of training comes before

    def run(self, inbox: Queue, paused: Event, stopping: Event) -> None:
        """Until `stopping` is set or the parent is gone."""
        while not stopping.is_set() and os.getppid() == self.parent:
            idle = paused.is_set() or not self.mapper.ready or self.mapper.settled
            self.take(inbox, wait_s=0.2 if idle else 0.0)
            if paused.is_set():
                self.report('paused')
            elif not self.mapper.ready:
                self.report('waiting')
            else:
                self.train()
        if self.mapper.steps > self.snapshot_steps:
            self.snapshot()
        self.report('paused')

    def take(self, inbox: Queue, wait_s: float) -> None:
        """At most one keyframe, so that training goes on while many wait."""
        with contextlib.suppress(queue.Empty):
            self.mapper.add_frame(inbox.get(timeout=wait_s) if wait_s else inbox.get_nowait())

    def train(self) -> None:
        """One slice of training, and a snapshot when one is due."""
        if math.isinf(self.snapshot_due):
            self.snapshot_due = time.monotonic() + self.config.map.snapshot_interval
        self.mapper.train_for(TRAIN_SLICE_S)
        settled = self.mapper.settled and self.mapper.steps > self.snapshot_steps
        if settled or (time.monotonic() > self.snapshot_due
                       and self.mapper.steps > self.snapshot_steps):
            self.snapshot()
        self.report('settled' if self.mapper.settled else 'mapping')

    def snapshot(self) -> None:
        """Writes a snapshot; the next one waits longer when snapshots are slow."""
        start = time.monotonic()
        number = self.mapper.snapshot()
        took = time.monotonic() - start
        interval = max(self.config.map.snapshot_interval, took / SNAPSHOT_SHARE)
        self.snapshot_steps, self.snapshot_due = self.mapper.steps, time.monotonic() + interval
        quality = self.mapper.quality
        log.info('snapshot %d after %d steps with %d keyframes in %.1f s, held-out PSNR %.1f dB',
                 number, self.mapper.steps, len(self.mapper.views), took, quality.psnr)
        self.status = replace(
            self.status, snapshot_id=number, snapshot_stamp_ns=self.mapper.snapshot_stamp_ns,
            psnr=quality.psnr, depth_error=quality.depth_error,
            snapshot_keyframes=len(self.mapper.views),
            weak_areas=tuple((x, y, z) for x, y, z in self.mapper.weak_areas.tolist()))

    def report(self, state: str) -> None:
        """Sends the status to the parent."""
        mapper = self.mapper
        self.status = replace(
            self.status, state=state, keyframes=len(mapper.views), steps=mapper.steps,
            rays_per_second=mapper.rays_per_second if state == 'mapping' else 0.0,
            loss=mapper.loss, forgotten=mapper.slots.forgotten)
        self.outbox.put(self.status)
