# SPDX-License-Identifier: Apache-2.0
"""Measures how long a question to a building takes, on made-up submaps (made_up_map.py).

    python bench/building_query.py                  60 submaps of 50,000 points, 1,000 m2
    python bench/building_query.py --full           each submap searched as a whole, as before

Opens the map anew and asks phrases that are there, in some of the submaps, and words that are not.
The first question after opening is told by itself; with --cold the operating system has forgotten
the files of the map before it is opened, and again before that question, but for what is mapped
into memory by then. Writes OUT/building_query.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
from made_up_map import ROOM_M, write_made_up_building

from lerf_ros.query.household import NAMES
from lerf_ros.query.question import Question
from lerf_ros.query.request import QueryRequest
from lerf_ros.storage.submaps import SubmapFolder
from lerf_ros.submap_query import SubmapQuery

THERE, ASKED = 60, 20       # names of things in the building, and how many of them are asked for
CALLS = 100


class Anything:
    """Says of each phrase that it may be as relevant as can be anywhere in a submap."""

    def __init__(self, query: object, question: Question, region: bool) -> None:
        self.most = np.ones(len(question.names))

    def reached(self, floor: float, closely: bool = True) -> np.ndarray:
        """Returns above what no relevancy is, by phrase."""
        return self.most


def forget(folder: Path) -> None:
    """Lets the operating system forget what it holds of the files of a folder."""
    os.sync()
    for file in folder.rglob('*.*'):
        with file.open('rb') as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def milliseconds(query: SubmapQuery, names: list[str], calls: int) -> np.ndarray:
    """Returns how long each of the calls took, and its processor time, (calls, 2)."""
    out = []
    for call in range(calls):
        start, spent = time.perf_counter(), time.process_time()
        query.ask(QueryRequest(names[call % len(names)], plan_grasps=False))
        out.append((time.perf_counter() - start, time.process_time() - spent))
    return 1000 * np.array(out)


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Returns p50 and p99 of both columns; processor time is that of all threads."""
    return {f'{name}p{p}': round(float(np.percentile(values[:, k], p)), 1)
            for k, name in enumerate(('', 'cpu_')) for p in (50, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--submaps', type=int, default=60)
    parser.add_argument('--points', type=int, default=50000)
    parser.add_argument('--calls', type=int, default=CALLS)
    parser.add_argument('--full', action='store_true')
    parser.add_argument('--cold', action='store_true')
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    a = parser.parse_args()
    folder = a.out / 'made_up' / f'building_{a.submaps}_{a.points}'
    names = list(np.random.default_rng(1).permutation(NAMES))
    if not SubmapFolder(folder).exists():
        write_made_up_building(folder, a.submaps, a.points, names[:THERE])
    if a.cold:
        forget(folder)
    if a.full:
        import lerf_ros.submap_query as asking
        asking.__dict__['Ceilings'] = Anything
    start, load = time.perf_counter(), os.getloadavg()[0]
    query = SubmapQuery(folder)
    query.refresh()
    opened = time.perf_counter() - start
    if a.cold:
        forget(folder)
    first = milliseconds(query, names[:1], 1)[0, 0]
    there = milliseconds(query, names[:ASKED], a.calls)
    absent = milliseconds(query, names[THERE:THERE + ASKED], a.calls)
    result = {
        'submaps': a.submaps, 'points': a.submaps * a.points, 'm2': round(a.submaps * ROOM_M ** 2),
        'full': a.full, 'cold': a.cold, 'opened_s': round(opened, 1),
        'first_ms': round(float(first), 1),
        'there_ms': percentiles(there), 'absent_ms': percentiles(absent),
        'hits': float(np.mean([len(query.ask(QueryRequest(name, plan_grasps=False)).hits)
                               for name in names[:ASKED]])),
        'peak_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        'load_average': [load, os.getloadavg()[0]], 'cores': len(os.sched_getaffinity(0))}
    print(json.dumps(result, indent=1))
    (a.out / 'building_query.json').write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
