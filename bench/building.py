# SPDX-License-Identifier: Apache-2.0
"""Maps a hall with a row of tables in driving order, and asks for all that stands on them.

    python bench/building.py --tables 12 --steps 25 --settle 300
    python bench/building.py --tables 4 --set submaps.most_active=6

The robot drives along one side of the row and back along the other (simulation/corridor.py); every
--every metres a keyframe is taken, followed by --steps training steps, as when it drives without
stopping. Then it rests, and each submap trains until it has settled (--settle). The encoder is the
oracle (oracle_encoder.py): what is missed is the fault of the map. Right: the middle of the best
hit lies in the object's box grown by 3 cm. OUT/building.json holds the counts, and a row for each
table in the order in which they were passed.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from asked_places import box_of
from evaluate import SETTINGS as ORACLE
from oracle_encoder import OracleEncoder
from scipy.spatial.transform import Rotation
from simulated_maps import SETTINGS, Capture, make_mapper

from lerf_ros.asked_map import AskedMap
from lerf_ros.commands.options import overrides
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.conse import SentenceEncoder
from lerf_ros.evaluation.localization import inside_box
from lerf_ros.frames.frame import Frame
from lerf_ros.mapper import Mapper
from lerf_ros.query.answer import Presence
from lerf_ros.query.request import QueryRequest
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.corridor import SPEED, corridor, drive_length, driving_path, hall_size
from lerf_ros.simulation.objects import draw_absent
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.scene import TabletopScene, label_names
from lerf_ros.simulation.sensor import IMAGE_NOISE, StereoDepth, noisy_image, sensor_camera
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.submap_query import SubmapQuery

SIZE = (320, 240)       # pixels
ABSENT = 40             # phrases for what is not there
SLICE_S = 10.0
DRIFT_WAY, DRIFT_DEG = 30.0, 5.0  # metres in which poses drift by 1 m and by this angle


@dataclass(frozen=True)
class Drive:
    """A drive along a row of tables. every: metres from one keyframe to the next."""

    seed: int
    tables: int
    every: float

    @property
    def ways(self) -> np.ndarray:
        """The metres driven until each keyframe (F,)."""
        return np.arange(0.0, drive_length(self.tables), self.every)

    def file(self, cache: Path) -> Path:
        """Returns where rendered frames are kept."""
        return cache / f'corridor{self.seed}_{self.tables}_{self.every:g}m.npz'


def render(drive: Drive, file: Path) -> None:
    """Renders the drive into a file."""
    scene, path = corridor(drive.seed, drive.tables), driving_path(drive.seed, drive.tables)
    renderer, rng = SceneRenderer(scene), np.random.default_rng([drive.seed, 26])
    views = [renderer.render(sensor_camera(*SIZE), path(way)) for way in drive.ways]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f'.partial_{file.name}')
    np.savez(partial, images=np.stack([noisy_image(v.image, IMAGE_NOISE, rng) for v in views]),
             depths_m=np.stack([StereoDepth().measure(v.depth_m, rng) for v in views]),
             labels=np.stack([v.labels for v in views]).astype(np.uint8))
    partial.replace(file)


def captured(drive: Drive, scene: TabletopScene, cache: Path) -> Capture:
    """Returns what the robot sees, rendered by another process or from the cache."""
    file = drive.file(cache)
    if not file.exists():
        # The renderer's memory must not count as the mapper's.
        work = multiprocessing.get_context('spawn').Process(target=render, args=(drive, file))
        work.start()
        work.join()
    path, camera = driving_path(drive.seed, drive.tables), sensor_camera(*SIZE)
    with np.load(file) as stored:
        images, depths, labels = (stored[name] for name in ('images', 'depths_m', 'labels'))
    frames = tuple(Frame(int(way / SPEED * 1e9), image, camera, path(way), depth)
                   for way, image, depth in zip(drive.ways, images, depths, strict=True))
    return Capture(frames, tuple(mask.astype(np.int32) for mask in labels), label_names(scene))


def map_drive(capture: Capture, target: Path, config: LerfConfig, steps: int,
              rest_s: float) -> dict[str, Any]:
    """Maps the frames in their order, `steps` after each, and then until all has settled.

    rest_s: the time for that at most. Returns what it took.
    """
    shutil.rmtree(target, ignore_errors=True)
    start, processor = time.monotonic(), time.process_time()
    mapper: Mapper | SubmapMapper = make_mapper('oracle', capture, target, config)
    if config.submaps.use:
        each = mapper
        shutil.rmtree(target, ignore_errors=True)
        mapper = SubmapMapper(each.config, target, each.encoder, 'map', metric=True)
        mapper.extractor = each.extractor
    for frame in capture.frames:
        mapper.add_frame(frame)
        if mapper.ready:
            mapper.train_for(math.inf, mapper.steps + steps)
    driven = mapper.steps
    end = time.monotonic() + rest_s
    while (left := end - time.monotonic()) > 0 and not mapper.settled:
        mapper.train_for(min(left, SLICE_S))
    mapper.snapshot()
    return {'keyframes': len(capture.frames), 'steps': mapper.steps, 'steps_while_driving': driven,
            'submaps': mapper.count if isinstance(mapper, SubmapMapper) else 1,
            'mapping_s': time.monotonic() - start,
            'mapping_cpu_s': time.process_time() - processor}


def ask_tables(query: AskedMap, scene: TabletopScene,
               tables: int) -> list[dict[str, Any]]:
    """Returns a row for each object: its table, what was said of it, and how exact that was."""
    rows, each = [], len(scene.objects) // tables
    for k, thing in enumerate(scene.objects):
        start = time.perf_counter()
        answer = query.ask(QueryRequest(thing.query, plan_grasps=False))
        row = {'object': thing.query, 'table': k // each, 'presence': answer.presence.name,
               'query_ms': 1000 * (time.perf_counter() - start), 'right': False,
               'said': answer.not_found_reason}
        if answer.hits:
            best = answer.hits[0].position
            row['right'] = bool(inside_box(best, thing.box_min, thing.box_max))
            row['centre_m'] = float(np.linalg.norm(best - box_of(thing).center))
        rows.append(row)
    return rows


def of_tables(rows: list[dict[str, Any]], tables: int) -> list[dict[str, Any]]:
    """Returns what was found on each table, in the order in which they were passed."""
    out = []
    for table in range(tables):
        own = [row for row in rows if row['table'] == table]
        errors = [row['centre_m'] for row in own if row['right']]
        out.append({'table': table, 'objects': len(own), 'found': len(errors),
                    'false_absent': sum(row['presence'] == Presence.ABSENT.name for row in own),
                    'centre_m_median': float(np.median(errors)) if errors else None})
    return out


def measure(drive: Drive, scene: TabletopScene, target: Path) -> dict[str, Any]:
    """Asks the map for all objects and for what is not there; returns the counts and all rows."""
    query = SubmapQuery(target, encoder=OracleEncoder(SentenceEncoder()))
    query.refresh()
    rows = ask_tables(query, scene, drive.tables)
    words = draw_absent(drive.seed, ABSENT, scene)
    said = [query.ask(QueryRequest(word, plan_grasps=False)).presence for word in words]
    errors = [row['centre_m'] for row in rows if row['right']]
    length, width = hall_size(drive.tables)
    on_disk = sum(file.stat().st_size for file in target.rglob('*') if file.is_file())
    return {'world': f'corridor, {drive.tables} tables, seed {drive.seed}', 'objects': len(rows),
            'found': len(errors), 'centre_m_median': float(np.median(errors)) if errors else None,
            'absent_asked': len(words), 'absent_found': said.count(Presence.PRESENT),
            'absent_not_observed': said.count(Presence.NOT_OBSERVED),
            'false_absent': sum(row['presence'] == Presence.ABSENT.name for row in rows),
            'wrong_place': sum(row['presence'] == Presence.PRESENT.name and not row['right']
                               for row in rows),
            'mb_per_m2': on_disk / 2 ** 20 / (length * width),
            'query_p50_ms': float(np.median([row['query_ms'] for row in rows])),
            'loop_closure_error_m': None, 'tables': of_tables(rows, drive.tables), 'rows': rows}


def drift(x: float) -> np.ndarray:
    """Returns how far off (4, 4) poses are at x metres along the row: 1 m and 5 degrees at 30 m."""
    T, share = np.eye(4), x / DRIFT_WAY
    T[:3, :3] = Rotation.from_euler('z', share * DRIFT_DEG, degrees=True).as_matrix()
    T[:3, 3] = share * np.array([0.6, -0.8, 0.0])
    return T


def close_loop(config: LerfConfig, scene: TabletopScene, target: Path,
               rows: list[dict[str, Any]]) -> float:
    """Returns how far things are off, metres in the median, once a loop closure moved all poses.

    All keyframes move by `drift` of where they were taken, and what stands there with them. Of the
    things that were found before; the move is undone.
    """
    mapper = SubmapMapper(config, target, OracleEncoder(SentenceEncoder()), 'map', True)
    mapper.move_keyframes({p.index: drift(p.T_world_camera[0, 3]) @ p.T_world_camera
                           for p in mapper.placed()})
    query = SubmapQuery(target, encoder=mapper.encoder)
    query.refresh()
    off = []
    for thing, row in zip(scene.objects, rows, strict=True):
        if row['right'] and (hits := query.ask(QueryRequest(thing.query, plan_grasps=False)).hits):
            T, center = drift(box_of(thing).center[0]), box_of(thing).center
            off.append(float(np.linalg.norm(
                hits[0].position - (T[:3, :3] @ center + T[:3, 3]))))
    mapper.undo_move()
    return float(np.median(off))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tables', type=int, default=12)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--every', type=float, default=0.3, help='metres between two keyframes')
    parser.add_argument('--steps', type=int, default=25, help='training steps for each of them')
    parser.add_argument('--settle', type=int, default=0, help='training steps after the newest '
                        'keyframe of each submap, which are caught up with after the drive')
    parser.add_argument('--rest', type=float, default=math.inf, metavar='SECONDS',
                        help='for that, at most')
    parser.add_argument('--single', action='store_true', help='map all into one scene frame')
    parser.add_argument('--set', nargs='*', default=[])
    parser.add_argument('--ask', action='store_true', help='ask the map that is there')
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    a = parser.parse_args()
    drive, scene = Drive(a.seed, a.tables, a.every), corridor(a.seed, a.tables)
    target = a.out / 'building' / f'corridor{a.seed}_{a.tables}'
    mapped: dict[str, Any] = {}
    config = LerfConfig().override({
        **ORACLE, **SETTINGS, 'submaps.use': not a.single, 'training.settle_steps': a.settle,
        **overrides(a.set)})
    if not a.ask:
        mapped = map_drive(captured(drive, scene, a.out / 'frames'), target, config, a.steps,
                           a.rest if a.settle else 0.0)
        mapped['peak_mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {**measure(drive, scene, target), **mapped}
    if config.submaps.use:
        result['loop_closure_error_m'] = close_loop(config, scene, target, result['rows'])
    print(json.dumps({k: v for k, v in result.items() if k != 'rows'}, indent=1))
    (a.out / 'building.json').write_text(json.dumps(result, indent=1))


if __name__ == '__main__':
    run_quietly(main)
