# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros train FOLDER`: a map from a folder of posed images."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.commands.options import add_settings, read_config

if TYPE_CHECKING:
    from lerf_ros.keyframes.nerfstudio import PosedFolder
    from lerf_ros.mapper import Mapper
    from lerf_ros.training.quality import Quality


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `train`."""
    command = commands.add_parser('train', help='train a map from a folder of posed images')
    command.add_argument('folder', help='a nerfstudio folder: transforms.json and images')
    command.add_argument('--map', help='map directory to write (default: out/maps/NAME_OF_FOLDER)')
    command.add_argument('--steps', type=int, default=2000, help='optimisation steps')
    command.add_argument('--scale', type=float, default=1.0,
                         help='metres a unit of the poses, where that is known')
    command.add_argument('--mask', help='image that is black where the robot shows in every image')
    command.add_argument('--max-side', type=int, default=0,
                         help='shrink images to this longer side in pixels; 0 keeps them')
    command.add_argument('--resume', action='store_true',
                         help='go on with the training that the map directory holds')
    add_settings(command)
    command.set_defaults(func=run_train)


def run_train(arguments: argparse.Namespace) -> int:
    """Trains a map from a folder, with live progress, and reports its held-out quality.

    Under torchrun several processes train it together, and the first one writes it.
    """
    from lerf_ros.training.data_parallel import process_group

    with process_group():
        return train_folder(arguments)


def train_folder(arguments: argparse.Namespace) -> int:
    """What each process does."""
    from lerf_ros.features.cache import FeatureCache
    from lerf_ros.features.encoders import load_encoder
    from lerf_ros.field.native_kernel import cache_folder
    from lerf_ros.keyframes.nerfstudio import load_folder
    from lerf_ros.mapper import Mapper
    from lerf_ros.storage.lock import FolderLock
    from lerf_ros.storage.map_directory import MapDirectory
    from lerf_ros.training.data_parallel import own_directory
    from lerf_ros.training.device import choose_device, reuse_memory

    reuse_memory()
    config = read_config(arguments)
    folder = load_folder(arguments.folder, scale=arguments.scale, mask_path=arguments.mask,
                         max_side=arguments.max_side)
    target = Path(arguments.map or Path('out/maps') / Path(arguments.folder).resolve().name)
    # All images are at hand: the scene is measured from all of them, none counts as newest.
    count = len(folder.frames)
    config = config.override({'scene.keyframes': min(count, 100),
                              'keyframes.max_count': max(count, config.keyframes.max_count),
                              'training.newest_fraction': 0.0, 'training.settle_steps': 0})
    encoder = load_encoder(config.features, str(choose_device(config.training.device)))
    cache = FeatureCache(cache_folder() / 'features', config.features.cache_megabytes)
    with own_directory(target, arguments.resume) as place, FolderLock(place):
        directory = MapDirectory(place, folder.metric)
        if not arguments.resume:
            directory.clear()
        train(Mapper(config, directory, encoder, 'map', folder.metric, cache), folder, arguments)
    return 0


def train(mapper: Mapper, folder: PosedFolder, arguments: argparse.Namespace) -> None:
    """Learns all images, takes the steps and writes a snapshot."""
    from tqdm import tqdm

    from lerf_ros.training.data_parallel import rank, separate_noise

    for frame in tqdm(folder.frames, desc='keyframes', unit='image', disable=rank() > 0):
        mapper.add_frame(frame)
    if arguments.resume:
        mapper.resume()
    separate_noise(mapper.config.training.seed + mapper.steps)
    start, begun = time.monotonic(), mapper.steps
    with tqdm(total=arguments.steps, initial=begun, desc='training', unit='step',
              disable=rank() > 0) as bar:
        while mapper.steps < arguments.steps:
            mapper.train_for(1.0, arguments.steps)
            bar.update(min(mapper.steps, arguments.steps) - bar.n)
            bar.set_postfix(loss=f'{mapper.loss:.3f}', rays_per_s=f'{mapper.rays_per_second:.0f}')
    if rank() > 0:
        return
    number = mapper.snapshot()
    print(f'map {mapper.directory.path}, snapshot {number}: {len(mapper.views)} keyframes, '
          f'{mapper.steps} steps in {time.monotonic() - start:.0f} s, '
          f'{quality_line(mapper.quality, folder.metric)}')


def quality_line(quality: Quality, metric: bool) -> str:
    """Held-out quality in words."""
    if math.isnan(quality.psnr):
        return 'no keyframe was held out, so quality is not known'
    unit = 'm' if metric else 'world units (not metric)'
    depth = '' if math.isnan(quality.depth_error) else (
        f', median depth error {quality.depth_error:.4f} {unit}')
    return f'held-out PSNR {quality.psnr:.2f} dB{depth}'
