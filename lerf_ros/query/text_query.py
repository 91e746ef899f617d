# SPDX-License-Identifier: Apache-2.0
"""From a phrase to ranked places: relevancy of every point, and the places that it makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from lerf_ros.config import QueryConfig
from lerf_ros.errors import EmptyTextError, InvalidThresholdError, NotUnderstoodError
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import Hit
from lerf_ros.query.places import NOISE, SCORE_POINTS, Place, PlaceFinder, rank
from lerf_ros.query.relevancy import Scorer

__all__ = ['SCORE_POINTS', 'Place', 'TextEncoder', 'TextQuery', 'check_request', 'rank']


class TextEncoder(Protocol):
    """The part of an image-text encoder that a query needs."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray: ...


@runtime_checkable
class ReadingEncoder(Protocol):
    """An encoder that knows which phrases it cannot read."""

    def unreadable(self, text: str) -> str:
        """Why a phrase cannot be read; empty where it can."""


@runtime_checkable
class LanguageJudge(Protocol):
    """An encoder that knows one language, and can tell from an embedding whether it was that."""

    def doubts(self, texts: Sequence[str], rows: np.ndarray) -> tuple[list[str], list[str]]:
        """Those of the texts, with embeddings (N, D), that are not of it, and that may not be."""


def check_language(encoder: TextEncoder, texts: Sequence[str], rows: np.ndarray) -> str:
    """A word on phrases, with embeddings (N, D), that may not be English; empty for none.

    Raises NotUnderstoodError for those that surely are not.
    """
    if not isinstance(encoder, LanguageJudge):
        return ''
    foreign, doubtful = encoder.doubts(texts, rows)
    if foreign:
        raise NotUnderstoodError(
            f"the map's encoder reads English alone, and {', '.join(map(repr, foreign))} is not: "
            'nothing can be said of whether it is there. Ask in English words, or with a picture')
    return (f'{", ".join(map(repr, doubtful))} may not be English, which is all that the '
            "map's encoder reads") if doubtful else ''


def check_readable(encoder: TextEncoder, texts: Sequence[str]) -> None:
    """Raises NotUnderstoodError, which names the phrases that the encoder cannot read."""
    if not isinstance(encoder, ReadingEncoder):
        return
    unread = [f'{text!r} ({why})' for text in texts if (why := encoder.unreadable(text))]
    if unread:
        raise NotUnderstoodError(
            f"the map's encoder cannot read {', '.join(unread)}: nothing can be said of whether it "
            'is there. Ask in English words, or with a picture')


def check_request(text: str, threshold: float) -> None:
    """Raises EmptyTextError or InvalidThresholdError."""
    if not text.strip():
        raise EmptyTextError('the phrase is empty: say what to look for, such as "red mug"')
    if not (math.isfinite(threshold) and 0 <= threshold <= 1):
        raise InvalidThresholdError(f'threshold {threshold} is not between 0 and 1 '
                                    '(0 takes the configured one)')


class TextQuery:
    """Answers phrases from one index; holds no state of any query."""

    def __init__(self, index: LanguageIndex, encoder: TextEncoder, config: QueryConfig,
                 radius: float) -> None:
        """radius: of the scene frame, world units; lengths of the configuration are parts of it."""
        self.index, self.encoder, self.config, self.radius = index, encoder, config, radius
        self.finder = PlaceFinder(index, config, radius)

    @cached_property
    def scorer(self) -> Scorer:
        """What compares phrases with the index's points."""
        return Scorer(self.index.codes, self.config.temperature)

    def best_phrase(self, positives: np.ndarray, negatives: np.ndarray
                    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each point the phrase that fits best: see `Scorer.best_phrase`; codes of the basis."""
        return self.scorer.best_phrase(positives, negatives)

    def relevancy(self, text: str, negatives: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Relevancy (N,) of every point and its best scale (N,), an index into the scales."""
        phrases = [text, *(negatives or self.config.negatives)]
        codes = self.encoder.encode_texts(phrases) @ self.index.basis
        return self.best_phrase(codes[:1], codes[1:])[:2]

    def hits(self, values: np.ndarray, scales: np.ndarray, threshold: float,
             max_hits: int) -> list[Hit]:
        """The places' hits, best first, none below the threshold."""
        return [place.hit for place in self.places(values, scales, threshold, max_hits)]

    def places(self, values: np.ndarray, scales: np.ndarray, threshold: float,
               max_hits: int) -> list[Place]:
        """The hits with their points, best first, none below the threshold."""
        if not len(values) or values.max() < threshold:
            return []
        places = self.finder.find(values, scales, max(self._level(values), threshold),
                                  self.config.min_points, max_hits)
        # A box leaves out strays, so that fewer points may be left than were relevant.
        return [place for place in places if place.hit.relevancy >= threshold
                and place.hit.points >= self.config.min_points]

    def best_place(self, values: np.ndarray, scales: np.ndarray) -> Place | None:
        """Where a phrase is if it is anywhere: the best place, however low, and its points.

        Localization asks this of things that are known to be there; whether they are is the
        threshold's question. None without points.
        """
        enough = 2 * self.config.min_points
        if len(values) < enough:
            return None
        level = min(self._level(values), float(np.partition(values, -enough)[-enough]))
        places = self.finder.find(values, scales, level, NOISE, 1)
        return places[0] if places else None

    def _level(self, values: np.ndarray) -> float:
        """The relevancy from which a point belongs to a hit.

        The paper's colour rule: relevancy counts from 0.5, where the phrase and its strongest
        negative fit equally well, up to the maximum.
        """
        top = float(values.max())
        return top - (1 - self.config.relevant_fraction) * max(top - 0.5, 0.0)

    def clusters(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Those of the chosen points (indices) that lie together, of whatever segments."""
        return self.finder.clusters(chosen, across=True)

    def part_of(self, members: np.ndarray, values: np.ndarray, scales: np.ndarray) -> Place:
        """The place that these points (indices) of a thing make; a part need not stand."""
        return self.finder.place_of(members, values, scales, stands=False)
