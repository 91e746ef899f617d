# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals around scores.

scipy's bootstrap refuses a single object or scene, and a statistic that is undefined for some
resamples; both occur here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval. mean: the statistic of the data itself."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedInterval:
    """The mean of a - b over the same objects, with its confidence interval.

    p_not_below: fraction of the resamples in which a was not worse than b.
    """

    difference: float
    low: float
    high: float
    p_not_below: float


NOT_MEASURED = Interval(math.nan, math.nan, math.nan)


def mean_interval(values: np.ndarray, samples: int = SAMPLES, level: float = LEVEL, seed: int = 0,
                  groups: Sequence[object] | None = None) -> Interval:
    """Returns the mean of values (N,) with the interval that holds `level` of the resamples.

    The same data and seed give the same interval. Raises ValueError without values.
    """
    values = np.asarray(values, np.float64)
    return statistic_interval(lambda index: float(values[index].mean()), len(values), samples,
                              level, seed, groups)


def paired_difference(a: np.ndarray, b: np.ndarray, samples: int = SAMPLES, level: float = LEVEL,
                      seed: int = 0, groups: Sequence[object] | None = None) -> PairedInterval:
    """Returns by how much a (N,) exceeds b (N,) on the same objects; resamples draw pairs."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    means = np.array([difference[index].mean()
                      for index in resamples(len(difference), samples, seed, groups)])
    # A mean of 0 must not count as below because its sum was rounded.
    return PairedInterval(float(difference.mean()), *limits(means, level),
                          float((means >= -1e-12).mean()))


def statistic_interval(statistic: Callable[[np.ndarray], float], count: int,
                       samples: int = SAMPLES, level: float = LEVEL, seed: int = 0,
                       groups: Sequence[object] | None = None) -> Interval:
    """Returns any statistic of `count` objects, such as an average precision, with its interval.

    statistic: maps indices (M,) of objects, which may repeat, to a number. Where it is not defined
    it returns NaN, and the resample does not count.
    """
    drawn = np.array([statistic(index) for index in resamples(count, samples, seed, groups)])
    return Interval(float(statistic(np.arange(count))), *limits(drawn, level))


def resamples(count: int, samples: int, seed: int,
              groups: Sequence[object] | None = None) -> Iterator[np.ndarray]:
    """Yields `samples` times indices drawn with replacement: of objects, or of all of a group."""
    if count < 1:
        raise ValueError('there is nothing to draw from')
    if groups is not None and len(groups) != count:
        raise ValueError(f'{len(groups)} groups for {count} objects: one each is needed')
    members: dict[object, list[int]] = {}
    for i in range(count):
        members.setdefault(i if groups is None else groups[i], []).append(i)
    indices = [np.array(group) for group in members.values()]
    size = (samples, len(indices))
    for drawn in np.random.default_rng(seed).integers(len(indices), size=size):
        yield np.concatenate([indices[i] for i in drawn])


def limits(drawn: np.ndarray, level: float) -> tuple[float, float]:
    """Returns the two quantiles that hold `level` of the numbers between them; ignores NaN."""
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return math.nan, math.nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
