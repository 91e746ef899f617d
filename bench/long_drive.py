# SPDX-License-Identifier: Apache-2.0
"""Drives through a large building for an hour, with kill -9 on the way; then asks for all things.

    python bench/long_drive.py [--rooms 50] [--minutes 60] [--kills 10] [--set training.field=lerf]

Mapper and query node are real processes, restarted at once as a launch file would; the robot
publishes RGB-D images with their poses along its way through all rooms, at --speed metres a
second, there and back again, and questions are asked all the while. After each kill every keyframe
that lerf/status had counted must be on the disk with its checksums. When the robot stands, the map
has as long as it wants to settle; then each thing is asked for in its room. OUT/long_drive.json
holds what came of it, and the memory of all processes over time; OUT/long_drive.png is its plot.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from building_answers import ABSENT, asked, is_at, median
from live_rig import PHRASES, Reel, Rig, wait_until
from memory_log import MB, resident
from soak import heap_mb

from lerf_ros.commands.options import overrides
from lerf_ros.errors import LerfError
from lerf_ros.geometry.region import Region
from lerf_ros.msg import FieldStatus
from lerf_ros.query.answer import Presence
from lerf_ros.query.request import QueryRequest
from lerf_ros.simulation.driven_world import DrivenWorld, driven_world
from lerf_ros.simulation.objects import draw_absent
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.sensor import IMAGE_NOISE, StereoDepth, noisy_image, sensor_camera
from lerf_ros.simulation.stage import one_of_each_group
from lerf_ros.storage.submaps import SubmapFolder
from lerf_ros.submap_query import SubmapQuery

SIZE = (320, 240)
EVERY_M = 0.25          # between two images
AROUND_M = 0.3          # of the things in a room, in which each of them is asked for
PERIOD_S = 5.0          # between two questions
SAMPLE_S = 5.0          # between two samples of the memory
PATIENCE_S = 300.0      # for a recovery
SETTLE_S = 600.0        # at most, after the drive
WARM_MIN = 10.0         # minutes after which memory is to stay as it is
TARGETS = ('all', 'mapper_node', 'trainer', 'query_node')
# The settings of a user with two cores; None takes those of the small rig away.
PARAMETERS: dict[str, object] = {
    'submaps.use': True, 'training.field': 'none', 'restart_limit': 1000, 'status_period': 1.0,
    **dict.fromkeys(('training.threads', 'training.rays', 'training.language_rays',
                     'training.settle_steps', 'field.levels', 'field.log2_table',
                     'field.max_resolution', 'field.proposal_log2_table', 'language.log2_table',
                     'index.rays', 'features.widths'))}


def world_of(seed: int, rooms: int) -> DrivenWorld:
    """Draws the building: things of kinds that the offline encoder tells apart."""
    return driven_world('apartment', seed, rooms, one_of_each_group(seed))


def poses_of(world: DrivenWorld) -> list[np.ndarray]:
    """Returns where the camera takes its images."""
    return [world.path(way) for way in np.arange(0.0, world.length, EVERY_M)]


def render(seed: int, rooms: int, share: int, of: int, folder: Path) -> None:
    """Renders one of every `of` views into the files of the folder, which are there."""
    world = world_of(seed, rooms)
    renderer, camera = SceneRenderer(world.scene), sensor_camera(*SIZE)
    images, depths = (np.load(folder / f'{name}.npy', mmap_mode='r+')
                      for name in ('images', 'depths'))
    for k, T in enumerate(poses_of(world)):
        if k % of == share:
            view, rng = renderer.render(camera, T), np.random.default_rng([seed, k])
            images[k] = noisy_image(view.image, IMAGE_NOISE, rng)
            depths[k] = np.rint(1000 * StereoDepth().measure(view.depth_m, rng))
    images.flush()
    depths.flush()


def rendered(seed: int, rooms: int, cache: Path, jobs: int) -> tuple[DrivenWorld, Reel]:
    """Returns the building and what the camera sees in it, mapped from files of the cache."""
    world, folder = world_of(seed, rooms), cache / f'long{seed}_{rooms}'
    poses = poses_of(world)
    if not (folder / 'whole').exists():
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(poses), SIZE[1], SIZE[0])
        for name, kind, tail in (('images', np.uint8, (3,)), ('depths', np.uint16, ())):
            np.lib.format.open_memmap(folder / f'{name}.npy', 'w+', kind, (*shape, *tail)).flush()
        with multiprocessing.get_context('spawn').Pool(jobs) as pool:
            pool.starmap(render, [(seed, rooms, k, jobs, folder) for k in range(jobs)])
        (folder / 'whole').touch()
    images, depths = (np.load(folder / f'{name}.npy', mmap_mode='r')
                      for name in ('images', 'depths'))
    return world, Reel(sensor_camera(*SIZE), poses, images, depths)


@dataclass
class Log:
    """What happened on the way."""

    samples: list[dict[str, float]] = field(default_factory=list)
    kills: list[dict[str, Any]] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    unanswered: int = 0     # questions, while no query node was being restarted
    troubles: list[str] = field(default_factory=list)


def on_disk(folder: Path) -> tuple[int, list[str]]:
    """Returns how many keyframes are on the disk, and what is wrong with any of them."""
    there, wrong = set[int](), []
    for directory in SubmapFolder(folder).directories():
        for index in directory.keyframes.indices():
            try:
                directory.keyframes.verify(index)
                there.add(index)
            except LerfError as error:
                wrong.append(str(error))
    return len(there), wrong


def take_sample(rig: Rig, minute: float) -> dict[str, float]:
    """Returns the memory of the nodes and of the processes they started, MB, and the progress.

    heap: without what is mapped from files, which the system takes back where it needs the room.
    """
    status = rig.status() or FieldStatus()
    memory = {name: sum(map(resident, rig.pids(name))) / MB
              for name in ('mapper_node', 'query_node')}
    heap = sum(heap_mb(pid) for name in memory for pid in rig.pids(name))
    return {'minute': round(minute, 2), **{k: round(v, 1) for k, v in memory.items()},
            'total': round(sum(memory.values()), 1), 'heap': round(heap, 1), 'state': status.state,
            'images': status.images_received, 'refused': status.images_refused,
            'used': status.keyframes_used, 'stored': status.keyframes_stored,
            'forgotten': status.keyframes_forgotten, 'steps': status.steps,
            'psnr': round(float(status.psnr), 2)}


def strike(rig: Rig, target: str, log: Log, minute: float) -> None:
    """Kills processes with SIGKILL, restarts nodes, and checks what must hold afterwards."""
    status = rig.status()
    counted = status.keyframes_stored if status else 0
    names = [name for name in ('mapper_node', 'query_node') if target in (name, 'all')]
    trainer = rig.trainer() if target in ('trainer', 'all') else None
    killed_at = time.monotonic()
    for pid in [*(rig.processes[name].pid for name in names), *([trainer] if trainer else [])]:
        rig.kill(pid)
    for name in names:
        rig.processes[name].wait()
    there, wrong = on_disk(rig.map)
    for name in names:
        rig.start(name)

    def back() -> bool:
        """Returns whether the mapper has what it had, and questions are answered."""
        if target == 'query_node':
            return rig.answers()
        return any(t > killed_at + 0.5 and report.keyframes_stored >= counted and report.state in (
            FieldStatus.MAPPING, FieldStatus.SETTLED)
            for t, report in rig.robot.reports[-100:]) and rig.answers()

    recovered = wait_until(back, PATIENCE_S)
    log.kills.append({'minute': round(minute, 1), 'target': target, 'counted': counted,
                      'on_disk': there, 'lost': max(counted - there, 0), 'damaged': len(wrong),
                      'recovered': recovered,
                      'recovery_s': round(time.monotonic() - killed_at, 1)})
    log.troubles += wrong[:3]
    print(log.kills[-1], flush=True)


def drive(rig: Rig, minutes: float, kills: int, log: Log) -> None:
    """Asks, takes samples and kills until the time is over."""
    rng, start = random.Random(0), time.monotonic()
    due = [60 * minutes * (k + rng.uniform(-0.4, 0.4)) / (kills + 1) for k in range(1, kills + 1)]
    targets = [TARGETS[k % len(TARGETS)] for k in range(kills)]
    sampled = asked_at = -math.inf
    while (now := time.monotonic() - start) < 60 * minutes:
        if due and now >= due[0]:
            due.pop(0)
            strike(rig, targets.pop(0), log, now / 60)
        if now - sampled >= SAMPLE_S:
            log.samples.append(take_sample(rig, now / 60))
            sampled = now
        if now - asked_at >= PERIOD_S:
            asked_at = now
            response, took_s = rig.ask(PHRASES[len(log.latencies_s) % len(PHRASES)], 10.0)
            if response is not None and response.success:
                log.latencies_s.append(took_s)
            elif now > 120:
                log.unanswered += 1
        time.sleep(0.1)


def settle(rig: Rig) -> float:
    """Stops the robot and waits until the map rests; returns the seconds it took."""
    rig.robot.driving, start = False, time.monotonic()
    wait_until(lambda: (status := rig.status()) is not None and status.state ==
               FieldStatus.SETTLED, SETTLE_S)
    return time.monotonic() - start


def rooms_of(world: DrivenWorld) -> Iterator[tuple[int, Region]]:
    """Yields each room with the box around its things."""
    for room in sorted(set(world.places_of)):
        own = [thing for thing, place in zip(world.scene.objects, world.places_of, strict=True)
               if place == room]
        low = np.min([thing.box_min for thing in own], axis=0) - AROUND_M
        high = np.max([thing.box_max for thing in own], axis=0) + AROUND_M
        T = np.eye(4)
        T[:3, 3] = (low + high) / 2
        yield room, Region(T, high - low)


def quality(folder: Path, world: DrivenWorld, seen: int) -> dict[str, Any]:
    """Asks for each thing in its room, the first `seen` rooms, and for what is nowhere."""
    query = SubmapQuery(folder)
    query.refresh()
    rows = []
    for room, region in rooms_of(world):
        for thing, place in zip(world.scene.objects, world.places_of, strict=True):
            if place != room or room >= seen:
                continue
            answer = query.ask(QueryRequest(thing.query, region=region, plan_grasps=False))
            best = answer.hits[0] if answer.hits else None
            center = (thing.box_min + thing.box_max) / 2
            rows.append({'object': thing.query, 'room': room, 'presence': answer.presence.name,
                         'right': best is not None and is_at(best, thing),
                         'hit': best is not None, 'centre_m': None if best is None else float(
                             np.linalg.norm(best.position - center))})
    absent = asked(query, draw_absent(world.scene.seed, ABSENT, world.scene))
    said = [answer.presence for answer, _ in absent.values()]
    return {'objects': len(rows), 'found': sum(row['right'] for row in rows),
            'wrong_place': sum(row['hit'] and not row['right'] for row in rows),
            'false_absent': sum(row['presence'] == Presence.ABSENT.name for row in rows),
            'centre_m_median': median([row['centre_m'] for row in rows if row['right']]),
            'absent_asked': len(said), 'absent_found': said.count(Presence.PRESENT), 'rows': rows}


def report(log: Log, speed: float, settled_s: float) -> dict[str, Any]:
    """Returns the numbers of the drive."""
    minutes = np.array([sample['minute'] for sample in log.samples])
    total = np.array([sample['total'] for sample in log.samples])
    heap = np.array([sample['heap'] for sample in log.samples])
    warm = minutes >= min(WARM_MIN, minutes[-1] / 2)
    p50, p99 = np.percentile(log.latencies_s, (50, 99)) if log.latencies_s else (0.0, 0.0)
    return {'minutes': float(minutes[-1]), 'driven_m': 60 * float(minutes[-1]) * speed,
            'peak_mb': float(total.max()), 'mb_at_10_minutes': float(total[warm][0]),
            'mb_at_the_end': float(total[-1]),
            'mb_per_hour_after_10_minutes': float(np.polyfit(
                minutes[warm], total[warm], 1)[0] * 60),
            'heap_mb_at_10_minutes': float(heap[warm][0]), 'heap_mb_peak': float(heap.max()),
            'heap_mb_per_hour_after_10_minutes': float(np.polyfit(
                minutes[warm], heap[warm], 1)[0] * 60),
            'keyframes': log.samples[-1]['stored'], 'steps': log.samples[-1]['steps'],
            'kills': len(log.kills), 'recovered': sum(kill['recovered'] for kill in log.kills),
            'keyframes_lost': sum(kill['lost'] for kill in log.kills),
            'damaged': sum(kill['damaged'] for kill in log.kills),
            'recovery_s': [kill['recovery_s'] for kill in log.kills],
            'settled_s_after_the_last_image': round(settled_s, 1),
            'questions': len(log.latencies_s), 'unanswered': log.unanswered,
            'latency_ms': {'p50': 1000 * float(p50), 'p99': 1000 * float(p99)},
            'troubles': log.troubles}


def plot(log: Log, file: Path) -> None:
    """Draws the memory over time, with the kills."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout='constrained')
    minutes = [sample['minute'] for sample in log.samples]
    for name, label in (('total', 'all'), ('heap', 'all, without mapped files'),
                        ('mapper_node', 'mapper node and its process'),
                        ('query_node', 'query node')):
        axes.plot(minutes, [sample[name] for sample in log.samples], label=label)
    for kill in log.kills:
        axes.axvline(kill['minute'], color='0.7', linewidth=0.8)
    axes.set(xlabel='minutes (grey: kill -9)', ylabel='resident memory, MB', ylim=(0, None))
    axes.legend(loc='lower right')
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def parsed() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rooms', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--minutes', type=float, default=60.0)
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--speed', type=float, default=0.5, help='metres a second')
    parser.add_argument('--jobs', type=int, default=2, help='processes that render')
    parser.add_argument('--set', nargs='*', default=[])
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    return parser.parse_args()


