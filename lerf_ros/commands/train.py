# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros train FOLDER`: trains a map from a folder of posed images."""

from __future__ import annotations

import argparse
import contextlib
import math
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from lerf_ros.commands.options import add_settings, read_config
from lerf_ros.commands.parser import seconds
from lerf_ros.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from lerf_ros.commands.progress import Forecast
    from lerf_ros.frames.captures.posed_folder import PosedFolder
    from lerf_ros.mapping.map_maker import MapMaker
    from lerf_ros.training.quality import Quality

    SignalHandler = Callable[[int, FrameType | None], object] | int | None

# Training between two checks for Ctrl-C: seconds in one process, steps in a group of processes.
SLICE_S, SLICE_STEPS = 1.0, 20
FEW_POINTS = 200        # in an index; fewer are warned about
NO_SNAPSHOT_S = 86400.0             # interval that leaves only the snapshot at the end
# The progress of a training whose time is given.
TIMED = {'bar_format': '{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} s{postfix}'}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `train`."""
    command = commands.add_parser('train', help='train a map from a folder of posed images')
    command.add_argument('folder', help='a capture: transforms.json and images (nerfstudio, '
                         'instant-ngp), or an export of Polycam, Record3D or COLMAP')
    command.add_argument('--map', help='map directory to write, a new or an empty folder (default: '
                         'out/maps/NAME_OF_FOLDER)')
    long = command.add_mutually_exclusive_group()
    long.add_argument('--steps', type=int, default=2000, help='optimisation steps')
    long.add_argument('--time', type=seconds, metavar='DURATION',
                      help='train for this long instead, such as 60s, 10m or 2h; reading the '
                      'images and the index come on top')
    command.add_argument('--scale', type=float, default=1.0,
                         help='metres a unit of the poses, where that is known')
    command.add_argument('--up', default='auto', metavar='AXIS',
                         help='which way is up in the poses: auto (from how the cameras were '
                         'held), z, --up=-y, or X,Y,Z; where it is not z the map is turned')
    command.add_argument('--mask', help='image that is black where the robot shows in every image')
    command.add_argument('--max-side', type=int, default=0,
                         help='shrink images to this longer side in pixels; 0 shrinks them only '
                         'where they take more than check.memory_share of the free memory')
    command.add_argument('--trust-input', action='store_true',
                         help='train although poses, depth, lens or images contradict each other')
    command.add_argument('--workers', type=int, default=0, metavar='N',
                         help='train submaps in N processes at once, which Ray starts here, or '
                         'in a cluster (--ray); needs submaps.use=true')
    command.add_argument('--ray', default='', metavar='ADDRESS',
                         help='train submaps on this Ray cluster, such as auto or '
                         'ray://HOST:10001; the map must be on a disk that all its machines see')
    there = command.add_mutually_exclusive_group()
    there.add_argument('--resume', action='store_true',
                       help='go on with the training that the map directory holds')
    there.add_argument('--force', action='store_true',
                       help='delete the map that the map directory holds, and nothing else in it')
    add_settings(command)
    command.set_defaults(func=run_train)


class StopRequest:
    """Turns Ctrl-C and SIGTERM, inside the block, into a request to stop; a second one ends it."""

    def __init__(self) -> None:
        self.signal = 0     # number of the first signal
        self._before: dict[int, SignalHandler] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note)
                            for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether to stop; all processes of a group must ask at the same points, and agree."""
        from lerf_ros.training.devices import for_any
        agreed = for_any(bool(self.signal))
        if agreed and not self.signal:
            self.signal = signal.SIGTERM    # another process of the group received it
        return agreed

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        print('\nstopping: what was learned is written first; once more ends at once',
              file=sys.stderr, flush=True)


def run_train(arguments: argparse.Namespace) -> int:
    """Trains a map from a folder, shows progress, and reports the quality on held-out images.

    Under torchrun several processes train the map together, and the first one writes it.
    """
    from lerf_ros.training.devices import process_group

    with process_group():
        return train_folder(arguments)


