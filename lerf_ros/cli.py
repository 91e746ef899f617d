# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros train | query | eval | up | demo`: the same core as the nodes, without ROS."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros import processes
from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.errors import ConfigError, LerfError
from lerf_ros.evaluation import command
from lerf_ros.settings import flat_fields, nearest

if TYPE_CHECKING:
    from lerf_ros.keyframes.nerfstudio import PosedFolder
    from lerf_ros.mapper import Mapper
    from lerf_ros.training.quality import Quality


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 with one line that says what is wrong."""
    # Spinning threads slow each other down many times on a busy machine; read when torch loads.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    logging.getLogger('httpx').setLevel(logging.WARNING)
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.func(parsed))
    except LerfError as error:
        print(f'lerf_ros {parsed.command}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog='lerf_ros', description='Open-vocabulary 3D maps.')
    commands = top.add_subparsers(dest='command', required=True)
    train = commands.add_parser('train', help='train a map from a folder of posed images')
    train.add_argument('folder', help='a nerfstudio folder: transforms.json and images')
    train.add_argument('--map', help='map directory to write (default: out/maps/NAME_OF_FOLDER)')
    train.add_argument('--steps', type=int, default=2000, help='optimisation steps')
    train.add_argument('--scale', type=float, default=1.0,
                       help='metres a unit of the poses, where that is known')
    train.add_argument('--mask', help='image that is black where the robot shows in every image')
    train.add_argument('--max-side', type=int, default=0,
                       help='shrink images to this longer side in pixels; 0 keeps them')
    train.add_argument('--resume', action='store_true',
                       help='go on with the training that the map directory holds')
    train.set_defaults(func=run_train)
    query = commands.add_parser('query', help='ask a map for a phrase')
    query.add_argument('map', help='map directory')
    query.add_argument('text', nargs='+', help='phrases, each in quotes')
    query.add_argument('--negatives', nargs='*', default=(), help='phrases it must win against')
    query.add_argument('--threshold', type=float, default=0.0, help='relevancy that counts')
    query.add_argument('--pictures', help='folder for an overlay picture of each phrase')
    query.set_defaults(func=run_query)
    anew = commands.add_parser('reindex', help="build a finished map's index anew from its fields")
    anew.add_argument('map', help='map directory, also one of the format before')
    anew.add_argument('--set', nargs='*', default=(), metavar='NAME=VALUE',
                      help='settings of the index and of queries, such as index.rays=200000')
    anew.set_defaults(func=run_reindex)
    evaluation = command.add_parser(commands)
    evaluation.set_defaults(func=run_eval)
    for each in (train, query, evaluation):
        each.add_argument('--preset', help='offline, online, reference, ... or a YAML file')
        each.add_argument('--set', nargs='*', default=(), metavar='NAME=VALUE',
                          help='settings, such as training.rays=1024')
    processes.add_parsers(commands)
    return top


def read_config(arguments: argparse.Namespace) -> LerfConfig:
    """Defaults, then the preset, then --set."""
    config = load_preset(preset_path(arguments.preset)) if arguments.preset else LerfConfig()
    return config.override(overrides(arguments.set))


def overrides(pairs: list[str]) -> dict[str, object]:
    """NAME=VALUE pairs with YAML values; ConfigError for anything else."""
    import yaml
    out: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition('=')
        if not equals:
            known = [n for n, _, _ in flat_fields(LerfConfig())]
            raise ConfigError(f'--set {pair}: expected NAME=VALUE{nearest(name, known)}')
        out[name] = yaml.safe_load(value)
    return out


def run_eval(arguments: argparse.Namespace) -> int:
    """Measures on scenes; a named function, because --jobs hands the arguments to processes."""
    return command.run(arguments, read_config(arguments))


def run_train(arguments: argparse.Namespace) -> int:
    """Trains a map from a folder, with live progress, and reports its held-out quality."""
    from lerf_ros.features.cache import FeatureCache
    from lerf_ros.features.encoders import load_encoder
    from lerf_ros.field.native_kernel import cache_folder
    from lerf_ros.keyframes.nerfstudio import load_folder
    from lerf_ros.map_directory import MapDirectory
    from lerf_ros.mapper import Mapper
    from lerf_ros.storage.lock import FolderLock
    from lerf_ros.training.device import choose_device

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
    with FolderLock(target):
        directory = MapDirectory(target, folder.metric)
        if not arguments.resume:
            directory.clear()
        train(Mapper(config, directory, encoder, 'map', folder.metric, cache), folder, arguments)
    return 0


def train(mapper: Mapper, folder: PosedFolder, arguments: argparse.Namespace) -> None:
    """Learns all images, takes the steps and writes a snapshot."""
    from tqdm import tqdm

    for frame in tqdm(folder.frames, desc='keyframes', unit='image'):
        mapper.add_frame(frame)
    if arguments.resume:
        mapper.resume()
    start, begun = time.monotonic(), mapper.steps
    with tqdm(total=arguments.steps, initial=begun, desc='training', unit='step') as bar:
        while mapper.steps < arguments.steps:
            mapper.train_for(1.0, arguments.steps)
            bar.update(min(mapper.steps, arguments.steps) - bar.n)
            bar.set_postfix(loss=f'{mapper.loss:.3f}', rays_per_s=f'{mapper.rays_per_second:.0f}')
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


def run_reindex(arguments: argparse.Namespace) -> int:
    """Writes a new snapshot with the same fields and the index as this version makes it."""
    from lerf_ros.stored_map import reindex

    start = time.monotonic()
    number = reindex(arguments.map, overrides(arguments.set))
    print(f'map {arguments.map}, snapshot {number}: index built anew in '
          f'{time.monotonic() - start:.0f} s')
    return 0


def run_query(arguments: argparse.Namespace) -> int:
    """Prints where each phrase is; with --pictures also shows it."""
    from lerf_ros.map_query import MapQuery

    own = read_config(arguments).query if arguments.preset or arguments.set else None
    query = MapQuery(arguments.map, own)
    query.refresh()
    if not query.metric and query.ready:
        print('this map is not metric: lengths are in the units of its poses')
    for text in arguments.text:
        start = time.monotonic()
        answer = query.answer(text, arguments.negatives, arguments.threshold)
        took_ms = 1000 * (time.monotonic() - start)
        print(f'{text}: {"found" if answer.found else "not found"} '
              f'(best relevancy {answer.relevancy.max(initial=0):.2f}, {took_ms:.0f} ms)')
        for rank, hit in enumerate(answer.hits, 1):
            x, y, z = hit.position
            print(f'  {rank}. ({x:.3f}, {y:.3f}, {z:.3f}) size {hit.size.round(3).tolist()} '
                  f'relevancy {hit.relevancy:.2f}, {hit.points} points, '
                  f'{hit.keyframes} keyframes')
        if arguments.pictures:
            from lerf_ros.evaluation.pictures import save_overlay
            print(f'  {save_overlay(Path(arguments.map), answer, Path(arguments.pictures))}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
