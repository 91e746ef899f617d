# SPDX-License-Identifier: Apache-2.0
"""The tables of an evaluation as one Markdown page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from lerf_ros.evaluation.rows import LARGE_PX, Convergence, EvalResults
from lerf_ros.evaluation.tables import (
    ALL_SCENES,
    Comparison,
    Interval,
    Row,
    comparisons,
    table_rows,
)

T = TypeVar('T')
# The head of a column and how an entry of it is written.
Columns = dict[str, Callable[[T], str]]
EMPTY = '–'
LEGEND = (
    'Square brackets hold 95 % bootstrap intervals: objects are drawn in the table of one scene, '
    'whole scenes in tables over several; where all of them agree (0 % or 100 %) an interval is a '
    'point, however few they are. Hits: the best hit is inside the 3D box grown by 3 cm; '
    f'parted at a side of {LARGE_PX:.0f} px in the five keyframes that show the object largest, '
    'with the number of objects in round brackets. Localized: the peak of the rendered relevancy '
    'is inside the 2D box. Existence: average precision of the phrases for what is there against '
    'those for what is not (round brackets: how many of each); near words have a sentence cosine '
    f'above 0.6 to a word for something present. {EMPTY}: not measured.')


def markdown(results: EvalResults, rows: Sequence[Row] | None = None,
             compared: Sequence[Comparison] | None = None) -> str:
    """The whole page; rows and compared: where they were computed already."""
    rows = table_rows(results) if rows is None else rows
    compared = comparisons(results) if compared is None else compared
    parts = ['# Evaluation', LEGEND]
    for scene in dict.fromkeys(row.scene for row in rows):
        chosen = [row for row in rows if row.scene == scene]
        scenes = max(row.scenes for row in chosen)
        parts += [f'## All scenes ({scenes})' if scene == ALL_SCENES else f'## Scene {scene}',
                  table(ROW_COLUMNS, chosen)]
        if scene == ALL_SCENES and compared:
            parts += ['## Paired comparisons',
                      'Hits of the method minus hits of the other, on the same objects.',
                      table(COMPARISON_COLUMNS, compared)]
    if results.convergence:
        parts += ['## Convergence', 'Means over the scenes that were measured at these steps.',
                  table(CONVERGENCE_COLUMNS, stages(results.convergence))]
    return '\n\n'.join(parts) + '\n'


def table(columns: Columns[T], entries: Sequence[T]) -> str:
    """A Markdown table with the columns in which anything was measured."""
    cells = {head: [show(entry).replace('|', '\\|') for entry in entries]
             for head, show in columns.items()}
    cells = {head: column for head, column in cells.items() if set(column) != {EMPTY}}
    widths = [max(map(len, (head, *column))) for head, column in cells.items()]
    lines = [list(cells), ['-' * width for width in widths], *zip(*cells.values())]
    return '\n'.join('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths))
                     + ' |' for line in lines)


def percent(value: Interval, count: int | None = None) -> str:
    """Such as '75 % [50, 100] (4)'."""
    if math.isnan(value.mean):
        return EMPTY
    number = '' if count is None else f' ({count})'
    return '{:.0f} % [{:.0f}, {:.0f}]'.format(
        *(100 * v for v in (value.mean, value.low, value.high))) + number


def score(value: Interval, counts: Sequence[int] = ()) -> str:
    """Such as '0.61 [0.55, 0.66] (40 : 100)'."""
    if math.isnan(value.mean):
        return EMPTY
    number = f' ({" : ".join(map(str, counts))})' if counts else ''
    return f'{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]{number}'


def number(value: float, pattern: str) -> str:
    """One measured number."""
    return EMPTY if math.isnan(value) else pattern.format(value)


def difference(c: Comparison) -> str:
    """In percent points, with the interval and signs."""
    values = (100 * v for v in (c.difference.difference, c.difference.low, c.difference.high))
    return '{:+.0f} [{:+.0f}, {:+.0f}]'.format(*values)


def stages(convergence: Sequence[Convergence]) -> list[Convergence]:
    """The mean over scenes for each encoder, method and number of steps."""
    stages = dict.fromkeys((c.encoder, c.method, c.steps) for c in convergence)
    made = []
    for stage in stages:
        same = [c for c in convergence if (c.encoder, c.method, c.steps) == stage]
        made.append(Convergence(ALL_SCENES, *stage, *(
            mean_of([getattr(c, name) for c in same])
            for name in ('psnr', 'hits', 'iou_3d', 'seconds'))))
    return made


def mean_of(values: Sequence[float]) -> float:
    """The mean of what was measured, NaN where nothing was."""
    measured = [value for value in values if not math.isnan(value)]
    return float(np.mean(measured)) if measured else math.nan


ROW_COLUMNS: Columns[Row] = {
    'encoder': lambda r: r.encoder,
    'method': lambda r: r.method,
    'objects': lambda r: str(r.objects),
    'hits': lambda r: percent(r.hits),
    f'hits, ≥ {LARGE_PX:.0f} px': lambda r: percent(r.hits_large, r.objects_large),
    f'hits, < {LARGE_PX:.0f} px': lambda r: percent(r.hits_small, r.objects_small),
    '3D IoU': lambda r: score(r.iou_3d),
    'localized': lambda r: percent(r.localized),
    'LERF-OVS localized': lambda r: percent(r.lerf_ovs_localized),
    'LERF-OVS IoU': lambda r: score(r.lerf_ovs_iou),
    'existence AP, far words': lambda r: score(r.existence_ap_far, (r.present, r.absent_far)),
    'existence AP, near words': lambda r: score(r.existence_ap_near, (r.present, r.absent_near)),
}
COMPARISON_COLUMNS: Columns[Comparison] = {
    'encoder': lambda c: c.encoder,
    'method': lambda c: c.method,
    'against': lambda c: c.other,
    'objects': lambda c: str(c.objects),
    'scenes': lambda c: str(c.scenes),
    'difference in hits, percent points': difference,
    'resamples not below': lambda c: f'{100 * c.difference.p_not_below:.0f} %',
    'hit by method only': lambda c: str(c.only_ours),
    'by the other only': lambda c: str(c.only_other),
}
CONVERGENCE_COLUMNS: Columns[Convergence] = {
    'encoder': lambda c: c.encoder,
    'method': lambda c: c.method,
    'steps': lambda c: f'{c.steps:,}',
    'training': lambda c: number(c.seconds, '{:.0f} s'),
    'hits': lambda c: number(100 * c.hits, '{:.0f} %'),
    '3D IoU': lambda c: number(c.iou_3d, '{:.2f}'),
    'held-out PSNR': lambda c: number(c.psnr, '{:.1f} dB'),
}