def train_folder(arguments: argparse.Namespace) -> int:
    """Trains in one process; returns 0, or 128 plus the number of the signal that stopped it."""
    from lerf_ros.commands.map_target import check_place, check_same_images, map_place
    from lerf_ros.commands.train_workers import train_on_workers
    from lerf_ros.encoders.cache import FeatureCache
    from lerf_ros.encoders.image_text import load_encoder
    from lerf_ros.field.native_kernel import cache_folder
    from lerf_ros.frames.capture_check import check_folder
    from lerf_ros.frames.captures.load import load_folder
    from lerf_ros.frames.upright import stand_upright
    from lerf_ros.mapping.making import begin_map, make_map, makes_submaps
    from lerf_ros.mapping.submap_workers import workers
    from lerf_ros.storage.lock import FolderLock
    from lerf_ros.training.devices import choose_device, own_directory, rank, reuse_memory

    reuse_memory()
    config = read_config(arguments)
    folder = load_folder(arguments.folder, scale=arguments.scale, mask_path=arguments.mask,
                         max_side=arguments.max_side)
    for note in folder.notes if rank() == 0 else ():
        print(f'{arguments.folder}: {note}', flush=True)
    upright = stand_upright(folder, arguments.up)
    folder = upright.folder
    if rank() == 0:
        print(upright.line(), flush=True)
    target = map_place(arguments.folder, arguments.map)
    if rank() == 0:
        check_place(target, folder.root, map(str, folder.files), arguments.resume,
                    arguments.force)
    check_submaps(arguments, makes_submaps(config, target) if arguments.resume
                  else config.submaps.use)
    folder, notes = check_folder(folder, config, arguments.trust_input, arguments.max_side)
    for note in notes if rank() == 0 else ():
        print(note, flush=True)
    # All images are available: the scene is measured from all of them, and none is the newest.
    count = len(folder.frames)
    config = config.override({'scene.keyframes': min(count, 100),
                              'keyframes.max_count': max(count, config.keyframes.max_count),
                              'training.newest_fraction': 0.0, 'training.settle_steps': 0})
    encoder = load_encoder(config.features, str(choose_device(config.training.device)))
    cache = FeatureCache(cache_folder() / 'features', config.features.cache_megabytes)
    # Connected before a map is deleted.
    cluster = workers(arguments.workers, arguments.ray, config) \
        if arguments.workers or arguments.ray else contextlib.nullcontext()
    with cluster as helpers, own_directory(target, arguments.resume) as place, FolderLock(place):
        if arguments.resume:
            check_same_images(place, arguments.folder, folder.frames)
        else:
            begin_map(config, place, encoder, folder.metric, {
                'capture': str(Path(arguments.folder).resolve()), 'images': count,
                **({'T_map_capture': upright.T_map_capture.tolist()} if upright.turned else {})})
        if helpers is not None:
            return train_on_workers(helpers, config, place, encoder, folder, arguments)
        mapper = make_map(config, place, encoder, 'map', folder.metric, cache)
        if arguments.resume:
            mapper.restore()
        with StopRequest() as stop:
            train(mapper, folder, arguments, stop)
    return 128 + stop.signal if stop.signal else 0


def check_submaps(arguments: argparse.Namespace, submaps: bool) -> None:
    """Raises ConfigError for what submaps cannot be trained with."""
    from lerf_ros.mapping.submap_workers import ray_module
    from lerf_ros.training.devices import processes

    if arguments.workers < 0:
        raise ConfigError(f'--workers {arguments.workers}: give a number from 1')
    if (arguments.workers or arguments.ray) and not submaps:
        raise ConfigError('--workers and --ray train submaps, each on its own: add --set '
                          'submaps.use=true; torchrun trains one scene frame on several GPUs')
    if arguments.workers or arguments.ray:
        ray_module()        # before anything is read, or a map deleted
    if submaps and arguments.time is not None:
        raise ConfigError('submaps share out training steps among themselves: give --steps '
                          'instead of --time')
    if submaps and processes() > 1:
        raise ConfigError('torchrun trains one scene frame, not submaps: start without it')


def train(mapper: MapMaker, folder: PosedFolder, arguments: argparse.Namespace,
          stop: StopRequest) -> None:
    """Adds all images, trains and writes a snapshot, also of a training that was stopped early."""
    from lerf_ros.commands.progress import Speeds, remember, working
    from lerf_ros.field.native_kernel import cache_folder
    from lerf_ros.training.devices import rank

    first, expected = mapper.steps, expect(mapper, folder, arguments)
    if rank() == 0:
        print(expected.line(), flush=True)
    start = learned = trained = time.monotonic()
    if take_keyframes(mapper, folder, stop):
        learned = time.monotonic()
        if mapper.config.training.field == 'lerf':
            take_steps(mapper, arguments.steps, arguments.time, stop)
        trained = time.monotonic()
    if rank() > 0:
        return
    with working('index and snapshot', expected.speeds.snapshot_s, mapper.ready):
        number = mapper.snapshot()
    end, taken = time.monotonic(), mapper.steps - first
    if number and not stop.signal and taken > 0:
        remember(cache_folder(), kind_of(mapper), Speeds(
            (learned - start) / len(folder.frames), (trained - learned) / taken, end - trained))
    print(result_line(mapper, number, end - start, folder.metric))
    if number:
        print(index_line(mapper))
    if stop.signal:
        steps = arguments.steps if arguments.time is None else None
        print(stopped_line(mapper, len(folder.frames), steps))
    elif number:
        if mapper.config.map.training_state:
            mapper.drop_checkpoints()
        name = shlex.quote(str(mapper.path))
        print(f'next: lerf_ros query {name} "a phrase", or lerf_ros view {name}')


def expect(mapper: MapMaker, folder: PosedFolder, arguments: argparse.Namespace) -> Forecast:
    """Returns how long the training will take, and how much memory."""
    from lerf_ros.commands.progress import forecast
    from lerf_ros.field.native_kernel import cache_folder
    from lerf_ros.frames.capture_check import bytes_of

    cameras = [folder.frames[0].camera] * len(folder.frames)
    trains = mapper.config.training.field == 'lerf'
    steps = max(arguments.steps - mapper.steps, 0) if trains else 0
    return forecast(cache_folder(), kind_of(mapper), str(mapper.device), len(folder.frames),
                    bytes_of(cameras), steps, arguments.time if trains else None)


