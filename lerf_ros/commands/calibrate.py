# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros calibrate FOLDER`: threshold and probabilities of a map's encoder.

Every encoder has its own range of relevancies. Until it is calibrated its threshold follows a rule
and `probability` is unknown (NaN). The ground truth comes from a labelled capture, the one that the
map was trained from, or from simulated layouts, which are mapped with the encoder and the settings
of the map. What is found lies beside the map, in calibration.json, and counts for this encoder at
these settings.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.errors import DatasetError, LerfError

if TYPE_CHECKING:
    from lerf_ros.config import LerfConfig
    from lerf_ros.evaluation.scenes import EvalScene
    from lerf_ros.map_query import MapQuery


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `calibrate`."""
    command = commands.add_parser(
        'calibrate', help="fit threshold and probabilities of a map's encoder")
    command.add_argument('folder', nargs='?', help='the labelled capture that the map was trained '
                         'from: labels as in LERF-OVS, or objects in transforms.json')
    command.add_argument('--map', help='map directory (default: that of the capture)')
    command.add_argument('--labels', help='label file or folder (default: FOLDER/labels)')
    command.add_argument('--simulated', nargs='+', type=int, default=(), metavar='SEED',
                         help='simulated layouts to map and ask instead of a capture; minutes each')
    command.add_argument('--steps', type=int, default=2000,
                         help='optimisation steps for each simulated layout')
    command.set_defaults(func=run_calibrate)


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Asks maps with known ground truth, fits, and writes the calibration beside the map."""
    from lerf_ros.commands.map_target import map_place, require_single, source_of
    from lerf_ros.evaluation.calibration import (
        absent_words,
        ask_scene,
        fit_calibration,
        write_calibration,
    )
    from lerf_ros.map_query import MapQuery
    if bool(arguments.folder) == bool(arguments.simulated):
        raise DatasetError('give a labelled capture, or --simulated SEED... with --map: one of '
                           'them is the ground truth')
    if not arguments.map and not arguments.folder:
        raise DatasetError('say with --map which map is calibrated')
    place = map_place(arguments.folder or '.', arguments.map)
    if arguments.folder and 'T_map_capture' in source_of(place):
        raise DatasetError(f'the map in {place} was turned so that z is up, and its ground truth '
                           'was not: train another map with --up z to calibrate with this capture')
    require_single(place)
    query = MapQuery.open(place)
    places, presences, names = [], [], []
    for scene, asked in scenes(arguments, query):
        far, near = absent_words(scene, asked.text_query.encoder)
        hits, present = ask_scene(asked, scene, [*far, *near], near)
        print(f'{scene.name}: {int(present.right.sum())} phrases for things that are there, '
              f'{int((~present.right).sum())} for others, {len(near)} of them near in meaning',
              flush=True)
        places.append(hits)
        presences.append(present)
        names.append(scene.name)
    fit = fit_calibration(places, presences)
    path = write_calibration(query, fit, names)
    print(f'{path}: threshold {fit.threshold:.3f}, which {fit.found:.0%} of what is there and '
          f'{fit.false:.0%} of what is not reach; Brier score of presence {fit.brier:.3f}, '
          f'{fit.brier_left_out:.3f} on phrases that were left out (0.25 is guessing)')
    return 0


def scenes(arguments: argparse.Namespace,
           query: MapQuery) -> Iterator[tuple[EvalScene, MapQuery]]:
    """Yields scenes with ground truth, each with a map of it."""
    from lerf_ros.evaluation.calibration import map_config
    from lerf_ros.evaluation.folder_scenes import folder_scene
    from lerf_ros.evaluation.scenes import simulated_scene

    if arguments.folder:
        yield folder_scene(arguments.folder, arguments.labels), query
        return
    for seed in arguments.simulated:
        scene = simulated_scene(seed)
        with tempfile.TemporaryDirectory() as folder:
            yield scene, mapped(scene, map_config(query), Path(folder), arguments.steps)


def mapped(scene: EvalScene, config: LerfConfig, folder: Path, steps: int) -> MapQuery:
    """Maps a scene with the settings and the encoder of a map; raises LerfError if it cannot."""
    from lerf_ros.encoders.image_text import load_encoder
    from lerf_ros.map_query import MapQuery
    from lerf_ros.mapper import Mapper
    from lerf_ros.storage.map_directory import MapDirectory
    from lerf_ros.training.devices import choose_device

    config = config.override({
        'scene.keyframes': len(scene.frames), 'scene.radius': 0.0, 'scene.center': (),
        'training.newest_fraction': 0.0, 'training.settle_steps': 0, 'map.training_state': False})
    encoder = load_encoder(config.features, str(choose_device(config.training.device)))
    mapper = Mapper(config, MapDirectory(folder, True), encoder, 'map', True)
    for frame in scene.frames:
        mapper.add_frame(frame)
    while mapper.steps < steps:
        mapper.train_for(10.0, steps)
    if not mapper.snapshot():
        raise LerfError(f'{scene.name}: the map has no snapshot')
    return MapQuery.open(folder)
