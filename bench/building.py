# SPDX-License-Identifier: Apache-2.0
"""Maps a hall or an apartment in driving order, and asks for all that stands in it.

    python bench/building.py --tables 12 --each 700 1000
    python bench/building.py --world apartment --rooms 6 --drift 0.3

The robot drives along one side of a row of tables and back along the other, or through all rooms
(simulation/driven_world.py); every --every metres a keyframe is taken, followed by --steps training
steps, as when it drives without stopping. With --drift its poses are off more and more, until a
loop closure at the end corrects them. Then it rests, and each submap trains until it has taken
--each steps; after each number of them the map is asked. The encoder is the oracle
(oracle_encoder.py): what is missed is the fault of the map. building_answers.py tells what counts
as found. OUT/building.json holds the newest counts, and a row for each table or room in the order
in which they were passed; OUT/NAME_from_above.png the map with the hits of several phrases;
OUT/building_memory.json the memory over time, with a plot where matplotlib is there. Ctrl-C or
SIGTERM ends the mapping early; what was mapped is written and asked.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from asked_places import box_of
from building_answers import counts, draw_from_above, median, of_places
from evaluate import SETTINGS as ORACLE
from memory_log import MemoryLog
from oracle_encoder import OracleEncoder, crop_encoder, no_label
from simulated_maps import SETTINGS, Capture, make_mapper

from lerf_ros.commands.options import overrides
from lerf_ros.commands.train import StopRequest
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.sentence import SentenceEncoder
from lerf_ros.frames.frame import Frame
from lerf_ros.index.second_look import SecondLooker
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.query.request import QueryRequest
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.corridor import SPEED
from lerf_ros.simulation.driven_world import KINDS, DrivenWorld, drift, driven_world
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.scene import label_names
from lerf_ros.simulation.sensor import IMAGE_NOISE, StereoDepth, noisy_image, sensor_camera
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.submap_query import SubmapQuery

SIZE = (320, 240)       # pixels
SLICE_S = 30.0
TOLD_EVERY = 10         # keyframes


@dataclass(frozen=True)
class Drive:
    """A drive through a world. count: its tables or rooms. every: metres between two keyframes.

    drift: how fast poses become wrong, 1 for 1 m and 5 degrees in 30 m. size: width and height of
    the images, pixels.
    """

    kind: str
    seed: int
    count: int
    every: float
    drift: float = 0.0
    size: tuple[int, int] = SIZE

    def world(self) -> DrivenWorld:
        """Draws the world."""
        return driven_world(self.kind, self.seed, self.count)

    def ways(self, world: DrivenWorld) -> np.ndarray:
        """The metres driven until each keyframe (F,)."""
        return np.arange(0.0, world.length, self.every)

    def file(self, cache: Path) -> Path:
        """Returns where rendered frames are kept."""
        width, height = self.size
        return cache / f'{self.kind}{self.seed}_{self.count}_{self.every:g}m_{width}x{height}.npz'


def render(drive: Drive, file: Path) -> None:
    """Renders the drive into a file."""
    world = drive.world()
    renderer, rng = SceneRenderer(world.scene), np.random.default_rng([drive.seed, 26])
    camera = sensor_camera(*drive.size)
    views = [renderer.render(camera, world.path(way)) for way in drive.ways(world)]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f'.partial_{file.name}')
    np.savez(partial, images=np.stack([noisy_image(v.image, IMAGE_NOISE, rng) for v in views]),
             depths_m=np.stack([StereoDepth().measure(v.depth_m, rng) for v in views]),
             labels=np.stack([v.labels for v in views]).astype(np.uint16))
    partial.replace(file)


def captured(drive: Drive, world: DrivenWorld, cache: Path) -> Capture:
    """Returns what the robot sees, rendered by another process or from the cache."""
    file = drive.file(cache)
    if not file.exists():
        # The renderer's memory must not count as the mapper's.
        work = multiprocessing.get_context('spawn').Process(target=render, args=(drive, file))
        work.start()
        work.join()
    camera, ways = sensor_camera(*drive.size), drive.ways(world)
    with np.load(file) as stored:
        images, depths, labels = (stored[name] for name in ('images', 'depths_m', 'labels'))
    frames = tuple(Frame(int(way / SPEED * 1e9), image, camera, world.path(way), depth)
                   for way, image, depth in zip(ways, images, depths, strict=True))
    return Capture(frames, tuple(mask.astype(np.int32) for mask in labels),
                   label_names(world.scene))


class OracleSubmaps(SubmapMapper):
    """Submaps whose second looks read the label masks of a capture, as those of one map do."""

    capture: Capture

    def opened(self, number: int) -> SingleMap:
        """Returns the mapper of a submap, with second looks that the oracle can take."""
        opened_before = number in self.active
        mapper = super().opened(number)
        if not opened_before:
            assert isinstance(self.encoder, OracleEncoder)
            mapper.looks.looker = SecondLooker(
                crop_encoder(self.encoder, self.capture.names),
                lambda index: (self.capture.labels[index], None), self.config.index, no_label)
        return mapper


class Mapping:
    """A drive that is mapped, and the training after it."""

    def __init__(self, capture: Capture, target: Path, config: LerfConfig) -> None:
        """Begins the map in a folder, in the place of what is there."""
        shutil.rmtree(target, ignore_errors=True)
        self.capture, self.start = capture, time.monotonic()
        self.taken = self.driven = 0
        self.trains = config.training.field == 'lerf'
        self.processor = time.process_time()
        self.mapper: Mapper | SubmapMapper = make_mapper('oracle', capture, target, config)
        if config.submaps.use:
            each = self.mapper
            shutil.rmtree(target, ignore_errors=True)
            submaps = OracleSubmaps(each.config, target, each.encoder, 'map', metric=True)
            submaps.extractor, submaps.capture = each.extractor, capture
            self.mapper = submaps

    def drive(self, steps: int, off: np.ndarray, stop: StopRequest) -> None:
        """Takes the frames in their order, with `steps` training steps after each.

        off (F, 4, 4): how far the pose of each is off; at the end all of them are corrected.
        """
        for k, frame in enumerate(self.capture.frames):
            if stop.asked:
                break
            self.taken = k + 1
            self.mapper.add_frame(replace(frame, T_world_camera=off[k] @ frame.T_world_camera))
            if self.mapper.ready and self.trains:
                self.mapper.train_for(math.inf, self.mapper.steps + steps)
            if not k % TOLD_EVERY:
                print(f'{k} of {len(self.capture.frames)} keyframes, {self}', flush=True)
        self.driven = self.mapper.steps
        if (off != np.eye(4)).any():
            self.mapper.move_keyframes({k: frame.T_world_camera for k, frame in
                                        enumerate(self.capture.frames[:self.taken])})

    def rest(self, each: int, rest_s: float, stop: StopRequest) -> None:
        """Trains until every submap has taken so many steps, for rest_s seconds at most."""
        mapper, end = self.mapper, time.monotonic() + rest_s
        last = each * (mapper.count if isinstance(mapper, SubmapMapper) else 1)
        if isinstance(mapper, SubmapMapper) and self.trains:
            mapper.share_out(last)
        while self.trains and (left := end - time.monotonic()) > 0 and mapper.steps < last \
                and not mapper.settled and not stop.asked:
            mapper.train_for(min(left, SLICE_S), last)
            print(f'at rest, {self}', flush=True)

    def __str__(self) -> str:
        return f'{self.mapper.steps} steps in {time.monotonic() - self.start:.0f} s'

    def told(self) -> dict[str, Any]:
        """Writes the map, and returns what it took until now."""
        self.mapper.snapshot()
        mapper = self.mapper
        return {'keyframes': self.taken, 'steps': mapper.steps,
                'steps_while_driving': self.driven,
                'submaps': mapper.count if isinstance(mapper, SubmapMapper) else 1,
                'mapping_s': time.monotonic() - self.start,
                'mapping_cpu_s': time.process_time() - self.processor}


def measure(drive: Drive, world: DrivenWorld, target: Path) -> dict[str, Any]:
    """Asks the map for all objects and for what is not there; returns the counts and all rows."""
    query = opened(target)
    found = counts(query, world)
    on_disk = sum(file.stat().st_size for file in target.rglob('*') if file.is_file())
    draw_from_above(query, world, target.parents[1] / f'{target.name}_from_above.png')
    return {'world': world.name, 'area_m2': world.area_m2, 'drift': drive.drift,
            'image': list(drive.size), 'every_m': drive.every, **found,
            'mb_per_m2': on_disk / 2 ** 20 / world.area_m2, 'loop_closure_error_m': None,
            f'{KINDS[drive.kind]}s': of_places(found['rows'])}


def opened(target: Path) -> SubmapQuery:
    """Returns what asks a map of the oracle."""
    query = SubmapQuery(target, encoder=OracleEncoder(SentenceEncoder()))
    query.refresh()
    return query


def close_loop(config: LerfConfig, world: DrivenWorld, target: Path,
               rows: list[dict[str, Any]]) -> float | None:
    """Returns how far things are off, metres in the median, once a loop closure moved all poses.

    All keyframes move by the `drift` of the x at which they were taken, and what stands there with
    them. Of the things that were found before; the move is undone.
    """
    mapper = SubmapMapper(config, target, OracleEncoder(SentenceEncoder()), 'map', True)
    mapper.move_keyframes({p.index: drift(p.T_world_camera[0, 3]) @ p.T_world_camera
                           for p in mapper.placed()})
    query = opened(target)
    off = []
    for thing, row in zip(world.scene.objects, rows, strict=True):
        if row['right'] and (hits := query.ask(QueryRequest(thing.query, plan_grasps=False)).hits):
            T, center = drift(box_of(thing).center[0]), box_of(thing).center
            off.append(float(np.linalg.norm(
                hits[0].position - (T[:3, :3] @ center + T[:3, 3]))))
    mapper.undo_move()
    return median(off)


def write(out: Path, result: dict[str, Any]) -> None:
    """Writes building.json as a whole, so that a kill leaves the one before."""
    partial = out / '.building.json'
    partial.write_text(json.dumps(result, indent=1))
    partial.replace(out / 'building.json')


def short(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a result without its row for each object."""
    return {name: value for name, value in result.items() if name not in ('rows', 'stages')}