def kind_of(mapper: MapMaker) -> str:
    """Returns, as a key, what the speed of a training depends on most."""
    import torch
    c = mapper.config.training
    return (f'{mapper.device} {torch.get_num_threads()} {mapper.encoder.name} {c.rays} '
            f'{c.language_rays}{"" if c.field == "lerf" else " without a field"}')


def result_line(mapper: MapMaker, number: int, seconds_taken: float, metric: bool) -> str:
    """Returns what was written, and how good it is. number: of the snapshot, 0 for none."""
    written = f'snapshot {number}' if number else 'no snapshot yet'
    quality = f', {quality_line(mapper.quality, metric)}' \
        if number and mapper.config.training.field == 'lerf' else ''
    trained = f'{mapper.steps} steps' if mapper.config.training.field == 'lerf' else 'no field'
    return (f'map {mapper.path}, {written}: {mapper.stored} keyframes, {trained} in '
            f'{seconds_taken:.0f} s{quality}')


def index_line(mapper: MapMaker) -> str:
    """Returns the number of points in the index as text, with a warning if they are few."""
    points = mapper.points
    if points >= FEW_POINTS:
        return f'the index has {points} points'
    words = 'no points: nothing will be found' if not points else \
        f'only {points} points: hardly anything will be found'
    return (f'warning: the index has {words}. No surface is confirmed by enough images: train '
            'longer (--steps), and check poses, overlap and exposure of the images')


def stopped_line(mapper: MapMaker, images: int, steps: int | None) -> str:
    """Returns the message of a training that was stopped: what is kept, and how to resume it.

    steps: all that were asked for, None where a time was.
    """
    trained = f'{mapper.steps} {"" if steps is None else f"of {steps} "}steps' \
        if mapper.config.map.training_state else 'no training (map.training_state is off)'
    return (f'stopped; kept are {mapper.stored} of {images} keyframes and {trained}: the same '
            'command with --resume (and without --force) goes on')


def take_keyframes(mapper: MapMaker, folder: PosedFolder, stop: StopRequest) -> bool:
    """Stores each image as a keyframe, unless it is stored already, and adds it to the training.

    Returns False if it was stopped before all were added. Raises StorageError if one cannot be
    stored.
    """
    from tqdm import tqdm

    from lerf_ros.training.devices import rank

    stored, count = mapper.stored, len(folder.frames)
    with tqdm(total=count, desc='keyframes', unit='image', disable=rank() > 0) as bar:
        for i in range(count):
            if i >= stored and not mapper.store(folder.frames[i]):
                raise StorageError(mapper.waiting.fault)
            while not stop.asked and mapper.learn_next():
                bar.update(1)
            if stop.asked:
                return False
    return True


def take_steps(mapper: MapMaker, steps: int, time_s: float | None, stop: StopRequest) -> None:
    """Trains up to this number of steps, or for time_s seconds, with checkpoints against a kill."""
    from tqdm import tqdm

    from lerf_ros.commands.progress import state_of
    from lerf_ros.mapping.saving import SnapshotSchedule
    from lerf_ros.training.devices import for_any, processes, rank, separate_noise

    separate_noise(mapper.config.training.seed + mapper.steps)
    saving = SnapshotSchedule(mapper, replace(mapper.config.map, snapshot_interval=NO_SNAPSHOT_S))
    last, start = steps if time_s is None else math.inf, time.monotonic()
    if time_s is None:
        mapper.share_out(steps)

    def spent() -> float:
        return time.monotonic() - start

    with tqdm(total=steps if time_s is None else math.ceil(time_s), desc='training',
              initial=mapper.steps if time_s is None else 0, disable=rank() > 0,
              unit='step' if time_s is None else 's', **TIMED if time_s else {}) as bar:
        while mapper.steps < last and not stop.asked and not for_any(
                time_s is not None and spent() >= time_s):
            # Processes of a group take the same steps between two collective checks.
            mapper.train_for(*(min(SLICE_S, (time_s or math.inf) - spent()), last)
                             if processes() == 1 else
                             (math.inf, min(mapper.steps + SLICE_STEPS, last)))
            if rank() == 0:
                saving.tick()
            done = mapper.steps if time_s is None else spent()
            bar.set_postfix_str(f'{mapper.steps} steps, ' * (time_s is not None)
                                + state_of(mapper), refresh=False)
            bar.update(min(done, bar.total) - bar.n)


def quality_line(quality: Quality, metric: bool) -> str:
    """Returns the quality on held-out images as text."""
    if math.isnan(quality.psnr):
        return 'no keyframe was held out, so quality is not known'
    unit = 'm' if metric else 'world units (not metric)'
    depth = '' if math.isnan(quality.depth_error) else (
        f', median depth error {quality.depth_error:.4f} {unit}')
    return f'held-out PSNR {quality.psnr:.2f} dB{depth}'
