# SPDX-License-Identifier: Apache-2.0
"""Trains the submaps of a recorded drive as tasks on Ray (docs.ray.io), one task a submap.

Which keyframe belongs to which submap is known before any is trained: `SubmapSorter` puts them all
on the disk. Then each submap is work of its own, on the map's folder, which all workers see. A
worker writes checkpoints there, so the task that Ray starts in the place of one that died goes on
from the newest. Ray places the tasks, starts them again, and counts GPUs; nothing here does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.errors import ConfigError, LerfError, StorageError, TrainingFailedError
from lerf_ros.mapping.saving import SnapshotSchedule
from lerf_ros.mapping.submap_state import learn_all, mean_quality
from lerf_ros.mapping.worker_board import Board
from lerf_ros.storage.lock import FolderLock
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.training.quality import Quality

if TYPE_CHECKING:
    from types import ModuleType

RETRIES = 3             # workers that may die on one submap
SLICE_S = 1.0           # training between two reports
POLL_S = 0.5
NO_SNAPSHOT_S = 86400.0     # interval that leaves only the snapshot at the end
# A worker that Ray gave up may live on where only the network between them broke.
PATIENCE_S = 30.0


class SubmapSorter(SubmapMapper):
    """Sorts the keyframes of a recorded drive into submaps, as a mapper does, and learns none."""

    def close(self, number: int) -> None:
        """Frees the memory of a submap, whose keyframes are on the disk."""
        self._closed[number] = self.active.pop(number).directory

    def close_all(self) -> None:
        """Frees the memory of all submaps."""
        self.make_room(0)

    def share_out(self, steps: int) -> None:
        """Lets each submap take its part of so many steps; without a field, all its keyframes."""
        super().share_out(steps)
        if not self.trains:
            self.goals = {n: len(self.directory(n).keyframes.indices()) for n in range(self.count)}
            self.unfinished = [n for n, goal in self.goals.items()
                               if self.written_of(n).steps < goal]

    @property
    def quality(self) -> Quality:
        """Mean PSNR and depth error of all submaps, as of their newest snapshots."""
        newest = [self.directory(number).newest() for number in range(self.count)]
        return mean_quality([Quality(**{
            name: float('nan') if (value := snapshot.info.get(name)) is None else value
            for name in ('psnr', 'depth_error')}) for snapshot in newest if snapshot])

    def jobs(self, cache: Path | None, load: Callable[[], ImageTextEncoder]) -> list[SubmapJob]:
        """Returns the training that is left of what `share_out` shared out, the most first.

        cache: folder of features that all workers see. load: loads the encoder, in each worker.
        """
        assert self.submaps is not None
        whole = SubmapJob(str(self.path.resolve()), self.submaps.id, 0, 0, self.config,
                          self.frame_id, self.metric, cache, load)
        return sorted((replace(whole, number=number, steps=self.goals[number])
                       for number in self.unfinished),
                      key=lambda job: self.written_of(job.number).steps - job.steps)


@dataclass(frozen=True)
class SubmapJob:
    """The training of one submap up to `steps`. map_id: of the map that is meant (submaps.json)."""

    path: str
    map_id: str
    number: int
    steps: int
    config: LerfConfig
    frame_id: str
    metric: bool
    cache: Path | None
    load: Callable[[], ImageTextEncoder]

    @property
    def trains(self) -> bool:
        """Whether there is a field to be trained; without one keyframes are taken and fused."""
        return self.config.training.field == 'lerf'


# Is told the number of a submap and its steps; returns whether to stop.
Report = Callable[[int, int], bool]
# Is told steps and process id of the worker of each submap, by number; returns whether to stop.
Told = Callable[[dict[int, int], dict[int, int]], bool]


def train_submap(job: SubmapJob, report: Report, threads: int = 0) -> int:
    """Trains one submap on the disk, with checkpoints, up to its steps; returns them.

    Goes on from the newest checkpoint. threads: of torch, 0 leaves them. Raises StorageError where
    the map is not to be seen from here, LockedError, TrainingFailedError.
    """
    import torch
    if threads:
        torch.set_num_threads(threads)
    cache = None if job.cache is None else FeatureCache(
        job.cache, job.config.features.cache_megabytes)
    # Before the mapper, which would make the folder.
    if not Path(job.path, 'submaps.json').is_file():
        raise StorageError(f'{job.path} is not to be seen from {os.uname().nodename}: put the map '
                           'on a disk that all machines of the cluster mount at this path (NFS)')
    mapper = SubmapMapper(job.config, job.path, job.load(), job.frame_id, job.metric, cache)
    if mapper.submaps is None or mapper.submaps.id != job.map_id:
        raise StorageError(f'{job.path} on {os.uname().nodename} is another map: mount the same '
                           'disk at this path on all machines of the cluster')
    lock = FolderLock(mapper.folder.path_of(job.number))
    lock.acquire(PATIENCE_S)
    try:
        submap = mapper.opened(job.number)
        learn_all(submap)
        saving = SnapshotSchedule(submap, replace(
            submap.config.map, snapshot_interval=NO_SNAPSHOT_S))
        while job.trains and submap.steps < job.steps and not report(job.number, submap.steps):
            submap.train_for(SLICE_S, job.steps)
            saving.tick()
        submap.snapshot()
        report(job.number, submap.steps)
        return submap.steps
    finally:
        lock.release()


def ray_module() -> ModuleType:
    """Returns Ray. Raises ConfigError, with how to install it, where it is missing."""
    # It tells its makers of each cluster otherwise, and gives way to all else on the machine.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    os.environ.setdefault('RAY_worker_niceness', '0')
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f'--workers and --ray need Ray, which is not here ({error}): pip install '
                          'ray, or train without them') from error
    return ray


@dataclass(frozen=True)
class Workers:
    """Workers of a Ray cluster. count: how many at once, 0 for as many as the cluster holds.

    threads, gpus: of each worker.
    """

    ray: ModuleType
    count: int
    threads: int
    gpus: float

    @property
    def place(self) -> str:
        """What trains, in words."""
        gpus = f' and {self.gpus:g} GPUs' if self.gpus else ''
        many = f'at most {self.count} workers' if self.count else 'as many workers as fit'
        return f'{many} of {self.threads} threads{gpus} each'

    def train(self, jobs: Sequence[SubmapJob], told: Told) -> dict[int, str]:
        """Trains submaps, and returns why some of them failed, in words, by number.

        told: is called every POLL_S with steps and worker's process id of each submap by number;
        returns whether to stop.
        """
        ray = self.ray
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board).remote()
        task = ray.remote(num_cpus=self.threads if self.count == 0 else 1, num_gpus=self.gpus,
                          max_retries=RETRIES)(run_job)
        waiting, running, failed = list(jobs), dict[Any, int](), dict[int, str]()
        stop = False
        while running or (waiting and not stop):
            while waiting and not stop and len(running) < (self.count or len(jobs)):
                job = waiting.pop(0)
                running[task.remote(job, board, self.threads)] = job.number
            done, _ = ray.wait(list(running), timeout=POLL_S)
            for reference in done:
                number = running.pop(reference)
                if words := fault_of(ray, reference):
                    failed[number] = words
            stop = told(*ray.get(board.read.remote(stop))) or stop
        return failed


def run_job(job: SubmapJob, board: Any, threads: int) -> int:
    """Trains one submap in a worker of Ray; board: a handle of the actor."""
    ray = ray_module()

    def report(number: int, steps: int) -> bool:
        return bool(ray.get(board.report.remote(number, steps, os.getpid())))

    return train_submap(job, report, threads)


def fault_of(ray: ModuleType, reference: Any) -> str:
    """Returns why a task failed, in words; empty where it did not."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        return str(cause) if isinstance(cause, LerfError) else f'{type(cause).__name__}: {cause}'
    except ray.exceptions.RayError as error:
        return (f'its worker died {RETRIES + 1} times (out of memory? dmesg and the logs of Ray '
                f'say more): {str(error).strip().splitlines()[0]}')
    return ''


