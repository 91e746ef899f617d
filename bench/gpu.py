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
from types import SimpleNamespace
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
    try:
        import triton
    except ImportError:
        triton = None
    return {'torch': torch.__version__, 'triton': triton and triton.__version__,
            'device': torch.cuda.get_device_name(), 'cores': os.cpu_count(),
            'capability': list(torch.cuda.get_device_capability()),
            'memory_GiB': round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)}


SECTIONS: dict[str, Section] = {section.__name__: section for section in (
    environment, grids_agree, life_of_a_map, steps_of_the_presets, learns_as_the_cpu_does,
    grids_on_a_gpu_are_fast, map_of_a_layout, query_of_many_points, encoders_are_fast,
    many_keyframes, memory_runs_out)}
# What a smoke run on a stand-in for a GPU leaves out: weights of encoders, and a rendered layout.
HEAVY = ('map_of_a_layout', 'encoders_are_fast')


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
    if arguments.smoke:
        play_what_a_stand_in_lacks()
    for name in arguments.sections or [
            name for name in SECTIONS if not arguments.smoke or name not in HEAVY]:
        late = time.monotonic() - start > arguments.seconds
        results.append({'section': name, 'ok': False, 'error': 'no time was left'} if late
                       else run(name, arguments))
        print(json.dumps(results[-1], default=str), flush=True)
        arguments.out.write_text(json.dumps(report(results), indent=1, default=str) + '\n')
    return int(not all(result['ok'] for result in results))


class Clock:
    """Plays an event of a GPU that does nothing at the same time as the CPU."""

    def __init__(self, **_: bool) -> None:
        self.at = 0.0

    def record(self) -> None:
        """Takes the time."""
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        """Waits for nothing: what the stand-in was told to do is done."""

    def elapsed_time(self, other: Clock) -> float:
        """Returns the milliseconds until another event."""
        return 1e3 * (other.at - self.at)


def play_what_a_stand_in_lacks() -> None:
    """Replaces what only a real GPU tells of itself."""
    told = {'synchronize': None, 'empty_cache': None, 'reset_peak_memory_stats': None,
            'memory_allocated': 0, 'max_memory_allocated': 0, 'memory_reserved': 0,
            'get_device_name': 'none: a smoke run', 'get_device_capability': (0, 0),
            'set_per_process_memory_fraction': None,
            'get_device_properties': SimpleNamespace(total_memory=2**40)}
    for name, value in told.items():
        setattr(torch.cuda, name, lambda *_, _value=value, **__: _value)
    torch.cuda.Event = Clock  # type: ignore[assignment, misc]


def report(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of the file."""
    by_name = {result['section']: result for result in results}
    online = by_name.get('steps_of_the_presets', {}).get('online', {})
    return {'device': by_name.get('environment', {}).get('device', 'unknown'),
            'launches_per_step': online.get('launches'), 'syncs_per_step': online.get('syncs'),
            'sections': by_name}


if __name__ == '__main__':
    sys.exit(main())
