# SPDX-License-Identifier: Apache-2.0
"""Formats the curves of radiance_quality.py as a Markdown page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

RIVAL = 'nerfacto'


def write_report(folder: Path) -> str:
    """Merges all curves (NAME_SEED.json) of a folder into report.md there; returns its text."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob('*_*.json')):
        groups.setdefault(path.stem.rpartition('_')[0], []).append(json.loads(path.read_text()))
    if not groups:
        raise SystemExit(f'{folder} holds no curves yet')
    text = '\n\n'.join([
        '# Held-out PSNR after as many steps', *verdicts(groups),
        table(['step', *headings(groups)], psnr_rows(groups)),
        '# Seconds to a held-out PSNR', 'Processor seconds of all threads; wall seconds in '
        'brackets, which say little where other programs ran beside it.',
        table(['dB', *headings(groups)], time_rows(groups)),
        '# Seconds of a step', table(['', *headings(groups)], step_rows(groups))]) + '\n'
    (folder / 'report.md').write_text(text)
    return text


def verdicts(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Returns a line for each of our curves: its final distance from the rival."""
    lines = []
    rival = groups.get(RIVAL, [])
    for name, runs in groups.items():
        last = min(run['points'][-1]['step'] for run in (*runs, *rival))
        ours = [value_at(run, last, 'psnr') for run in runs]
        line = (f'{name} after {last} steps: {spread(ours)} dB over {len(runs)} seeds, mean of '
                f'images {spread([value_at(run, last, "psnr_of_images") for run in runs])} dB')
        if name != RIVAL and rival:
            theirs = np.mean([value_at(run, last, 'psnr') for run in rival])
            line += f'; {np.mean(ours) - theirs:+.2f} dB against {RIVAL}'
            line += f', the worst seed {min(ours) - theirs:+.2f} dB'
        lines.append(line + '.')
    return lines


def value_at(run: dict[str, Any], step: int, name: str) -> float:
    """Returns a measured value at a step; NaN where that step was not measured."""
    found = [point[name] for point in run['points'] if point['step'] == step]
    return found[0] if found else float('nan')


def spread(values: list[float]) -> str:
    """Formats mean and range with two decimals."""
    if len(values) == 1:
        return f'{values[0]:.2f}'
    return f'{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})'


def headings(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    return [f'{name} ({len(runs)} seeds)' if len(runs) > 1 else name
            for name, runs in groups.items()]


def psnr_rows(groups: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    steps = sorted({p['step'] for runs in groups.values() for run in runs for p in run['points']})
    rows = []
    for step in steps:
        cells = [[value_at(run, step, 'psnr') for run in runs] for runs in groups.values()]
        rows.append([str(step), *('' if np.isnan(cell).any() else spread(cell)
                                  for cell in cells)])
    return rows


def time_rows(groups: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Returns mean seconds to each whole dB; '' where not all seeds reached it."""
    highest = max(p['psnr'] for runs in groups.values() for run in runs for p in run['points'])
    rows = []
    for level in range(14, int(highest) + 1):
        cells = []
        for runs in groups.values():
            cpu, wall = (np.mean([seconds_to(run, level, clock) for run in runs])
                         for clock in ('cpu_s', 'wall_s'))
            cells.append('' if np.isnan(cpu) else f'{cpu:.0f} ({wall:.0f})')
        rows.append([str(level), *cells])
    return rows


def seconds_to(run: dict[str, Any], level: float, clock: str) -> float:
    """Returns when a curve first reached a PSNR, interpolated linearly; NaN where it never did."""
    psnr = np.maximum.accumulate([point['psnr'] for point in run['points']])
    if psnr[-1] < level:
        return float('nan')
    return float(np.interp(level, psnr, [point[clock] for point in run['points']]))


def step_rows(groups: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    names = {'step_s': 'median, wall', 'step_s_best_tenth': 'best tenth, wall',
             'step_cpu_s': 'mean, processor'}
    return [[title, *(f'{np.mean([run.get(name, np.nan) for run in runs]):.3f}'
                      for runs in groups.values())] for name, title in names.items()]


def table(header: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
