# SPDX-License-Identifier: Apache-2.0
"""Does the map say which things are there? LERF's existence test (section 4.4).

A phrase is said to exist when the relevancy of any point of the map reaches a threshold, so its
score is its highest relevancy over the map. Sweeping the threshold over the phrases' scores gives
precision and recall. Absent phrases near a present one in meaning are judged apart from those far
from every one: no encoder tells a cup from a mug.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from lerf_ros.errors import DatasetError

# From this cosine of their sentence embeddings on, two phrases are near in meaning.
NEAR_COSINE = 0.6


@dataclass(frozen=True)
class PrecisionRecall:
    """The phrases that are said to exist at each threshold, against those that do.

    thresholds (T,): the scores that occur, ascending. precision (T,), recall (T,): of the
    phrases whose score is at least the threshold. average_precision: the sum over thresholds of
    precision times the recall gained there; chance is the share of present phrases.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    average_precision: float


class AbsentWords(NamedTuple):
    """Phrases for things that are not there, by their nearness in meaning to what is."""

    far: tuple[str, ...]
    near: tuple[str, ...]


def existence_curve(scores: np.ndarray, present: np.ndarray) -> PrecisionRecall:
    """Precision and recall of scores (N,) of phrases that are present (N,) bool or not.

    Equal scores share one threshold. Raises DatasetError when no phrase is present.
    """
    if not np.any(present):
        raise DatasetError('existence cannot be judged: none of the phrases is present')
    precision, recall, thresholds = precision_recall_curve(present, scores)
    # scikit-learn ends with a point of no threshold: recall 0, precision 1.
    return PrecisionRecall(thresholds, precision[:-1], recall[:-1],
                           average_precision(scores, present))


def average_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """The curve's average precision; NaN when no phrase is present (as a resample may have it)."""
    if not np.any(present):
        return float('nan')
    return float(average_precision_score(present, scores))


def absent_words(present_texts: Sequence[str], candidates: Iterable[str],
                 encode_texts: Callable[[Sequence[str]], np.ndarray],
                 near: float = NEAR_COSINE) -> AbsentWords:
    """Splits candidates into those far from and those near to every present text.

    A candidate is near when its largest cosine to a present text exceeds `near`. Dropped: a
    candidate that equals a present text, contains it ('coffee mug' for 'mug') or is contained in
    it (who sees a coffee mug sees a mug), word by word and without plurals. Order is kept,
    repetitions are not. encode_texts: N phrases to (N, dimension), sentence embeddings.
    """
    absent = [text for text in dict.fromkeys(candidates)
              if not any(overlap(text, other) for other in present_texts)]
    if not absent or not present_texts:
        return AbsentWords(tuple(absent), ())
    cosine = unit_rows(encode_texts(absent)) @ unit_rows(encode_texts(list(present_texts))).T
    is_near = cosine.max(1) > near
    return AbsentWords(tuple(text for text, n in zip(absent, is_near) if not n),
                       tuple(text for text, n in zip(absent, is_near) if n))


def overlap(a: str, b: str) -> bool:
    """True when the words of one phrase occur in the other one after the other."""
    short, long = sorted((words(a), words(b)), key=len)
    return bool(short) and any(long[i:i + len(short)] == short
                               for i in range(len(long) - len(short) + 1))


def words(text: str) -> list[str]:
    """Words in lower case without articles and without a plural's s."""
    spaced = text.lower().replace('-', ' ').split()
    return [word.removesuffix('s') for word in spaced if word not in ('a', 'an', 'the')]


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length one."""
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
