# SPDX-License-Identifier: Apache-2.0
"""From single results to rows with intervals, and comparisons on the same objects.

Intervals hold 95 % of the resamples (bootstrap.py). Rows of one scene draw its objects; rows over
several scenes draw whole scenes, whose objects share one radiance field.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lerf_ros.evaluation.rows import (
    LARGE_PX,
    OURS,
    EvalResults,
    ObjectResult,
    PhraseScore,
    plain,
)

SAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval; mean: the mean (or statistic) of the data itself."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedInterval:
    """The mean of a minus b over the same objects with its interval.

    p_not_below: the share of the resamples in which a was not worse than b.
    """

    difference: float
    low: float
    high: float
    p_not_below: float


def mean_interval(values: np.ndarray, samples: int = SAMPLES, level: float = LEVEL, seed: int = 0,
                  groups: Sequence[object] | None = None) -> Interval:
    """The mean of values (N,), N at least 1, and the interval that holds `level` of the resamples.

    seed: of the draw; the same data and seed give the same interval.
    """
    values = np.asarray(values, np.float64)
    return statistic_interval(lambda index: float(values[index].mean()), len(values), samples,
                              level, seed, groups)


def paired_difference(a: np.ndarray, b: np.ndarray, samples: int = SAMPLES, level: float = LEVEL,
                      seed: int = 0, groups: Sequence[object] | None = None) -> PairedInterval:
    """By how much a (N,) exceeds b (N,) on the same objects; resamples draw pairs."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    means = np.array([difference[index].mean()
                      for index in resamples(len(difference), samples, seed, groups)])
    low, high = limits(means, level)
    # A mean of 0 must not count as below because its sum was rounded.
    return PairedInterval(float(difference.mean()), low, high, float((means >= -1e-12).mean()))


def statistic_interval(statistic: Callable[[np.ndarray], float], count: int,
                       samples: int = SAMPLES, level: float = LEVEL, seed: int = 0,
                       groups: Sequence[object] | None = None) -> Interval:
    """Any statistic of chosen objects, for example an average precision.

    statistic: gets indices (M,) into the `count` objects, with repetitions, and returns a number;
    NaN where it is not defined for a resample, which then does not count.
    """
    drawn = np.array([statistic(index) for index in resamples(count, samples, seed, groups)])
    return Interval(float(statistic(np.arange(count))), *limits(drawn, level))


def resamples(count: int, samples: int, seed: int,
              groups: Sequence[object] | None = None) -> Iterator[np.ndarray]:
    """`samples` times the indices of objects, or of the objects of groups, with replacement."""
    if count < 1:
        raise ValueError('there is nothing to draw from')
    random = np.random.default_rng(seed)
    if groups is None:
        for _ in range(samples):
            yield random.integers(count, size=count)
        return
    if len(groups) != count:
        raise ValueError(f'{len(groups)} groups for {count} objects: one each is needed')
    members = [np.array([i for i, group in enumerate(groups) if group == name])
               for name in dict.fromkeys(groups)]
    for _ in range(samples):
        yield np.concatenate([members[i] for i in random.integers(len(members),
                                                                  size=len(members))])


def limits(drawn: np.ndarray, level: float) -> tuple[float, float]:
    """The two percentiles that hold `level` of the numbers between them; NaN does not count."""
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return float('nan'), float('nan')
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


ALL_SCENES = 'all'
NOT_MEASURED = Interval(math.nan, math.nan, math.nan)
# Scene, phrase and how many times it was asked there before.
Asked = tuple[str, str, int]
Judged = ObjectResult | PhraseScore


@dataclass(frozen=True)
class Row:
    """One encoder and method on one scene, or on all of them; shares are 0..1.

    What was not measured is NaN. objects: asked ones, of which objects_large have a side of at
    least 36 px. existence_ap_far, existence_ap_near: average precision of `present` phrases
    against absent ones that are far from them in meaning, and near to one.
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
    """Our hits minus another method's, on the objects that both were asked for.

    only_ours, only_other: objects that one of the two hit and the other did not.
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
    """Rows over all scenes first, then scene by scene; encoders and methods as they came."""
    judged: list[Judged] = [*results.objects, *results.phrases]
    scenes = [ALL_SCENES, *dict.fromkeys(r.scene for r in judged)]
    pairs = dict.fromkeys((r.encoder, r.method) for r in judged)
    rows = []
    for scene in scenes:
        for pair in pairs:
            objects = [o for o in results.objects if belongs(o, scene, *pair)]
            phrases = [p for p in results.phrases if belongs(p, scene, *pair)]
            if objects or phrases:
                rows.append(row_of(scene, *pair, objects, phrases))
    return rows