def report(drive: Drive, config: LerfConfig, out: Path, target: Path,
           mapped: dict[str, Any]) -> None:
    """Asks the map, and writes and prints the result, with those of earlier stages of this map."""
    world, file = drive.world(), out / 'building.json'
    result = {**measure(drive, world, target), **mapped}
    result['stages'] = json.loads(file.read_text())['stages'] if mapped.get('stage') else []
    write(out, result)
    if config.submaps.use:
        result['loop_closure_error_m'] = close_loop(config, world, target, result['rows'])
    result['stages'].append(short(result))
    write(out, result)
    print(json.dumps(short(result), indent=1), flush=True)


def map_and_report(drive: Drive, config: LerfConfig, target: Path, a: argparse.Namespace) -> None:
    """Maps the drive and asks the map after it and after each number of steps at rest."""
    world = drive.world()
    mapping = Mapping(captured(drive, world, a.out / 'frames'), target, config)
    off = np.stack([drift(drive.drift * way) for way in drive.ways(world)])
    with MemoryLog() as log, StopRequest() as stop:
        log.phase = 'drive'
        mapping.drive(a.steps, off, stop)
        for stage, each in enumerate(a.each or [0]):
            log.phase = 'rest'
            mapping.rest(each, a.rest, stop)
            mapped = {**mapping.told(), 'stage': stage, 'peak_mb': log.peak_mb('drive'),
                      'peak_mb_at_rest': log.peak_mb('rest')}
            log.phase = 'ask'
            report(drive, config, a.out, target, mapped)
            log.write(a.out / 'building_memory')
            if stop.asked:
                break


