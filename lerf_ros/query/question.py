# SPDX-License-Identifier: Apache-2.0
"""A request as embeddings, and what it finds in an index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.geometry.region import Region
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import Hit
from lerf_ros.query.parts import part_phrase
from lerf_ros.query.presence import EVEN, Calibration
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import (
    Place,
    TextEncoder,
    TextQuery,
    check_language,
    check_readable,
    rank,
)


@dataclass(frozen=True)
class Question:
    """What to look for: unit embeddings (P, D) with their names, and those to win against (M, D).

    names: what a hit of each is called, P of them. part: the part of it that is wanted, with
    unit embeddings (P, D) of that part of each; empty and None for the thing itself. doubt: why
    it may not have been understood, empty where it was.
    """

    names: tuple[str, ...]
    positives: np.ndarray
    negatives: np.ndarray
    part: str = ''
    parts: np.ndarray | None = None
    doubt: str = ''


@dataclass(frozen=True)
class SearchResult:
    """relevancy (N,) of each index point's best phrase, which one that is (N,), and the places.

    candidate: the best place of all; None where no place beats the negatives.
    """

    relevancy: np.ndarray
    labels: np.ndarray
    places: tuple[Place, ...]
    candidate: Hit | None

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The places without their points."""
        return tuple(place.hit for place in self.places)


def negative_phrases(request: QueryRequest, configured: Sequence[str]) -> list[str]:
    """What the request must win against: its negatives or the configured ones, and the rivals."""
    return [*(request.negatives or configured), *request.rather_than]


def encode_phrases(request: QueryRequest, encoder: TextEncoder,
                   configured: Sequence[str]) -> Question:
    """The question of a request in words; all of its phrases go through the encoder at once.

    Raises NotUnderstoodError for phrases that it cannot read.
    """
    phrases, part = request.phrases, request.part.strip()
    of_parts = [part_phrase(text, part) for text in phrases] if part else []
    rivals = negative_phrases(request, configured)
    check_readable(encoder, [*phrases, *filter(None, [part]), *rivals])
    rows = encoder.encode_texts([*phrases, *of_parts, *rivals])
    things, parts, negatives = np.split(rows, np.cumsum([len(phrases), len(of_parts)]))
    doubt = check_language(encoder, phrases, things)
    return Question(phrases, things, negatives, part, parts if part else None, doubt)


def picture_question(request: QueryRequest, picture: np.ndarray, query: TextQuery) -> Question:
    """The question of a request with a picture, whose embedding is (1, D).

    Pictures are nearer to each other than to any phrase, so a place must look more like this
    picture than like the map in general; that also counts as something to win against.
    """
    phrases, part = negative_phrases(request, query.config.negatives), request.part.strip()
    generic = query.index.mean_embedding()
    name = 'picture' if request.crop is None else f'keyframe {request.crop.keyframe}'
    asked = [*phrases, part] if part else phrases
    check_readable(query.encoder, asked)
    rows = query.encoder.encode_texts(asked)
    return Question((name,), picture, np.concatenate([rows[:len(phrases)], generic[None]]), part,
                    rows[len(phrases):] if part else None)


def inside_region(index: LanguageIndex, region: Region) -> np.ndarray:
    """Which of the index's points (N, 3) lie in the box (N,)."""
    R, center = region.T_world_region[:3, :3], region.T_world_region[:3, 3] - index.origin
    return (np.abs((index.points - center) @ R) <= region.size / 2).all(1)


def places_of_phrases(query: TextQuery, names: Sequence[str], values: np.ndarray,
                      scales: np.ndarray, labels: np.ndarray, threshold: float, most: int,
                      calibration: Calibration | None) -> list[tuple[Place, int]]:
    """Returns the best places of all phrases, each made of its own points, and whose they are.

    values (N,) relevancies, scales (N,) and labels (N,): each point's best scale and phrase.
    """
    places: list[tuple[Place, int]] = []
    for label in range(len(names)):
        own = values if len(names) == 1 else np.where(labels == label, values, 0.0)
        places.extend((place, label) for place in query.places(own, scales, threshold, most))
    best = sorted(places, key=lambda place: rank(place[0].hit))[:most]
    return [(named(place, names[label], calibration), label) for place, label in best]


def named(place: Place, name: str, calibration: Calibration | None) -> Place:
    """The place with the name and the probability of its hit."""
    probability = math.nan if calibration is None else calibration.of_hit(place.hit)
    return Place(replace(place.hit, label=name, probability=probability), place.members)


def best_candidate(query: TextQuery, values: np.ndarray, scales: np.ndarray) -> Hit | None:
    """The best place, however low; None where too few points beat the negatives for one."""
    if np.count_nonzero(values > EVEN) < 2 * query.config.min_points:
        return None
    place = query.best_place(values, scales)
    return place.hit if place else None
