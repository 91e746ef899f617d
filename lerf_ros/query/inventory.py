# SPDX-License-Identifier: Apache-2.0
"""What is there: the segments of a map, each with the names that fit it best.

A segment is found by shape and look, before any phrase is known, so a list misses nothing because
nobody thought of its name. The names are guesses: each is scored as a query for it would score this
segment, but the best of hundreds of names is right less often than its probability, which is that
of a single phrase. A name below the threshold is no more than the nearest one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.query.answer import Hit
from lerf_ros.query.places import SCORE_POINTS
from lerf_ros.query.presence import Calibration
from lerf_ros.query.text_query import TextQuery

CHUNK = 32              # names scored at once
MOST_NAMES = 3          # of an item


@dataclass(frozen=True)
class Guess:
    """A name that fits: its relevancy, 0..1, and probability, NaN without a calibration."""

    text: str
    relevancy: float
    probability: float = math.nan


@dataclass(frozen=True)
class Item:
    """A segment: its box as a hit whose label is the best name, and the names, best first.

    segment: its number in the index. named: whether the best name reaches the threshold. surface:
    whether it is a supporting surface, such as a table.
    """

    segment: int
    hit: Hit
    names: tuple[Guess, ...]
    named: bool
    surface: bool


def inventory(query: TextQuery, names: Sequence[str],
              calibration: Calibration | None = None) -> tuple[Item, ...]:
    """Returns all segments of at least `query.min_points` points, those with sure names first.

    Raises NotUnderstoodError for names that the encoder cannot read.
    """
    kept = [k for k, members in enumerate(query.finder.segments)
            if len(members) >= query.config.min_points]
    if not kept or not names:
        return ()
    scores = segment_scores(query, names, kept)                         # (V, K)
    items = []
    for column, k in enumerate(kept):
        whole = whole_segment(query, k)
        guesses = best_guesses(names, scores[:, column], whole, calibration)
        items.append(Item(k, replace(whole, relevancy=guesses[0].relevancy, label=guesses[0].text,
                                     probability=guesses[0].probability),
                          guesses, guesses[0].relevancy >= query.config.threshold,
                          k < len(query.index.planes)))
    return tuple(sorted(items, key=lambda item: (item.surface, -item.hit.relevancy)))


def names_of(query: TextQuery, names: Sequence[str], segment: int,
             calibration: Calibration | None = None) -> tuple[Guess, ...]:
    """Returns the names that fit one segment best, the best first.

    segment: its number in the index. Raises NotUnderstoodError as `inventory`.
    """
    return best_guesses(names, segment_scores(query, names, [segment])[:, 0],
                        whole_segment(query, segment), calibration)


def whole_segment(query: TextQuery, segment: int) -> Hit:
    """Returns a segment, by its number in the index, as a hit of no phrase."""
    nothing = np.zeros(len(query.index.points), np.float32)
    return query.finder.place_of(query.finder.segments[segment], nothing,
                                 nothing.astype(np.int64)).hit


def best_guesses(names: Sequence[str], scores: np.ndarray, whole: Hit,
                 calibration: Calibration | None) -> tuple[Guess, ...]:
    """Returns the best of names with the relevancies (V,) for a segment, the best first."""
    best = np.argsort(-scores, kind='stable')[:MOST_NAMES].tolist()
    return tuple(guess(names[v], float(scores[v]), whole, calibration) for v in best)


def guess(name: str, relevancy: float, hit: Hit, calibration: Calibration | None) -> Guess:
    """Returns a name for a segment with its probability, as if it alone was asked for."""
    return Guess(name, relevancy, math.nan if calibration is None else calibration.of_hit(
        replace(hit, relevancy=relevancy)))


def segment_scores(query: TextQuery, names: Sequence[str], segments: Sequence[int]) -> np.ndarray:
    """Returns the relevancies (V, K) of names at segments, by the rule of a query for each."""
    rows = query.encoder.encode_texts([*names, *query.config.negatives])
    phrases, negatives = rows[:len(names)], rows[len(names):]
    basis = query.index.basis
    out = np.zeros((len(names), len(segments)), np.float32)
    for start in range(0, len(names), CHUNK):
        part = phrases[start:start + CHUNK]
        values, _ = query.scorer.each_phrase(part @ basis, negatives @ basis)
        if query.looks_again:
            looked = query.looks.of(part, negatives).segments
            values = np.stack([query.with_looks(*pair) for pair in zip(values, looked,
                                                                       strict=True)])
        for column, k in enumerate(segments):
            own = values[:, query.finder.segments[k]]
            count = own.shape[1]
            most = min(count, max(SCORE_POINTS, round(query.config.whole_share * count)))
            out[start:start + CHUNK, column] = np.partition(
                own, count - most, axis=1)[:, count - most:].mean(1)
    return out
