# SPDX-License-Identifier: Apache-2.0
"""Kills mapper node, training process and query node at random moments; they must recover.

    python bench/kill_test.py [--kills 50] [--out out/bench/kill.json]

Nodes are real processes, restarted at once as a launch file would. Some kills wait for a snapshot
or a save to be under way. After each: every keyframe that lerf/status has counted is on the disk
with its checksums, the newest snapshot and all saved maps are whole, the mapper maps again and the
query node answers. Writes kills, recovered, keyframes_lost, training_lost_s_max and more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from live_rig import Rig, wait_until

from lerf_ros.errors import LerfError
from lerf_ros.msg import FieldStatus
from lerf_ros.srv import SaveMap
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.saved_maps import SavedMaps, verify

INTERVAL_S = 10.0       # map.checkpoint_interval of this test
SETTINGS = {'keyframes.max_count': 1000, 'map.snapshot_interval': 3.0,
            'map.checkpoint_interval': INTERVAL_S, 'restart_limit': 1000}
TARGETS = ('trainer', 'mapper_node', 'query_node', 'all', 'all')
PATIENCE_S = 300.0


@dataclass
class Tally:
    """What happened so far."""

    kills: int = 0
    recovered: int = 0
    keyframes_lost: int = 0
    damaged: int = 0
    counted: int = 0        # keyframes that a status has counted
    lost_s: list[float] = field(default_factory=list)
    recovery_s: list[float] = field(default_factory=list)
    targets: Counter = field(default_factory=Counter)
    moments: Counter = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)


def moment(rig: Rig, rng: random.Random, number: int) -> str:
    """Waits for the moment of the next kill; returns what was in progress."""
    kind = rng.choice(('random', 'random', 'snapshot', 'checkpoint', 'save'))
    if kind == 'random':
        time.sleep(rng.uniform(0.0, 8.0))
        return kind
    if kind == 'save':
        rig.robot.saves.call_async(SaveMap.Request(name=f'save_{number % 3}', overwrite=True))
        folder = rig.saved
    else:
        folder = rig.map / f'{kind}s'
    end, begun = time.monotonic() + 30.0, ('.lerf_ros.partial-', '.lerf_ros.copying-')
    while time.monotonic() < end:
        if folder.is_dir() and any(p.name.startswith(begun) for p in folder.iterdir()):
            time.sleep(rng.uniform(0.0, 0.2))
            return kind
        time.sleep(0.005)
    return f'no {kind} came'


def strike(rig: Rig, target: str) -> int:
    """Kills processes; returns how many."""
    names = [n for n in ('mapper_node', 'query_node') if target in (n, 'all')]
    pids = [rig.processes[name].pid for name in names]
    trainer = rig.trainer() if target in ('trainer', 'all') else None
    pids += [trainer] if trainer else []
    for pid in pids:
        rig.kill(pid)
    for name in names:
        rig.processes[name].wait()
        rig.start(name)
    return len(pids)


def check_disk(rig: Rig, tally: Tally) -> None:
    """Checks that counted keyframes, the newest snapshot and saved maps exist and are intact."""
    directory = MapDirectory(rig.map)
    there = set()
    for index in directory.keyframes.indices():
        with contextlib.suppress(LerfError):
            directory.keyframes.verify(index)
            there.add(index)
    lost = max(tally.counted - len(there), 0)
    if lost:
        tally.troubles.append(f'{lost} of {tally.counted} keyframes are not on the disk')
    tally.keyframes_lost = max(tally.keyframes_lost, lost)
    checks = [('map', lambda: next(directory.complete()).verify())] if directory.newest() else []
    checks += [(name, lambda name=name: verify(MapDirectory(rig.saved / name)))
               for name in SavedMaps(rig.saved).names() if (rig.saved / name).is_dir()]
    for name, check in checks:
        for attempt in range(2):    # a snapshot may be replaced by a newer one meanwhile
            try:
                check()
                break
            except (LerfError, StopIteration) as error:
                if attempt:
                    tally.damaged += 1
                    tally.troubles.append(f'{name}: {error}')


def count(rig: Rig, tally: Tally) -> None:
    """Counts what the reports so far have said."""
    tally.counted = max([tally.counted, *(r.keyframes_stored for _, r in rig.robot.reports)])


def training_lost_s(reports: list[tuple[float, FieldStatus]], killed_at: float,
                    steps: int) -> float:
    """Returns the seconds of training before the kill that were lost."""
    before = [(t, r.steps) for t, r in reports if t <= killed_at and r.steps > 0]
    if not before or before[-1][1] <= steps:
        return 0.0
    kept = [t for t, s in before if s <= steps]
    return killed_at - (kept[-1] if kept else before[0][0])


def round_of_kills(rig: Rig, rng: random.Random, tally: Tally) -> None:
    """Kills processes at one moment, and checks what must hold afterwards."""
    target, when = rng.choice(TARGETS), moment(rig, rng, tally.kills)
    count(rig, tally)
    killed_at, old = time.monotonic(), rig.status()
    killed = strike(rig, target)
    if not killed:
        return
    tally.kills += killed
    tally.targets[target] += killed
    tally.moments[when] += 1
    check_disk(rig, tally)

    def back() -> bool:
        """Waits until the mapper has its old keyframes and trains, and the query node answers."""
        if target == 'query_node':
            return rig.answers()
        new = [r for t, r in rig.robot.reports if t > killed_at + 0.5]
        mapping = [r for r in new if r.state in (FieldStatus.MAPPING, FieldStatus.SETTLED)
                   and r.steps > 0 and r.keyframes_stored >= tally.counted]
        return bool(mapping) and rig.answers()

    if wait_until(back, PATIENCE_S):
        tally.recovered += killed
        tally.recovery_s.append(round(time.monotonic() - killed_at, 1))
    else:
        tally.troubles.append(f'kill {tally.kills} of {target} ({when}): no recovery; the last '
                              f'report says {rig.status() and rig.status().message!r}')
    if target != 'query_node' and old is not None:
        fresh = [r.steps for t, r in rig.robot.reports if t > killed_at and r.steps > 0
                 and r.state in (FieldStatus.MAPPING, FieldStatus.SETTLED)]
        if fresh:
            tally.lost_s.append(round(training_lost_s(rig.robot.reports, killed_at,
                                                      min(fresh)), 1))


def main() -> None:
    """Runs the test and writes the file; returns 1 when something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--rate', type=float, default=1.0, help='images per second')
    parser.add_argument('--out', type=Path, default=Path('out/bench/kill.json'))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix='lerf_kill_'))
    rig, rng, tally = Rig(folder, SETTINGS, arguments.rate), random.Random(arguments.seed), Tally()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for name in ('mapper_node', 'query_node'):
            rig.start(name)
        if not wait_until(rig.answers, 600.0):
            raise SystemExit(f'no answer within ten minutes: see {folder}')
        while tally.kills < arguments.kills:
            round_of_kills(rig, rng, tally)
            arguments.out.write_text(json.dumps(result(tally), indent=1))
            print(f'{tally.kills} kills, {tally.recovered} recovered, counted {tally.counted}, '
                  f'lost {tally.keyframes_lost}, training lost {tally.lost_s[-1:]}', flush=True)
    finally:
        rig.close()
    shutil.rmtree(folder, ignore_errors=True)
    if tally.troubles:
        raise SystemExit('\n'.join(tally.troubles))


def result(tally: Tally) -> dict[str, object]:
    """Returns the content of the file."""
    return {'kills': tally.kills, 'recovered': tally.recovered,
            'keyframes_lost': tally.keyframes_lost,
            'training_lost_s_max': max(tally.lost_s, default=0.0),
            'checkpoint_interval_s': INTERVAL_S, 'keyframes_counted': tally.counted,
            'damaged': tally.damaged, 'killed': dict(tally.targets),
            'moments': dict(tally.moments), 'recovery_s': tally.recovery_s,
            'training_lost_s': tally.lost_s, 'troubles': tally.troubles}


if __name__ == '__main__':
    main()