def parsed() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--world', default='corridor', choices=tuple(KINDS))
    parser.add_argument('--tables', type=int, default=12, help='of the corridor')
    parser.add_argument('--rooms', type=int, default=6, help='of the apartment')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--every', type=float, default=0.3, help='metres between two keyframes')
    parser.add_argument('--image', type=int, nargs=2, default=SIZE, metavar=('WIDTH', 'HEIGHT'),
                        help='pixels (default: 320 240)')
    parser.add_argument('--drift', type=float, default=0.0, metavar='FACTOR',
                        help='poses become wrong by so many times 1 m and 5 degrees in 30 m')
    parser.add_argument('--steps', type=int, default=25, help='training steps for each of them')
    parser.add_argument('--each', type=int, nargs='*', metavar='STEPS', default=[1000],
                        help='training steps of each submap in all, which are caught up with '
                        'after the drive; the map is asked after each number')
    parser.add_argument('--rest', type=float, default=math.inf, metavar='SECONDS',
                        help='for that, at most')
    parser.add_argument('--single', action='store_true', help='map all into one scene frame')
    parser.add_argument('--set', nargs='*', default=[])
    parser.add_argument('--ask', action='store_true', help='ask the map that is there')
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    return parser.parse_args()


def main() -> None:
    a = parsed()
    count = a.tables if a.world == 'corridor' else a.rooms
    drive = Drive(a.world, a.seed, count, a.every, a.drift, tuple(a.image))
    target = a.out / 'building' / f'{a.world}{a.seed}_{count}'
    config = LerfConfig().override({
        **ORACLE, **SETTINGS, 'submaps.use': not a.single, **overrides(a.set)})
    if a.ask:
        report(drive, config, a.out, target, {})
    else:
        map_and_report(drive, config, target, a)


if __name__ == '__main__':
    run_quietly(main)