def main() -> None:
    """Drives, asks, and writes the file; ends with 1 where something was lost."""
    a = parsed()
    world, reel = rendered(a.seed, a.rooms, a.out / 'frames', a.jobs)
    folder, log = Path(tempfile.mkdtemp(prefix='lerf_drive_', dir=a.out)), Log()
    rig = Rig(folder, {**PARAMETERS, **overrides(a.set)}, a.speed / EVERY_M, reel=reel)
    try:
        for name in ('mapper_node', 'query_node'):
            rig.start(name)
        if not wait_until(lambda: rig.status() is not None, 300.0):
            raise SystemExit(f'the mapper says nothing: see {folder}')
        drive(rig, a.minutes, a.kills, log)
        settled_s = settle(rig)
    finally:
        rig.close()
    share = min(60 * a.minutes * a.speed / world.length, 1.0)
    found = quality(rig.map, world, int(share * a.rooms))
    size = sum(file.stat().st_size for file in rig.map.rglob('*') if file.is_file()) / MB
    result = {'world': world.name, 'area_m2': world.area_m2, 'length_m': world.length,
              **report(log, a.speed, settled_s), 'mb_per_m2': size / (world.area_m2 * share),
              **found, 'struck': log.kills, 'series': log.samples}
    (a.out / 'long_drive.json').write_text(json.dumps(result, indent=1))
    plot(log, a.out / 'long_drive.png')
    print(json.dumps({k: v for k, v in result.items() if k not in ('rows', 'series')}, indent=1))
    if result['keyframes_lost'] or result['damaged'] or result['recovered'] < result['kills']:
        raise SystemExit(f'something was lost: see {folder}')
    shutil.rmtree(folder)


if __name__ == '__main__':
    main()
