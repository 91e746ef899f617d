# SPDX-License-Identifier: Apache-2.0
"""Proves on an NVIDIA GPU what the tests show on a CPU alone, and measures it; 9 minutes at most.

    python bench/gpu.py [SECTION...] [--out out/bench/gpu.json] [--capture FILE] [--smoke]

Sections fail on their own: each prints a JSON line with its findings, or with what failed.
The file holds all of them, and launches and synchronisations of a step of preset `online`. Exits
with 1 when a section failed. CAPTURE is a simulated layout of simulated_maps.py, which needs open3d
to be rendered. `make gpu` runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault('HF_HUB_OFFLINE', '1')

import torch
from gpu_fields import (
    grids_agree,
    grids_on_a_gpu_are_fast,
    learns_as_the_cpu_does,
    steps_of_the_presets,
)
from gpu_maps import (
    encoders_are_fast,
    life_of_a_map,
    many_keyframes,
    map_of_a_layout,
    memory_runs_out,
    query_of_many_points,
)

SECONDS = 540.0     # of the whole run
Section = Callable[[argparse.Namespace], dict[str, Any]]


def environment(_: argparse.Namespace) -> dict[str, Any]:
    """Returns what this machine and its software are."""
    import triton

    return {'torch': torch.__version__, 'triton': triton.__version__,
            'device': torch.cuda.get_device_name(), 'cores': os.cpu_count(),
            'capability': list(torch.cuda.get_device_capability()),
            'memory_GiB': round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)}


SECTIONS: dict[str, Section] = {section.__name__: section for section in (
    environment, grids_agree, life_of_a_map, steps_of_the_presets, learns_as_the_cpu_does,
    grids_on_a_gpu_are_fast, map_of_a_layout, query_of_many_points, encoders_are_fast,
    many_keyframes, memory_runs_out)}


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs a section; returns its findings, or what went wrong."""
    start = time.monotonic()
    try:
        found = {'ok': True, **SECTIONS[name](arguments)}
    except Exception as error:      # whatever it is, the next sections are still worth running
        at = [f'{Path(frame.filename).name}:{frame.lineno}'
              for frame in traceback.extract_tb(error.__traceback__)][-6:]
        found = {'ok': False, 'error': f'{type(error).__name__}: {str(error)[:400]}', 'at': at}
    torch.cuda.empty_cache()
    return {'section': name, 's': round(time.monotonic() - start, 1), **found}


def main() -> int:
    """Runs the sections and writes the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sections', nargs='*', metavar='SECTION', help=', '.join(SECTIONS))
    parser.add_argument('--out', type=Path, default=Path('out/bench/gpu.json'))
    parser.add_argument('--capture', type=Path, help='npz of simulated_maps.py; rendered if absent')
    parser.add_argument('--seconds', type=float, default=SECONDS, help='start no section later')
    parser.add_argument('--smoke', action='store_true', help='as little as shows that it runs')
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f'no section {", ".join(sorted(unknown))}: there are {", ".join(SECTIONS)}')
    start, results = time.monotonic(), []
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.sections or SECTIONS:
        late = time.monotonic() - start > arguments.seconds
        results.append({'section': name, 'ok': False, 'error': 'no time was left'} if late
                       else run(name, arguments))
        print(json.dumps(results[-1], default=str), flush=True)
        arguments.out.write_text(json.dumps(report(results), indent=1, default=str) + '\n')
    return int(not all(result['ok'] for result in results))


def report(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of the file."""
    by_name = {result['section']: result for result in results}
    online = by_name.get('steps_of_the_presets', {}).get('online', {})
    return {'device': by_name.get('environment', {}).get('device', 'unknown'),
            'launches_per_step': online.get('launches'), 'syncs_per_step': online.get('syncs'),
            'sections': by_name}


if __name__ == '__main__':
    sys.exit(main())
