# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros eval`: reads or renders scenes; writes tables, plots and results.json."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lerf_ros.config import LerfConfig
    from lerf_ros.evaluation.experiment import EvalPlan
    from lerf_ros.evaluation.records import EvalResults
    from lerf_ros.evaluation.scenes import EvalScene

FIELD_ALONE = 'no second look'      # without second looks of the map this is lerf, once more
METHODS = ('lerf', FIELD_ALONE, 'no dense', 'one scale', 'pixel-aligned', 'fusion',
           'fusion_second_look', 'tsdf')
RIVALS = ('owl-vit',)   # run on request only, because their weights must be downloaded


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    radiance_steps, language_steps: training of the fields. convergence: numbers of language steps
    at which LERF is evaluated as well. views: rendered and evaluated in each scene. seeds, frames,
    size (width, height): of simulated layouts. settings: by dotted name, override the defaults.
    """

    radiance_steps: int
    language_steps: int
    convergence: tuple[int, ...]
    views: int
    seeds: tuple[int, ...]
    frames: int
    size: tuple[int, int]
    methods: tuple[str, ...] = METHODS
    settings: Mapping[str, object] = field(default_factory=dict)


EFFORTS = {
    # One small layout; about a minute on two cores.
    'quick': Effort(250, 200, (), 1, (0,), 24, (320, 240), ('lerf', 'fusion'),
                    {'index.max_points': 8000, 'index.rays': 40000}),
    # Six layouts; with one encoder 70 minutes on two cores that had other work as well.
    'cpu': Effort(1000, 1000, (250, 500), 2, tuple(range(6)), 48, (640, 480), METHODS,
                  {'training.language_rays': 512}),
    'full': Effort(6000, 6000, (1000, 2000), 3, tuple(range(6)), 48, (640, 480)),
}


# The 80 classes of the COCO detection task.
COCO_NAMES: tuple[str, ...] = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog',
    'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich',
    'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch',
    'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote',
    'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
    'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
)

# Rarer and more specific things in kitchens, offices, workshops, gardens and streets.
LONG_TAIL_NAMES: tuple[str, ...] = (
    'accordion', 'alarm clock', 'anchor', 'baking tray', 'balance scale', 'ballpoint pen',
    'bamboo steamer', 'beehive', 'birdcage', 'bonsai tree', 'bow tie', 'bread knife', 'bucket',
    'cactus in a pot', 'calculator', 'candle holder', 'can of paint', 'canoe paddle',
    'cardboard box', 'cello', 'cheese grater', 'chess piece', 'chisel', 'christmas wreath',
    'cinnamon stick', 'claw hammer', 'clothes hanger', 'coconut', 'coffee grinder', 'compass',
    'concrete mixer', 'corkscrew', 'cotton swab', 'crossbow', 'crystal ball', 'cuckoo clock',
    'deck of cards', 'desk fan', 'dish sponge', 'doorbell', 'drum kit', 'dustpan', 'egg timer',
    'electric drill', 'feather duster', 'fire extinguisher', 'fishing rod', 'flashlight', 'flute',
    'folding ladder', 'garden hose', 'gas mask', 'globe', 'golf club', 'grandfather clock',
    'hammock', 'hand saw', 'harmonica', 'harp', 'hearing aid', 'horseshoe', 'hourglass',
    'ice cream cone', 'inkwell', 'iron for clothes', 'jar of honey', 'jigsaw puzzle',
    'juggling pin', 'key ring', 'knitting needles', 'lantern', 'lawn mower', 'lemon squeezer',
    'lipstick', 'magnifying glass', 'measuring tape', 'metronome', 'microscope', 'music box',
    'nail clipper', 'newspaper', 'nutcracker', 'oil lamp', 'origami crane', 'padlock',
    'paint roller', 'paper lantern', 'parachute', 'pencil sharpener', 'perfume bottle',
    'pine cone', 'pinwheel', 'pocket watch', 'pressure cooker', 'rolling pin', 'rubber duck',
    'saxophone', 'sewing machine', 'shower head', 'snow globe', 'soap dispenser', 'spinning top',
    'stapler', 'stethoscope', 'sundial', 'telescope', 'thermometer', 'totem pole', 'trumpet',
    'typewriter', 'tyre swing', 'violin', 'walking stick', 'watering can', 'weather vane',
    'whisk', 'wind chime', 'wok', 'xylophone', 'yarn ball',
)

EVERYDAY_NAMES: tuple[str, ...] = COCO_NAMES + LONG_TAIL_NAMES


def write(results: EvalResults, folder: str | Path) -> list[Path]:
    """Writes results.json, table.md and a plot of each kind per encoder; returns the files.

    Creates the folder. Raises LerfError without matplotlib, after JSON and tables were written.
    """
    from lerf_ros.evaluation.plots import plot_convergence, plot_precision_recall
    from lerf_ros.evaluation.records import plain
    from lerf_ros.evaluation.tables import comparisons, markdown, row_json, table_rows
    from lerf_ros.storage.output_folder import OutputFolder

    folder = Path(folder)
    rows, compared = table_rows(results), comparisons(results)
    write_json({'rows': [row_json(row) for row in rows], 'comparisons': plain(compared),
                **results.to_json()}, folder)
    with OutputFolder(folder).file('table.md') as path:
        path.write_text(markdown(results, rows, compared), encoding='utf-8')
    return [folder / 'results.json', folder / 'table.md',
            *plot_precision_recall(results.phrases, folder),
            *plot_convergence(results.convergence, folder)]


def write_json(content: Mapping[str, object], folder: str | Path) -> None:
    """Writes results.json."""
    from lerf_ros.storage.output_folder import OutputFolder
    with OutputFolder(folder).file('results.json') as path:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + '\n')


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declares the command."""
    parser = commands.add_parser('eval', help='measure localization, existence and extents')
    parser.add_argument('folders', nargs='*', type=Path, metavar='FOLDER',
                        help='nerfstudio folders with labels; without one: simulated layouts')
    parser.add_argument('--labels', type=Path,
                        help='label files of the folders (default: labels/ in each, or the '
                        'objects of its transforms.json); LERF-OVS, or LERF with keyframes.json')
    parser.add_argument('--mask', help='image that is black where the robot shows in every image')
    parser.add_argument('--max-side', type=int, default=0,
                        help='shrink images to this longer side in pixels; 0 keeps them')
    parser.add_argument('--seeds', type=int, nargs='*',
                        help='simulated layouts (without a folder: as the effort says)')
    parser.add_argument('--frames', type=int, help='frames of a simulated layout')
    parser.add_argument('--size', type=int, nargs=2, metavar=('W', 'H'),
                        help='pixels of a simulated image')
    parser.add_argument('--encoders', nargs='+', default=['conse'], help='what is compared')
    parser.add_argument('--methods', nargs='+',
                        choices=(*METHODS, *RIVALS), metavar='METHOD',
                        help=f'{", ".join(METHODS)}; on request {", ".join(RIVALS)}')
    parser.add_argument('--variants', metavar='scales=1,2,4', default='',
                        help='LERF with so many of the levels of features.widths, beside the '
                        'methods: whether an encoder needs a pyramid')
    parser.add_argument('--effort', choices=tuple(EFFORTS), default='cpu',
                        help='how long is trained')
    parser.add_argument('--jobs', type=int, default=1, help='scenes judged side by side')
    parser.add_argument('--out', type=Path, default=Path('out/eval'), help='folder for the results')
    return parser


