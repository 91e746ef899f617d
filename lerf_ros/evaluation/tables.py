# SPDX-License-Identifier: Apache-2.0
"""From records to tables: rows with intervals, paired comparisons, and all of it as Markdown.

Intervals hold 95 % of the resamples (intervals.py). Rows of one scene resample its objects; rows
over several scenes resample whole scenes, because the objects of one share a radiance field.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lerf_ros.evaluation.intervals import (
    NOT_MEASURED,
    Interval,
    PairedInterval,
    mean_interval,
    paired_difference,
    statistic_interval,
)
from lerf_ros.evaluation.records import (
    LARGE_PX,
    OURS,
    Convergence,
    EvalResults,
    ObjectResult,
    PhraseScore,
    plain,
)

ALL_SCENES = 'all'
# The scene, the phrase, and how many times it was asked there before.
AskedObject = tuple[str, str, int]
Record = ObjectResult | PhraseScore


@dataclass(frozen=True)
class Row:
    """One encoder and method on one scene, or on all scenes. Scores are 0..1, NaN if not measured.

    objects: how many were asked for; objects_large of them measure at least 36 px.
    existence_ap_far, existence_ap_near: average precision of the `present` phrases against absent
    ones whose meaning is far from all of them, or near to one.
    """

    scene: str
    encoder: str
    method: str
    scenes: int
    objects: int
    objects_large: int
    objects_small: int
    hits: Interval
    hits_large: Interval
    hits_small: Interval
    iou_3d: Interval
    localized: Interval
    lerf_ovs_localized: Interval
    lerf_ovs_iou: Interval
    present: int
    absent_far: int
    absent_near: int
    existence_ap_far: Interval
    existence_ap_near: Interval


@dataclass(frozen=True)
class Comparison:
    """Our hits minus the hits of another method, on the objects that both were asked for.

    only_ours, only_other: number of objects that only one of the two hit.
    """

    encoder: str
    method: str
    other: str
    scenes: int
    objects: int
    difference: PairedInterval
    only_ours: int
    only_other: int


def table_rows(results: EvalResults) -> list[Row]:
    """Returns rows over all scenes, then of each scene; encoders and methods keep their order."""
    records: list[Record] = [*results.objects, *results.phrases]
    scenes = [ALL_SCENES, *dict.fromkeys(r.scene for r in records)]
    pairs = dict.fromkeys((r.encoder, r.method) for r in records)
    rows = []
    for scene in scenes:
        for pair in pairs:
            objects = [o for o in results.objects if belongs(o, scene, *pair)]
            phrases = [p for p in results.phrases if belongs(p, scene, *pair)]
            if objects or phrases:
                rows.append(row_of(scene, *pair, objects, phrases))
    return rows


def belongs(record: Record, scene: str, encoder: str, method: str) -> bool:
    """Returns whether a record counts in the row of this scene, encoder and method."""
    return (record.encoder, record.method) == (encoder, method) and scene in (
        ALL_SCENES, record.scene)


def row_of(scene: str, encoder: str, method: str, objects: Sequence[ObjectResult],
           phrases: Sequence[PhraseScore]) -> Row:
    """Returns the row of these objects and phrases."""
    large = [o for o in objects if o.size_px >= LARGE_PX]
    small = [o for o in objects if o.size_px < LARGE_PX]
    absent = Counter(p.near for p in phrases if not p.present)
    return Row(
        scene, encoder, method,
        scenes=len({o.scene for o in objects} | {p.scene for p in phrases}),
        objects=len(objects), objects_large=len(large), objects_small=len(small),
        hits=mean_score(objects, 'hit'), hits_large=mean_score(large, 'hit'),
        hits_small=mean_score(small, 'hit'), iou_3d=mean_score(objects, 'iou_3d'),
        localized=mean_score(objects, 'localized'),
        lerf_ovs_localized=mean_score(objects, 'lerf_ovs_localized'),
        lerf_ovs_iou=mean_score(objects, 'lerf_ovs_iou'),
        present=sum(p.present for p in phrases), absent_far=absent[False],
        absent_near=absent[True], existence_ap_far=existence(phrases, near=False),
        existence_ap_near=existence(phrases, near=True))


def mean_score(objects: Sequence[ObjectResult], measure: str) -> Interval:
    """Returns the mean of one measure over the objects where it was measured."""
    measured = [o for o in objects if getattr(o, measure) is not None]
    if not measured:
        return NOT_MEASURED
    values = np.array([getattr(o, measure) for o in measured], np.float64)
    return mean_interval(values, groups=groups_of(measured))


def existence(phrases: Sequence[PhraseScore], near: bool) -> Interval:
    """Returns the average precision of the present phrases against absent ones, near or far."""
    chosen = existence_phrases(phrases, near)
    if len({p.present for p in chosen}) < 2:
        return NOT_MEASURED
    statistic = ranking_precision(np.array([p.score for p in chosen]),
                                  np.array([p.present for p in chosen]))
    return statistic_interval(statistic, len(chosen), groups=groups_of(chosen))


def existence_phrases(phrases: Sequence[PhraseScore], near: bool) -> list[PhraseScore]:
    """Returns the present phrases, and the absent ones that are near or far."""
    return [p for p in phrases if p.present or p.near == near]


def ranking_precision(scores: np.ndarray, present: np.ndarray) -> Callable[[np.ndarray], float]:
    """Returns average precision as a function of indices (M,) into N phrases.

    scores (N,), present (N,) bool. The function returns what scikit-learn's average_precision_score
    returns, a hundred times as fast, because phrases are sorted once for all resamples; NaN where
    all or none of the phrases are present.
    """
    _, level = np.unique(-scores, return_inverse=True)   # equal scores share a threshold
    levels = int(level.max()) + 1

    def statistic(index: np.ndarray) -> float:
        right = np.bincount(level[index[present[index]]], minlength=levels)
        said = np.bincount(level[index], minlength=levels).cumsum()
        found = right.cumsum()
        if found[-1] in (0, said[-1]):
            return math.nan
        return float((right / found[-1] * found / np.maximum(said, 1)).sum())

    return statistic


def groups_of(records: Sequence[Record]) -> list[str] | None:
    """Returns the scene of each record, to resample scenes; None where there is only one scene."""
    scenes = [r.scene for r in records]
    return scenes if len(set(scenes)) > 1 else None


def comparisons(results: EvalResults, ours: str = OURS) -> list[Comparison]:
    """Compares our method with each other method of the same encoder, over all scenes."""
    hits: dict[tuple[str, str], dict[AskedObject, bool]] = {}
    times: Counter[tuple[str, ...]] = Counter()
    for o in results.objects:
        if o.hit is not None:
            # A phrase may be asked several times in a scene; pairs are formed in order.
            name = (o.encoder, o.method, o.scene, o.query)
            hits.setdefault(name[:2], {})[o.scene, o.query, times[name]] = o.hit
            times[name] += 1
    return [compare(encoder, ours, other, hits[encoder, ours], theirs)
            for (encoder, other), theirs in hits.items()
            if other != ours and hits.get((encoder, ours), {}).keys() & theirs.keys()]


def compare(encoder: str, method: str, other: str, ours: dict[AskedObject, bool],
            theirs: dict[AskedObject, bool]) -> Comparison:
    """Compares two methods on the objects that both were asked for."""
    both = [key for key in ours if key in theirs]
    a, b = (np.array([hits[key] for key in both], bool) for hits in (ours, theirs))
    scenes = [key[0] for key in both]
    difference = paired_difference(a, b, groups=scenes if len(set(scenes)) > 1 else None)
    return Comparison(encoder, method, other, len(set(scenes)), len(both), difference,
                      int((a & ~b).sum()), int((b & ~a).sum()))


def row_json(row: Row) -> dict[str, object]:
    """Returns a row as JSON data; an interval has two entries, NAME and NAME_interval."""
    content: dict[str, object] = {}
    for name, value in vars(row).items():
        if isinstance(value, Interval):
            content[name] = value.mean
            limits = [value.low, value.high]
            content[f'{name}_interval'] = None if math.isnan(value.mean) else limits
        else:
            content[name] = value
    return plain(content)


T = TypeVar('T')
# The heading of each column, and how an entry of it is formatted.
Columns = dict[str, Callable[[T], str]]
EMPTY = '–'
LEGEND = (
    'Square brackets hold 95 % bootstrap intervals. Objects are resampled in the table of one '
    'scene, whole scenes in tables over several; where all of them agree (0 % or 100 %) an '
    'interval is a point, however few they are. Hits: the best hit is inside the 3D box grown by '
    f'3 cm; objects are split at a size of {LARGE_PX:.0f} px in the five keyframes that show them '
    'largest, with the number of objects in round brackets. Localized: the peak of the rendered '
    'relevancy is inside the 2D box. Existence: average precision of phrases for what is there '
    'against phrases for what is not (round brackets: how many of each); near words have a '
    f'sentence cosine above 0.6 to a word for something present. {EMPTY}: not measured.')


def markdown(results: EvalResults, rows: Sequence[Row] | None = None,
             compared: Sequence[Comparison] | None = None) -> str:
    """Returns the whole page. rows, compared: may be given where they were computed already."""
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
    """Returns a Markdown table with the columns in which anything was measured."""
    cells = {head: [show(entry).replace('|', '\\|') for entry in entries]
             for head, show in columns.items()}
    cells = {head: column for head, column in cells.items() if set(column) != {EMPTY}}
    widths = [max(map(len, (head, *column))) for head, column in cells.items()]
    lines = [list(cells), ['-' * width for width in widths], *zip(*cells.values())]
    return '\n'.join('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths))
                     + ' |' for line in lines)


def percent(value: Interval, count: int | None = None) -> str:
    """Formats a share, such as '75 % [50, 100] (4)'."""
    if math.isnan(value.mean):
        return EMPTY
    number = '' if count is None else f' ({count})'
    return '{:.0f} % [{:.0f}, {:.0f}]'.format(
        *(100 * v for v in (value.mean, value.low, value.high))) + number


def score(value: Interval, counts: Sequence[int] = ()) -> str:
    """Formats a score, such as '0.61 [0.55, 0.66] (40 : 100)'."""
    if math.isnan(value.mean):
        return EMPTY
    number = f' ({" : ".join(map(str, counts))})' if counts else ''
    return f'{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]{number}'


def number(value: float, pattern: str) -> str:
    """Formats one measured number."""
    return EMPTY if math.isnan(value) else pattern.format(value)


def difference(c: Comparison) -> str:
    """Formats a difference in percentage points, with signs and interval."""
    values = (100 * v for v in (c.difference.difference, c.difference.low, c.difference.high))
    return '{:+.0f} [{:+.0f}, {:+.0f}]'.format(*values)


def stages(convergence: Sequence[Convergence]) -> list[Convergence]:
    """Returns the mean over scenes for each encoder, method and number of steps."""
    stages = dict.fromkeys((c.encoder, c.method, c.steps) for c in convergence)
    made = []
    for stage in stages:
        same = [c for c in convergence if (c.encoder, c.method, c.steps) == stage]
        made.append(Convergence(ALL_SCENES, *stage, *(
            mean_of([getattr(c, name) for c in same])
            for name in ('psnr', 'hits', 'iou_3d', 'seconds'))))
    return made


def mean_of(values: Sequence[float]) -> float:
    """Returns the mean of what was measured; NaN where nothing was."""
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
    'difference in hits, percentage points': difference,
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
