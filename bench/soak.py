# SPDX-License-Identifier: Apache-2.0
"""Runs mapper and query node for a long time with a looping camera and steady queries.

    python bench/soak.py [--minutes 30] [--out out/bench/soak.json]

Samples the resident memory of all processes, counts queries that were not answered, and writes
minutes, rss_mb_start, rss_mb_end, queries, failures, the slope of the memory over the second half
and the latency of the queries while training went on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from live_rig import PHRASES, Rig, wait_until
from memory_log import MB, resident

SETTINGS = {'keyframes.max_count': 40, 'map.snapshot_interval': 10.0,
            'map.checkpoint_interval': 30.0, 'map.training_state': True}
WARM_UP_S = 120.0       # until the number of keyframes and the buffers are at their limits


def rss_mb(pids: list[int]) -> float:
    """Returns the resident memory of processes, MiB."""
    return sum(map(resident, pids)) / MB


def heap_mb(pid: int) -> float:
    """Returns the resident memory of a process without mapped files, MiB; 0 when it has ended."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith('RssAnon')), 0.0)


def index_mb(rig: Rig) -> float:
    """Returns the size of the newest index, which the query node maps into its memory, MiB."""
    for folder in sorted((rig.map / 'snapshots').glob('[0-9]*'), reverse=True):
        with contextlib.suppress(OSError):      # replaced by a newer one meanwhile
            return (folder / 'index.safetensors').stat().st_size / 2**20
    return 0.0


def sample(rig: Rig) -> dict[str, float]:
    """Returns the current memory of mapper node, its children and query node, and the status."""
    status = rig.status()
    return {'t': time.monotonic(), 'mapper': rss_mb(rig.pids('mapper_node')),
            'query': rss_mb(rig.pids('query_node')),
            'query_heap': heap_mb(rig.processes['query_node'].pid), 'index': index_mb(rig),
            'steps': status.steps if status else 0,
            'state': status.state if status else -1,
            'stored': status.keyframes_stored if status else 0}


def run(rig: Rig, minutes: float, period_s: float) -> dict[str, object]:
    """Asks and takes samples until the time is over."""
    for name in ('mapper_node', 'query_node'):
        rig.start(name)
    if not wait_until(lambda: (r := rig.ask('a mug', 5.0)[0]) is not None and r.success, 600):
        raise SystemExit(f'no answer within ten minutes: see {rig.out}')
    start, samples, latencies, failures = time.monotonic(), [], [], 0
    asked, due = 0, time.monotonic()
    while time.monotonic() - start < 60 * minutes:
        response, took_s = rig.ask(PHRASES[asked % len(PHRASES)], 10.0)
        asked += 1
        failures += response is None or not response.success
        latencies.append(took_s)
        if time.monotonic() >= due:
            samples.append(sample(rig))
            due += 5.0
        time.sleep(period_s)
    restarts = sum(p.poll() is not None for p in rig.processes.values())
    return report(samples, start, np.array(latencies) * 1000, asked, failures, restarts)


def report(samples: list[dict[str, float]], start: float, latency_ms: np.ndarray, asked: int,
           failures: int, ended: int) -> dict[str, object]:
    """Returns the results of the run."""
    t = np.array([s['t'] - start for s in samples]) / 60
    total = np.array([s['mapper'] + s['query'] for s in samples])
    warm = t > min(WARM_UP_S / 60, t[-1] / 2)
    half = t > t[-1] / 2
    late = [s for s, h in zip(samples, half, strict=True) if h]
    slope = {name: float(np.polyfit(t[half], [s[name] for s in late], 1)[0] * 60)
             for name in ('mapper', 'query', 'query_heap', 'index')}
    p50, p95, p99 = np.percentile(latency_ms, (50, 95, 99))
    return {'minutes': round(float(t[-1]), 1), 'rss_mb_start': round(float(total[warm][0]), 1),
            'rss_mb_end': round(float(total[-1]), 1), 'queries': asked, 'failures': int(failures),
            'slope_mb_per_hour_second_half': {k: round(v, 2) for k, v in slope.items()},
            'latency_ms': {'p50': round(float(p50), 1), 'p95': round(float(p95), 1),
                           'p99': round(float(p99), 1)},
            'steps': samples[-1]['steps'], 'keyframes': samples[-1]['stored'],
            'nodes_that_ended': ended, 'warm_up_s': WARM_UP_S,
            'series': [{k: round(v, 1) for k, v in s.items() if k != 't'} | {
                'minute': round(float(m), 2)} for s, m in zip(samples, t, strict=True)]}


def main() -> None:
    """Runs the test and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--rate', type=float, default=1.0, help='images per second')
    parser.add_argument('--period', type=float, default=1.0, help='seconds between queries')
    parser.add_argument('--nice', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('out/bench/soak.json'))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix='lerf_soak_'))
    rig = Rig(folder, SETTINGS, arguments.rate, arguments.nice)
    try:
        result = run(rig, arguments.minutes, arguments.period)
    finally:
        rig.close()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1))
    print({k: v for k, v in result.items() if k != 'series'})
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()
