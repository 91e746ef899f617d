# SPDX-License-Identifier: Apache-2.0
"""Measures whether the query node's memory grows with queries, or with loaded snapshots.

    python bench/query_memory.py [--rounds 10] [--queries 200] [--snapshots 40]

A query node as a process of its own on a made-up map (made_up_map.py). In each round it answers
queries, and then loads snapshots one after another, all of one size, or with `--vary` each a little
smaller than the one before, as those of a map in training differ: what grows is kept by mistake.
Writes OUT/query_memory.json: resident memory after each half of each round, anonymous and of mapped
files, and the growth for each query and for each snapshot over the second half.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from live_rig import FAST
from made_up_map import write_made_up_map
from query_latency import PHRASES, Asker

from lerf_ros.processes import isolate_ros, node_command
from lerf_ros.storage.map_directory import MapDirectory

POINTS = FAST['index.rays']     # as in the soak test
REFRESH_S = 0.05
PATIENCE_S = 30.0
KINDS = {'anonymous': 'RssAnon', 'files': 'RssFile', 'shared': 'RssShmem'}


def memory_kb(pid: int) -> dict[str, int]:
    """Returns the resident memory of a process by kind, KiB."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    values = {line.split(':')[0]: line.split()[1] for line in lines if line.startswith('Rss')}
    return {name: int(values[key]) for name, key in KINDS.items()}


def answer_many(asker: Asker, count: int) -> None:
    """Sends queries one after another, every tenth with the cloud in the response."""
    for i in range(count):
        _, response = asker.call(text=PHRASES[i % len(PHRASES)], return_cloud=i % 10 == 0)
        if not response.success:
            raise RuntimeError(response.message)


def smaller(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns an index (LanguageIndex.arrays) without its last three points."""
    points = len(arrays['points_world'])
    return {name: np.ascontiguousarray(v[:, :-3] if name == 'codes' else v[:-3])
            if points in v.shape[:2] else v for name, v in arrays.items()}


def load_many(asker: Asker, directory: MapDirectory, count: int, vary: bool) -> None:
    """Writes copies of the newest snapshot, maybe smaller, and waits until each one answers."""
    newest = directory.newest()
    assert newest is not None
    info = {k: v for k, v in newest.info.items() if k not in ('files', 'checksum')}
    arrays = newest.arrays('index')
    for _ in range(count):
        stamp_ns = time.time_ns()
        arrays = smaller(arrays) if vary else arrays
        directory.write_snapshot({'index': arrays}, {**info, 'stamp_ns': stamp_ns}, keep=2)
        end = time.monotonic() + PATIENCE_S
        while True:
            stamp = asker.call(text=PHRASES[0])[1].snapshot_stamp
            if stamp.sec * 10**9 + stamp.nanosec == stamp_ns:
                break
            if time.monotonic() > end:
                raise TimeoutError('a new snapshot does not answer')
            time.sleep(REFRESH_S)


def measure(directory: MapDirectory, rounds: int, queries: int, snapshots: int,
            arena_max: int, vary: bool) -> dict[str, Any]:
    """Starts the node, keeps it busy, and returns what grew."""
    extra = {'MALLOC_ARENA_MAX': str(arena_max)} if arena_max else {}
    node = subprocess.Popen(
        node_command('query_node', ['-p', f"map_directory:='{directory.path.absolute()}'",
                                    '-p', f'refresh_period:={REFRESH_S}']),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **extra})
    asker, rows = Asker(), []
    try:
        asker.wait()
        for _ in range(rounds):
            before = memory_kb(node.pid)
            answer_many(asker, queries)
            asked = memory_kb(node.pid)
            load_many(asker, directory, snapshots, vary)
            rows.append([before, asked, memory_kb(node.pid)])
            print({k: round(v / 1024, 1) for k, v in rows[-1][2].items()}, flush=True)
    finally:
        asker.close()
        node.terminate()
        node.wait(30)
    return {'rounds': rounds, 'queries_per_round': queries, 'snapshots_per_round': snapshots,
            'varied': vary, 'malloc_arena_max': arena_max or 'default',
            **growth(rows, queries, snapshots), 'rounds_kb': rows}


def growth(rows: list[list[dict[str, int]]], queries: int, snapshots: int) -> dict[str, Any]:
    """Returns KiB for each query and snapshot, by kind, over the second half of the rounds."""
    late = rows[len(rows) // 2:]
    table = np.array([[[at[kind] for kind in KINDS] for at in row] for row in late], float)
    steps = np.diff(table, axis=1).mean(0)
    return {name: dict(zip(KINDS, (steps[i] / max(count, 1)).round(3).tolist(), strict=True))
            for i, (name, count) in enumerate((('kb_per_query', queries),
                                               ('kb_per_snapshot', snapshots)))}


def main() -> None:
    """Runs the test and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--queries', type=int, default=200)
    parser.add_argument('--snapshots', type=int, default=40)
    parser.add_argument('--points', type=int, default=POINTS)
    parser.add_argument('--vary', action='store_true', help='snapshots of different sizes')
    parser.add_argument('--arena-max', type=int, default=0, help='MALLOC_ARENA_MAX of the node')
    parser.add_argument('--out', type=Path, default=Path('out/bench/query_memory.json'))
    arguments = parser.parse_args()
    isolate_ros()
    with tempfile.TemporaryDirectory() as folder:
        path = write_made_up_map(Path(folder) / 'map', arguments.points, PHRASES)
        result = measure(MapDirectory(path, metric=True), arguments.rounds, arguments.queries,
                         arguments.snapshots, arguments.arena_max, arguments.vary)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1))
    print(json.dumps({k: v for k, v in result.items() if k != 'rounds_kb'}, indent=1))


if __name__ == '__main__':
    main()
