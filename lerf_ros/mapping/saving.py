# SPDX-License-Identifier: Apache-2.0
"""When the mapper writes: snapshots for queries, checkpoints so that little can be lost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import torch

from lerf_ros.config import MapConfig
from lerf_ros.errors import StorageError
from lerf_ros.mapping.map_maker import MapMaker

# Snapshots take this part of the time at most, but no more than so many intervals pass between two.
MOST_OF_TIME, LONGEST_WAIT = 0.15, 3
# Checkpoints take this part of it at most: those of a large field are half a gigabyte.
CHECKPOINTS_SHARE = 0.1
# Without a keyframe for so long the capture has ended, and queries should see all of it.
CAPTURE_OVER_S = 5.0
RETRY_S = 10.0           # between a write that failed and the next

log = logging.getLogger(__name__)


class SnapshotSchedule:
    """Writes snapshots, and checkpoints so that at most config.checkpoint_interval can be lost.

    A disk that is full becomes a fault in the status; mapping goes on.
    """

    def __init__(self, mapper: MapMaker, config: MapConfig) -> None:
        self.mapper, self.config = mapper, config
        self.fault = ''     # why nothing can be written; empty when it can
        newest = mapper.written
        self.snapshot_id, self.snapshot_stamp_ns = newest.number, newest.stamp_ns
        self.snapshot_keyframes, self.snapshot_steps = newest.keyframes, newest.steps
        self._snapshot_due = math.inf       # a first interval of training comes before
        self._durable_steps, self._durable_at = mapper.steps, time.monotonic()
        # How long the last one took; unknown before the first snapshot.
        self._snapshot_s, self._checkpoint_s = math.inf, 0.0
        self._looked_at = time.monotonic()
        self._retry_at = 0.0
        # The first keyframe that is not in the newest snapshot; the next index, and since when.
        self._snapshot_until = newest.until
        self._newest_index, self._newest_at = mapper.waiting.next_index, time.monotonic()

    def tick(self) -> None:
        """Writes what is due; to be called after each slice of training.

        Raises TrainingFailedError when the fields are spoiled for good.
        """
        now, steps = time.monotonic(), self.mapper.steps
        if self._newest_index != self.mapper.waiting.next_index:
            self._newest_index, self._newest_at = self.mapper.waiting.next_index, now
        if self.fault and now < self._retry_at:
            return
        if math.isinf(self._snapshot_due):
            self._snapshot_due, self._durable_at = now + self.config.snapshot_interval, now
        due = steps > self.snapshot_steps and (self.mapper.settled or self._snapshot_is_due(now))
        if steps <= self._durable_steps:
            self._durable_at = now
        # The next tick comes after at most twice the time since the last one.
        until_next = 2 * (now - self._looked_at)
        self._looked_at = now
        ahead = self._checkpoint_s + until_next + (self._snapshot_s if due else 0.0)
        interval = max(self.config.checkpoint_interval, self._checkpoint_s / CHECKPOINTS_SHARE)
        if self.config.training_state and steps > self._durable_steps \
                and now - self._durable_at + ahead > interval:
            self.checkpoint()
        if due:
            self.snapshot()
        self._looked_at = time.monotonic()

    def _snapshot_is_due(self, now: float) -> bool:
        """Returns whether the interval is over, or the capture has ended.

        A snapshot waits up to one more interval for keyframes that are not learned yet, and for a
        map that will have settled before the next one.
        """
        mapper = self.mapper
        if now > self._snapshot_due + self.config.snapshot_interval:
            return True
        return ((now > self._snapshot_due or self._capture_over(now))
                and not len(mapper.waiting) and mapper.seconds_to_settle() > self._interval_s())

    def _capture_over(self, now: float) -> bool:
        """Returns whether keyframes have ceased to come, and the newest snapshot lacks some."""
        return (self.snapshot_id > 0 and now - self._newest_at > CAPTURE_OVER_S
                and self._snapshot_until < self._newest_index)

    def last(self) -> None:
        """Writes a last snapshot of what is not in one yet."""
        if self.mapper.steps > self.snapshot_steps:
            self.snapshot()

    def checkpoint(self) -> None:
        """Writes a checkpoint, if the fields are healthy."""
        start = time.monotonic()
        if self._healthy() and self._write(self.mapper.checkpoint):
            self._checkpoint_s = time.monotonic() - start
            self._durable_steps, self._durable_at = self.mapper.steps, start

    def snapshot(self) -> None:
        """Writes a snapshot; the next one waits longer where snapshots are slow, up to a limit."""
        start = time.monotonic()
        if self.mapper.steps == self.snapshot_steps or not self._healthy():
            return
        written = self._write(self._snapshot)
        self._snapshot_s = time.monotonic() - start
        self._snapshot_due = time.monotonic() + self._interval_s()
        if written and self.config.training_state:
            self._durable_steps, self._durable_at = self.mapper.steps, start

    def _interval_s(self) -> float:
        """Returns the time between snapshots that are as slow as the last one."""
        interval = self.config.snapshot_interval
        slowest = 0.0 if math.isinf(self._snapshot_s) else self._snapshot_s / MOST_OF_TIME
        return min(max(interval, slowest), LONGEST_WAIT * interval)

    def _healthy(self) -> bool:
        return self.mapper.healthy()

    def _snapshot(self) -> None:
        mapper, start = self.mapper, time.monotonic()
        steps = mapper.steps
        number = mapper.snapshot()
        if not number:
            return
        self.snapshot_id, self.snapshot_steps = number, steps
        newest = mapper.written
        self._snapshot_until = newest.until
        self.snapshot_stamp_ns, self.snapshot_keyframes = newest.stamp_ns, newest.keyframes
        log.info('snapshot %d after %d steps with %d keyframes in %.1f s, held-out PSNR %.1f dB',
                 number, steps, newest.keyframes, time.monotonic() - start,
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