@contextlib.contextmanager
def workers(count: int, address: str, config: LerfConfig) -> Iterator[Workers]:
    """Connects to a Ray cluster, or starts `count` workers here where there is no address.

    count: at most so many at once in a cluster, 0 for as many as it holds. Raises ConfigError where
    Ray is missing or no cluster answers.
    """
    ray, threads = ray_module(), config.training.threads
    try:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(address='local', num_cpus=count, include_dashboard=False,
                     log_to_driver=False)
            threads = threads or max((os.cpu_count() or 1) // count, 1)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f'--ray {address}: no Ray cluster answers there ({error}): start one '
                          '(ray start --head), or use --workers alone') from error
    try:
        gpus = ray.cluster_resources().get('GPU', 0.0)
        wanted = config.training.device != 'cpu' and gpus > 0
        yield Workers(ray, count, threads or 1,
                      min(1.0, gpus / count if count else 1.0) if wanted else 0.0)
    finally:
        ray.shutdown()


def raise_for(failed: dict[int, str]) -> None:
    """Raises TrainingFailedError, with what to do, where submaps failed."""
    if failed:
        words = '; '.join(f'submap {number:04d}: {words}' for number, words in failed.items())
        raise TrainingFailedError(
            f'{len(failed)} submaps were not trained to their end ({words}). The others are, and '
            'what these learned is kept: the same command with --resume (and without --force) '
            'goes on')
