# SPDX-License-Identifier: Apache-2.0
"""How sure a score is: percentile bootstrap over objects, or over whole scenes.

Objects of one scene share its radiance field and its views, so they are not independent. With
`groups` (one label per object, its scene) whole scenes are drawn with replacement and each brings
all of its objects; this is the honest choice as soon as there are enough scenes to draw from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

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
