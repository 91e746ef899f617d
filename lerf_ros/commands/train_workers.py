# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros train CAPTURE --workers N` and `--ray ADDRESS`: submaps are trained side by side."""

from __future__ import annotations

import argparse
import shlex
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.errors import StorageError

if TYPE_CHECKING:
    from tqdm import tqdm

    from lerf_ros.commands.train import StopRequest
    from lerf_ros.config import LerfConfig
    from lerf_ros.encoders.image_text import ImageTextEncoder
    from lerf_ros.frames.captures.posed_folder import PosedFolder
    from lerf_ros.mapping.submap_workers import SubmapSorter, Told, Workers


def train_on_workers(cluster: Workers, config: LerfConfig, place: Path, encoder: ImageTextEncoder,
                     folder: PosedFolder, arguments: argparse.Namespace) -> int:
    """Sorts all images into submaps, trains each in a worker, and says what came of it.

    Returns 0, or 128 plus the number of the signal that stopped it. Raises StorageError, and
    TrainingFailedError where submaps failed; all others are kept.
    """
    from lerf_ros.commands.train import StopRequest, index_line, result_line
    from lerf_ros.encoders import image_text
    from lerf_ros.field.native_kernel import cache_folder
    from lerf_ros.mapping.submap_workers import SubmapSorter, raise_for
    from lerf_ros.training.devices import choose_device

    start = time.monotonic()
    load = partial(image_text.load_encoder, config.features,
                   str(choose_device(config.training.device)))
    with StopRequest() as stop:
        sorter = SubmapSorter(config, place, encoder, 'map', folder.metric)
        sort_keyframes(sorter, folder, arguments.resume, stop)
        sorter.share_out(arguments.steps)
        jobs = [] if stop.asked else sorter.jobs(cache_folder() / 'features', load)
        print(f'{sorter.stored} keyframes in {sorter.count} submaps; {len(jobs)} are to be '
              f'trained, on {cluster.place}', flush=True)
        with progress(sorter, arguments.steps) as bar:
            failed = cluster.train(jobs, showing(bar, sorter, stop))
    number = sorter.snapshot()
    print(result_line(sorter, number, time.monotonic() - start, folder.metric))
    if number:
        print(index_line(sorter))
    raise_for(failed)
    if stop.signal:
        print(f'stopped; kept are {sorter.stored} of {len(folder.frames)} keyframes and '
              f'{sorter.steps} of {arguments.steps} steps: the same command with --resume (and '
              'without --force) goes on')
        return 128 + stop.signal
    sorter.drop_checkpoints()
    name = shlex.quote(str(sorter.path))
    print(f'next: lerf_ros query {name} "a phrase", or lerf_ros view {name}')
    return 0


def sort_keyframes(sorter: SubmapSorter, folder: PosedFolder, resume: bool,
                   stop: StopRequest) -> None:
    """Stores the images that are not stored yet in the submaps that they look into."""
    from tqdm import tqdm

    if resume:
        sorter.restore()
    stored = sorter.stored
    for frame in tqdm(folder.frames[stored:], desc='keyframes', unit='image', initial=stored,
                      total=len(folder.frames)):
        if stop.asked:
            break
        if not sorter.store(frame):
            raise StorageError(sorter.waiting.fault)
    sorter.close_all()


def progress(sorter: SubmapSorter, steps: int) -> tqdm:
    """Returns a bar of the steps of all submaps together."""
    from tqdm import tqdm
    return tqdm(total=steps, desc='training', unit='step', initial=min(sorter.steps, steps))


def showing(bar: tqdm, sorter: SubmapSorter, stop: StopRequest) -> Told:
    """Returns what shows the progress of workers, and tells them whether to stop."""
    known = {number: sorter.written_of(number).steps for number in range(sorter.count)}

    def told(steps: dict[int, int], processes: dict[int, int]) -> bool:
        # A worker that goes on from a checkpoint is some steps behind the one that died.
        known.update(steps)
        done = sum(n >= sorter.goals[number] for number, n in known.items())
        bar.set_postfix_str(f'{done} of {sorter.count} submaps', refresh=False)
        bar.update(min(sum(known.values()), bar.total) - bar.n)
        return stop.asked
    return told