def run(arguments: argparse.Namespace, config: LerfConfig) -> int:
    """Evaluates all scenes, stores the records after each, and writes the report at the end."""
    from lerf_ros.evaluation import plots
    from lerf_ros.storage.output_folder import OutputFolder

    take_folders(arguments)
    config = settings(arguments, config)
    OutputFolder(arguments.out).claim(arguments.folders)    # before hours are spent
    make_plan(arguments, config)
    plots.new_figure('', 1)   # reports a missing matplotlib now instead of after an hour
    parts, start = [], time.monotonic()
    for part in each_scene(arguments, config):
        parts.append(part)
        results = joined(parts, {
            'effort': arguments.effort, 'processor': platform.machine(), 'jobs': arguments.jobs,
            'seconds': round(time.monotonic() - start)})
        write_json(results.to_json(), arguments.out)    # so that nothing is lost on the way
    write(results, arguments.out)
    print((arguments.out / 'table.md').read_text(encoding='utf-8'))
    for line in results.info['left out']:
        print(f'left out: {line}')
    return 0


def take_folders(arguments: argparse.Namespace) -> None:
    """Counts folders that stand behind the encoders as folders to judge, as they were meant."""
    meant = [name for name in arguments.encoders if Path(name).is_dir()]
    arguments.folders = [*arguments.folders, *map(Path, meant)]
    arguments.encoders = [name for name in arguments.encoders if name not in meant] or ['conse']


