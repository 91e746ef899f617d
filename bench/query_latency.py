# SPDX-License-Identifier: Apache-2.0
"""Measures how long lerf/query takes over ROS, with a query node as a separate process.

    python bench/query_latency.py --points 50000 200000        made-up maps (made_up_map.py)
    python bench/query_latency.py --maps MAP [MAP...]          maps of your own

For every map: calls with one phrase, with ten phrases at once, and with the cloud in the response.
Encoding, search and grasps are what the response tells; transport is the rest of the round trip:
serialization, DDS, the node's publishing on its topics, and the wait for its executor. Writes
OUT/query_latency.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from made_up_map import write_made_up_map

from lerf_ros.processes import isolate_ros, node_command

if TYPE_CHECKING:
    from lerf_ros.srv import Query

PHRASES = ('red mug', 'banana', 'keyboard', 'table lamp', 'frying pan', 'toaster', 'pizza',
           'scissors', 'traffic light', 'teddy bear')
PARTS = ('encode', 'search', 'grasp', 'transport', 'total')
PERCENTILES = (50, 95, 99)
START_S = 120.0


class Asker:
    """A client with the default QoS, as in other programs."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.node import Node

        from lerf_ros.srv import Query
        rclpy.init()
        self._rclpy, self._kind = rclpy, Query
        self._node = Node('latency')
        self._client = self._node.create_client(Query, 'lerf/query')

    def wait(self) -> None:
        """Waits until the service answers with success; raises TimeoutError after a while."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._client.wait_for_service(1.0) and self.call(text='anything')[1].success:
                return
        raise TimeoutError(f'lerf/query did not answer within {START_S:.0f} s')

    def call(self, **fields: object) -> tuple[float, Query.Response]:
        """Returns the seconds of the round trip, and the response."""
        request = self._kind.Request(**fields)
        start = time.perf_counter()
        future = self._client.call_async(request)
        self._rclpy.spin_until_future_complete(self._node, future, timeout_sec=60)
        return time.perf_counter() - start, future.result()

    def close(self) -> None:
        self._node.destroy_node()
        self._rclpy.shutdown()


def measured(asker: Asker, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns p50, p95 and p99 of each part in milliseconds, and hits and bytes of the last."""
    rows = []
    for request in requests:
        total, response = asker.call(**request)
        if not response.success:
            raise RuntimeError(response.message)
        own = response.encode_time, response.search_time, response.grasp_time
        rows.append([*own, total - sum(own), total])
    table = 1000 * np.percentile(np.array(rows), PERCENTILES, axis=0)
    return {'calls': len(rows), 'unit': 'ms', 'cloud_bytes': len(response.cloud.data),
            **{name: {f'p{p}': round(float(v), 2) for p, v in zip(PERCENTILES, table[:, i])}
               for i, name in enumerate(PARTS)}}


def measure_map(path: Path, phrases: list[str], repeat: int) -> dict[str, Any]:
    """Starts the node on the map, measures, and stops it."""
    node = subprocess.Popen(
        node_command('query_node', ['-p', f"map_directory:='{path.absolute()}'"]),
        stdout=subprocess.DEVNULL)
    asker = Asker()
    try:
        asker.wait()
        many = [phrase for _ in range(repeat) for phrase in phrases]
        _, with_cloud = asker.call(text=phrases[0], return_cloud=True)
        kinds = {
            'one phrase': [{'text': p} for p in many],
            'one phrase, no grasps': [{'text': p, 'plan_grasps': False} for p in many],
            'one phrase with cloud': [{'text': p, 'return_cloud': True} for p in many],
            f'{len(phrases)} phrases at once': [{'texts': phrases}] * len(many)}
        return {'map': path.name, 'points': with_cloud.cloud.width,
                **{name: measured(asker, requests) for name, requests in kinds.items()}}
    finally:
        asker.close()
        node.terminate()
        node.wait(30)


def table(results: list[dict[str, Any]]) -> str:
    """Returns a Markdown table, with a row for each map and kind of call."""
    lines = ['| points | call | ' + ' | '.join(f'{name} p50' for name in PARTS)
             + ' | total p95 | total p99 |', '|' + '---|' * (len(PARTS) + 4)]
    for result in results:
        for name, row in result.items():
            if isinstance(row, dict):
                cells = [f'{row[part]["p50"]:.1f}' for part in PARTS]
                cells += [f'{row["total"][p]:.1f}' for p in ('p95', 'p99')]
                lines.append(f'| {result["points"]} | {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--maps', nargs='*', type=Path, default=[])
    parser.add_argument('--points', nargs='*', type=int, default=[])
    parser.add_argument('--phrases', nargs='+', default=list(PHRASES))
    parser.add_argument('--repeat', type=int, default=10, help='calls with each phrase')
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    arguments = parser.parse_args()
    isolate_ros()
    load = os.getloadavg()
    made_up = [write_made_up_map(arguments.out / 'made_up' / str(count), count, arguments.phrases)
               for count in arguments.points]
    results = [measure_map(path, arguments.phrases, arguments.repeat)
               for path in (*arguments.maps, *made_up)]
    content = {'maps': results, 'cores': len(os.sched_getaffinity(0)),
               'load_average_before': load, 'load_average_after': os.getloadavg()}
    file = arguments.out / 'query_latency.json'
    file.write_text(json.dumps(content, indent=1) + '\n')
    print(f'{table(results)}\n\n{file}')


if __name__ == '__main__':
    main()
