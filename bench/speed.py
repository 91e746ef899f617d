# SPDX-License-Identifier: Apache-2.0
"""`make bench`: runs the speed measurements of this folder and prints them as one table.

    python bench/speed.py --data FOLDER --rival .venv-nerfstudio/bin/python

Each part is a script of its own that writes rows of what, ours, theirs, ratio (more is better) and
goal (as such a ratio) into a JSON file in OUT. A part that fails or lacks what it needs is left
out, and the table says why. With --collect nothing runs, and the existing files in OUT are used.
Writes OUT/speed.json. FOLDER is in nerfstudio's layout; bench/README.md tells of the rival.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from radiance_report import seconds_to

from lerf_ros.quiet_threads import wait_quietly

BENCH = Path(__file__).parent
DEMO_GOAL_S, DEMO_RIGHT, SAME_PSNR_GOAL = 120.0, 7, 10.0
CURVE_STEPS = 200       # of both sides; with more steps the held-out PSNR of the rival falls


@dataclass(frozen=True)
class Part:
    """A script, its arguments, the file that it writes, its requirements, and its Python."""

    name: str
    arguments: tuple[str, ...]
    file: str = ''
    lacks: str = ''
    python: str = sys.executable


def curve_parts(data: Path | None, problem: Path, rival: Path) -> list[Part]:
    """Returns both sides of the held-out PSNR curves, from which `curve_row` makes a row."""
    lacks = missing(problem, rival) or ('' if data else 'give --data')
    curves = problem.parent
    last = ('--last', str(CURVE_STEPS))
    ours = ('--data', str(data), '--out', str(curves), '--ours')
    return [Part('radiance_quality.py', (*ours, *last), lacks=lacks),
            Part('nerfacto_curve.py', (str(curves), *last), lacks=lacks, python=str(rival))]


def missing(problem: Path, rival: Path) -> str:
    """Returns what a comparison with the rival lacks; empty for nothing."""
    if not rival.exists():
        return f'{rival} does not exist: bench/README.md makes it'
    return '' if problem.exists() else f'{problem} does not exist: give --data'


def parts(out: Path, problem: Path, rival: Path) -> list[Part]:
    """Returns all parts that write rows, in the order of the table."""
    no_ros = '' if importlib.util.find_spec('rclpy') else 'ROS 2 is not installed'
    target = ('--out', str(out))
    return [
        Part('query_speed.py', ('--out', str(out / 'query_speed.json')), 'query_speed.json'),
        Part('training_step.py', (
            '--problem', str(problem), '--rival', str(rival), '--out',
            str(out / 'training_step.json')), 'training_step.json', missing(problem, rival)),
        Part('dense_features.py', ('--out', str(out / 'features.json')), 'features.json'),
        Part('growth.py', target, 'growth.json'),
        Part('callback_latency.py', target, 'callback_latency.json', no_ros)]


def run(part: Part) -> str:
    """Runs a part; returns why it has no result, or ''."""
    script = BENCH / part.name
    if not script.exists():
        return f'{script} does not exist'
    if part.lacks:
        return part.lacks
    code = subprocess.run([part.python, str(script), *part.arguments]).returncode
    return f'exit code {code}' if code else ''


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Returns the rows that a part wrote; none where it did not run."""
    if not file.exists():
        return []
    content = json.loads(file.read_text())
    return list(content['rows'] if isinstance(content, dict) else content)


def curve_row(folder: Path) -> list[dict[str, Any]]:
    """Returns processor seconds to nerfacto's best held-out PSNR, from stored curves."""
    ours, theirs = ([json.loads(path.read_text()) for path in sorted(folder.glob(f'{name}_*.json'))]
                    for name in ('ours', 'nerfacto'))
    if not ours or not theirs:
        return []
    level = min(max(point['psnr'] for point in run['points']) for run in theirs)
    mine, other = (float(np.mean([seconds_to(run, level, 'cpu_s') for run in runs]))
                   for runs in (ours, theirs))
    return [{'what': f'processor seconds to a held-out PSNR of {level:.1f} dB', 'ours': mine,
             'theirs': other, 'ratio': other / mine, 'goal': SAME_PSNR_GOAL}]


def demo_row(file: Path) -> list[dict[str, Any]]:
    """Returns the time of the demo, if it was run and its answers are right."""
    if not file.exists():
        return []
    found = json.loads(file.read_text())
    if found['present_right'] < DEMO_RIGHT:
        return []
    seconds = found['seconds']
    return [{'what': 'first published image to the last of the right answers, s', 'ours': seconds,
             'theirs': DEMO_GOAL_S, 'ratio': DEMO_GOAL_S / seconds, 'goal': 1.0}]


def table(rows: list[dict[str, Any]], left_out: dict[str, str]) -> str:
    """Returns a Markdown table."""
    lines = ['| what | ours | theirs | ratio | goal | |', '|---|---|---|---|---|---|']
    lines += [f'| {row["what"]} | {row["ours"]:.3g} | {row["theirs"]:.3g} | {row["ratio"]:.3g} | '
              f'{row["goal"]:.3g} | {"reached" if row["ratio"] >= row["goal"] else "missed"} |'
              for row in rows]
    return '\n'.join([*lines, '', *(f'left out: {name}: {why}' for name, why in left_out.items())])


def machine() -> dict[str, object]:
    """Returns the machine that it was measured on."""
    return {'cores': len(os.sched_getaffinity(0)), 'system': platform.platform(),
            'processor': platform.processor() or platform.machine(),
            'python': platform.python_version(), 'load_average': os.getloadavg()}


def prepare(data: Path, problem: Path) -> None:
    """Prepares the images that both sides train on."""
    subprocess.run([sys.executable, str(BENCH / 'radiance_quality.py'), '--data', str(data),
                    '--out', str(problem.parent), '--prepare'], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, help='folder with transforms.json')
    parser.add_argument('--rival', type=Path, default=Path('.venv-nerfstudio/bin/python'))
    parser.add_argument('--curves', type=Path, default=Path('out/radiance_quality'))
    parser.add_argument('--demo', type=Path, default=Path('out/demo/results.json'))
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    parser.add_argument('--collect', action='store_true', help='run nothing')
    arguments = parser.parse_args()
    wait_quietly()      # in all parts, as in the product's own processes
    problem = arguments.curves / 'problem.npz'
    if arguments.data and not problem.exists():
        prepare(arguments.data, problem)
    arguments.out.mkdir(parents=True, exist_ok=True)
    left_out, rows = {}, []
    for part in parts(arguments.out, problem, arguments.rival):
        why = '' if arguments.collect else run(part)
        found = [] if why else rows_of(arguments.out / part.file)
        if not found:
            left_out[part.name] = why or 'no rows'
        rows += found
    curves = () if arguments.collect else curve_parts(arguments.data, problem, arguments.rival)
    left_out |= {part.name: why for part in curves if (why := run(part))}
    rows += curve_row(arguments.curves) + demo_row(arguments.demo)
    content = {'rows': rows, 'left_out': left_out, 'machine': machine()}
    (arguments.out / 'speed.json').write_text(json.dumps(content, indent=1) + '\n')
    print(f'\n{table(rows, left_out)}')


if __name__ == '__main__':
    main()