def settings(arguments: argparse.Namespace, config: LerfConfig) -> LerfConfig:
    """Returns the configuration of an evaluation, in which --set overrides the effort."""
    from lerf_ros.config import LerfConfig
    from lerf_ros.settings import flat_fields
    defaults = {name: value for name, _, value in flat_fields(LerfConfig())}
    given = {name for name, _, value in flat_fields(config) if value != defaults[name]}
    effort = {name: value for name, value in EFFORTS[arguments.effort].settings.items()
              if name not in given}
    # All frames are there from the start: none counts as newest, and training never pauses.
    return config.override({'training.settle_steps': 0, 'training.newest_fraction': 0.0, **effort})


def each_scene(arguments: argparse.Namespace, config: LerfConfig) -> Iterator[EvalResults]:
    """Yields the results of each scene, in order; uses several processes with --jobs."""
    makers = scenes(arguments)
    if arguments.jobs == 1:
        yield from (run_one(make, arguments, config) for make in makers)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(arguments.jobs, context, share_cores, (arguments.jobs,)) as pool:
        yield from pool.map(run_one, makers, repeat(arguments), repeat(config))


def share_cores(jobs: int) -> None:
    """Limits the threads of one process of several: small networks gain little from more."""
    import torch
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    torch.set_num_threads(max((os.cpu_count() or 1) // jobs, 1))


def run_one(make: Callable[[], EvalScene], arguments: argparse.Namespace,
            config: LerfConfig) -> EvalResults:
    """Creates a scene and evaluates everything on it."""
    from lerf_ros.evaluation.experiment import run_scene
    from lerf_ros.evaluation.scene_encoders import make_encoders
    encoders = make_encoders(arguments.encoders, config)
    return run_scene(make(), encoders, make_plan(arguments, config), config, arguments.out)


def joined(parts: Sequence[EvalResults], info: dict[str, object]) -> EvalResults:
    """Joins the records of several scenes."""
    from lerf_ros.evaluation.records import EvalResults
    return EvalResults([r for part in parts for r in part.objects],
                       [r for part in parts for r in part.phrases],
                       [r for part in parts for r in part.convergence],
                       {**info, 'left out': sorted({line for part in parts
                                                    for line in part.info['left out']})})


def make_plan(arguments: argparse.Namespace, config: LerfConfig) -> EvalPlan:
    """Returns what to run, from the command line."""
    from lerf_ros.evaluation.experiment import EvalPlan
    from lerf_ros.evaluation.owl_vit import OwlVitDetector
    from lerf_ros.evaluation.variants import parse_variants
    from lerf_ros.training.devices import choose_device
    effort = EFFORTS[arguments.effort]
    device = choose_device(config.training.device)
    methods = (*methods_of(arguments.methods, effort, config.index.look_views > 0),
               *(parse_variants(arguments.variants) if arguments.variants else ()))
    return EvalPlan(methods, effort.radiance_steps,
                    effort.language_steps, effort.convergence, effort.views, EVERYDAY_NAMES,
                    device, partial(OwlVitDetector, device=str(device)))


def methods_of(asked: Sequence[str] | None, effort: Effort, looks: bool) -> list[str]:
    """Returns the methods that were asked for, or those of the effort.

    Raises ConfigError for the one that differs from lerf by second looks alone, if there are none.
    """
    from lerf_ros.errors import ConfigError
    if asked and not looks and FIELD_ALONE in asked:
        raise ConfigError(f'--methods {FIELD_ALONE}: second looks are off (index.look_views=0): '
                          'leave one of the two out')
    return [method for method in asked or effort.methods if looks or method != FIELD_ALONE]


def scenes(arguments: argparse.Namespace) -> list[Callable[[], EvalScene]]:
    """Returns functions that create the scenes, so that each process holds one at a time."""
    from lerf_ros.evaluation.folder_scenes import folder_scene
    from lerf_ros.evaluation.scenes import simulated_scene
    effort, seeds = EFFORTS[arguments.effort], arguments.seeds
    if seeds is None:
        seeds = () if arguments.folders else effort.seeds
    return [*(partial(folder_scene, folder, arguments.labels, arguments.mask, arguments.max_side)
              for folder in arguments.folders),
            *(partial(simulated_scene, seed, arguments.frames or effort.frames,
                      tuple(arguments.size or effort.size)) for seed in seeds)]
