# SPDX-License-Identifier: Apache-2.0
"""Configures, activates, deactivates and cleans up both main nodes many times; measures memory.

    python bench/lifecycle_cycles.py [--cycles 200] [--real 0] [--out out/bench/lifecycle.json]

The mapper node gets a process that does nothing, since its models load in a process that ends with
each cycle; `--real N` adds N cycles with the real one, at most so many as `--minutes` allows. The
query node opens a map directory. Writes resident memory before, after and per cycle, the longest of
each transition, and with the real process also how many are left in the end, and file descriptors.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.parameter import Parameter

from lerf_ros.mapping.messages import MapperStatus
from lerf_ros.mapping.supervisor import MapperSupervisor, wait_for_leaving
from lerf_ros.nodes.mapper_node import MapperNode
from lerf_ros.nodes.query_node import QueryNode

PAGE_MB = os.sysconf('SC_PAGE_SIZE') / 2**20
WARM_UP = 20    # cycles until imports and memory pools are complete


class Idle:
    """A mapping process that does nothing."""

    alive = True

    def __init__(self, *_: object) -> None:
        self.pause = self.stop = lambda *_: None

    def start(self) -> None:
        """Does nothing."""

    def status(self) -> MapperStatus:
        """Returns True at once."""
        return MapperStatus(state='waiting')


def rss_mb() -> float:
    """Returns the resident memory of this process, MiB."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * PAGE_MB


def children() -> int:
    """Returns the number of running child processes, without the one of multiprocessing."""
    return len(Path(f'/proc/self/task/{os.getpid()}/children').read_text().split())


def cycle(node: MapperNode | QueryNode, slowest: dict[str, float]) -> None:
    """Runs all four transitions; `slowest` keeps the longest time of each."""
    for name in ('configure', 'activate', 'deactivate', 'cleanup'):
        start = time.monotonic()
        result = getattr(node, f'trigger_{name}')()
        slowest[name] = max(slowest.get(name, 0.0), time.monotonic() - start)
        if result.name != 'SUCCESS':
            raise SystemExit(f'{name} of {node.get_name()}: {node.failure}')


def run(node: MapperNode | QueryNode, cycles: int, minutes: float = 60.0) -> dict[str, Any]:
    """Runs cycles of one node, as many as fit into the time."""
    memory, slowest, open_files = [], {}, []
    end = time.monotonic() + 60 * minutes
    while len(memory) < cycles and time.monotonic() < end:
        cycle(node, slowest)
        memory.append(rss_mb())
        open_files.append(len(list(Path('/proc/self/fd').iterdir())))
    node.destroy_node()
    warm = memory[min(WARM_UP, len(memory) // 2):]
    slope = float(np.polyfit(np.arange(len(warm)), warm, 1)[0]) if len(warm) > 1 else 0.0
    return {'cycles': len(memory), 'open_files_first_last': [open_files[0], open_files[-1]],
            'rss_mb_start': round(warm[0], 2), 'rss_mb_end': round(warm[-1], 2),
            'kb_per_cycle': round(1024 * slope, 2),
            'slowest_s': {name: round(value, 3) for name, value in slowest.items()}}


def main() -> None:
    """Runs the test and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cycles', type=int, default=200)
    parser.add_argument('--real', type=int, default=0, help='cycles with the real process')
    parser.add_argument('--minutes', type=float, default=60.0, help='for the real process')
    parser.add_argument('--out', type=Path, default=Path('out/bench/lifecycle.json'))
    arguments = parser.parse_args()
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        given = [Parameter('map_directory', value=f'{folder}/map'),
                 Parameter('load_timeout', value=300.0)]
        result = {}
        if arguments.cycles:
            result = {'mapper_node': run(MapperNode(Idle, parameter_overrides=given),
                                         arguments.cycles),
                      'query_node': run(QueryNode(parameter_overrides=given[:1]),
                                        arguments.cycles)}
        if arguments.real:
            result['mapper_node with its process'] = real = run(
                MapperNode(MapperSupervisor, parameter_overrides=given), arguments.real,
                arguments.minutes)
            wait_for_leaving(60.0)
            real['processes_left'] = children()
    rclpy.shutdown()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()