def belongs(judged: Judged, scene: str, encoder: str, method: str) -> bool:
    """Whether a record counts in the row of this scene, encoder and method."""
    return (judged.encoder, judged.method) == (encoder, method) and scene in (
        ALL_SCENES, judged.scene)


def row_of(scene: str, encoder: str, method: str, objects: Sequence[ObjectResult],
           phrases: Sequence[PhraseScore]) -> Row:
    """The row of these objects and phrases."""
    large = [o for o in objects if o.size_px >= LARGE_PX]
    small = [o for o in objects if o.size_px < LARGE_PX]
    absent = Counter(p.near for p in phrases if not p.present)
    return Row(
        scene, encoder, method,
        scenes=len({o.scene for o in objects} | {p.scene for p in phrases}),
        objects=len(objects), objects_large=len(large), objects_small=len(small),
        hits=share(objects, 'hit'), hits_large=share(large, 'hit'), hits_small=share(small, 'hit'),
        iou_3d=share(objects, 'iou_3d'), localized=share(objects, 'localized'),
        lerf_ovs_localized=share(objects, 'lerf_ovs_localized'),
        lerf_ovs_iou=share(objects, 'lerf_ovs_iou'),
        present=sum(p.present for p in phrases), absent_far=absent[False],
        absent_near=absent[True], existence_ap_far=existence(phrases, near=False),
        existence_ap_near=existence(phrases, near=True))


def share(objects: Sequence[ObjectResult], measure: str) -> Interval:
    """The mean of one measure over the objects that have it."""
    have = [o for o in objects if getattr(o, measure) is not None]
    if not have:
        return NOT_MEASURED
    values = np.array([getattr(o, measure) for o in have], np.float64)
    return mean_interval(values, groups=groups_of(have))


def existence(phrases: Sequence[PhraseScore], near: bool) -> Interval:
    """Average precision of the present phrases against the near, or the far, absent ones."""
    chosen = existence_phrases(phrases, near)
    if len({p.present for p in chosen}) < 2:
        return NOT_MEASURED
    statistic = ranking_precision(np.array([p.score for p in chosen]),
                                  np.array([p.present for p in chosen]))
    return statistic_interval(statistic, len(chosen), groups=groups_of(chosen))


def existence_phrases(phrases: Sequence[PhraseScore], near: bool) -> list[PhraseScore]:
    """The present phrases and those absent ones that are near, or far."""
    return [p for p in phrases if p.present or p.near == near]


def ranking_precision(scores: np.ndarray, present: np.ndarray) -> Callable[[np.ndarray], float]:
    """Average precision as a function of chosen phrases (M,), indices into the N given ones.

    The same number as existence.average_precision, a hundred times as fast, because the phrases
    are ranked once for all resamples. NaN where all or none of the chosen phrases are present.
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


def groups_of(judged: Sequence[Judged]) -> list[str] | None:
    """The scenes to draw from; None with a single one, where the objects themselves are drawn."""
    scenes = [r.scene for r in judged]
    return scenes if len(set(scenes)) > 1 else None


def comparisons(results: EvalResults, ours: str = OURS) -> list[Comparison]:
    """Our method against each other one of the same encoder, over all scenes."""
    hits: dict[tuple[str, str], dict[Asked, bool]] = {}
    times: Counter[tuple[str, ...]] = Counter()
    for o in results.objects:
        if o.hit is not None:
            # A phrase may be asked several times in a scene: the first goes with the first.
            name = (o.encoder, o.method, o.scene, o.query)
            hits.setdefault(name[:2], {})[o.scene, o.query, times[name]] = o.hit
            times[name] += 1
    return [compare(encoder, ours, other, hits[encoder, ours], theirs)
            for (encoder, other), theirs in hits.items()
            if other != ours and hits.get((encoder, ours), {}).keys() & theirs.keys()]


def compare(encoder: str, method: str, other: str, ours: dict[Asked, bool],
            theirs: dict[Asked, bool]) -> Comparison:
    """Two methods on the objects that both were asked for."""
    both = [key for key in ours if key in theirs]
    a, b = (np.array([hits[key] for key in both], bool) for hits in (ours, theirs))
    scenes = [key[0] for key in both]
    difference = paired_difference(a, b, groups=scenes if len(set(scenes)) > 1 else None)
    return Comparison(encoder, method, other, len(set(scenes)), len(both), difference,
                      int((a & ~b).sum()), int((b & ~a).sum()))


def row_json(row: Row) -> dict[str, Any]:
    """A row whose intervals are two entries: NAME, the value, and NAME_interval, its limits."""
    content: dict[str, Any] = {}
    for name, value in vars(row).items():
        if isinstance(value, Interval):
            content[name] = value.mean
            limits = [value.low, value.high]
            content[f'{name}_interval'] = None if math.isnan(value.mean) else limits
        else:
            content[name] = value
    return plain(content)
