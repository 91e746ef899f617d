# SPDX-License-Identifier: Apache-2.0
"""When the mapper writes what: snapshots for queries, checkpoints so that little can be lost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import torch

from lerf_ros.config import MapConfig
from lerf_ros.errors import StorageError
from lerf_ros.mapper import Mapper

SNAPSHOT_SHARE = 0.15    # of the time at most that snapshots may take while training
RETRY_S = 10.0           # until the next try after one that failed

log = logging.getLogger(__name__)


class Saving:
    """Keeps what may be lost within config.checkpoint_interval; a full disk is a fault, no end."""

    def __init__(self, mapper: Mapper, config: MapConfig) -> None:
        self.mapper, self.config = mapper, config
        self.fault = ''     # why nothing can be written; empty when it can
        newest = mapper.directory.newest()
        self.snapshot_id = newest.number if newest else 0
        self.snapshot_stamp_ns = newest.info['stamp_ns'] if newest else 0
        self.snapshot_keyframes = newest.info['keyframes'] if newest else 0
        self.snapshot_steps = newest.info['steps'] if newest else 0
        self._snapshot_due = math.inf       # a first interval of training comes before
        self._durable_steps, self._durable_at = mapper.steps, time.monotonic()
        # How long the last one took; before the first snapshot nobody knows.
        self._snapshot_s, self._checkpoint_s = math.inf, 0.0
        self._looked_at = time.monotonic()
        self._retry_at = 0.0

    def tick(self) -> None:
        """Writes what is due; to be called after each slice of training.

        Raises TrainingFailedError when what would be written is spoiled for good.
        """
        now, steps = time.monotonic(), self.mapper.steps
        if self.fault and now < self._retry_at:
            return
        if math.isinf(self._snapshot_due):
            self._snapshot_due, self._durable_at = now + self.config.snapshot_interval, now
        due = steps > self.snapshot_steps and (self.mapper.settled or self._snapshot_is_due(now))
        if steps <= self._durable_steps:
            self._durable_at = now
        # The next look at the clock comes after as long as the last one, at most twice.
        until_next = 2 * (now - self._looked_at)
        self._looked_at = now
        ahead = self._checkpoint_s + until_next + (self._snapshot_s if due else 0.0)
        if self.config.training_state and steps > self._durable_steps \
                and now - self._durable_at + ahead > self.config.checkpoint_interval:
            self.checkpoint()
        if due:
            self.snapshot()
        self._looked_at = time.monotonic()

    def _snapshot_is_due(self, now: float) -> bool:
        """By the clock; but it waits for keyframes that are not learned yet, and one of a map that
        will have settled within the interval for that, never for longer than an interval."""
        interval, mapper = self.config.snapshot_interval, self.mapper
        return now > self._snapshot_due and (
            now > self._snapshot_due + interval
            or not len(mapper.waiting) and seconds_to_settle(mapper) > interval)

    def last(self) -> None:
        """Writes what is not written yet."""
        if self.mapper.steps > self.snapshot_steps:
            self.snapshot()

    def checkpoint(self) -> None:
        """Writes a checkpoint of a healthy state."""
        start = time.monotonic()
        if self._healthy() and self._write(self.mapper.checkpoint):
            self._checkpoint_s = time.monotonic() - start
            self._durable_steps, self._durable_at = self.mapper.steps, start

    def snapshot(self) -> None:
        """Writes a snapshot; the next one waits longer when snapshots are slow."""
        start = time.monotonic()
        if self.mapper.steps == self.snapshot_steps or not self._healthy():
            return
        written = self._write(self._snapshot)
        self._snapshot_s = time.monotonic() - start
        interval = max(self.config.snapshot_interval, self._snapshot_s / SNAPSHOT_SHARE)
        self._snapshot_due = time.monotonic() + interval
        if written and self.config.training_state:
            self._durable_steps, self._durable_at = self.mapper.steps, start

    def _healthy(self) -> bool:
        return self.mapper.guard is None or self.mapper.guard.remember()

    def _snapshot(self) -> None:
        mapper, start = self.mapper, time.monotonic()
        number = mapper.snapshot()
        if not number:
            return
        self.snapshot_id, self.snapshot_steps = number, mapper.steps
        self.snapshot_stamp_ns, self.snapshot_keyframes = \
            mapper.snapshot_stamp_ns, len(mapper.views)
        log.info('snapshot %d after %d steps with %d keyframes in %.1f s, held-out PSNR %.1f dB',
                 number, mapper.steps, len(mapper.views), time.monotonic() - start,
                 mapper.quality.psnr)

    def _write(self, work: Callable[[], object]) -> bool:
        try:
            self.mapper.waiting.store_again()
            work()
        except StorageError as error:
            self.fault = f'{error}; mapping goes on, free some space'
        except torch.OutOfMemoryError as error:
            self.fault = f'no memory for a snapshot ({str(error).splitlines()[0]}); mapping goes on'
        else:
            self.fault = ''
            return True
        log.warning(self.fault)
        self._retry_at = time.monotonic() + RETRY_S
        return False


def seconds_to_settle(mapper: Mapper) -> float:
    """How long training will go on if no keyframe comes, as fast as just now; inf: no end."""
    limit = mapper.config.training.settle_steps
    if not limit or mapper.trainer is None or not mapper.rays_per_second:
        return math.inf
    left = max(limit - (mapper.steps - mapper.steps_at_newest), 0)
    return left * mapper.trainer.rays / mapper.rays_per_second
