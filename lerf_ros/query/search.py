# SPDX-License-Identifier: Apache-2.0
"""What phrases find in an index: each its own places, as if it was asked alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lerf_ros.geometry.region import Region
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import NEUTRAL, Hit
from lerf_ros.query.places import Place, sort_key
from lerf_ros.query.presence import Calibration, is_worth_telling
from lerf_ros.query.text_query import Fit, TextQuery

TOGETHER = 16   # phrases that are compared with the points at once: more only take memory


@dataclass(frozen=True)
class PhraseResult:
    """What one phrase found. places: best first.

    candidate: the best place, however low; None where none beats the negatives. fit: how well what
    a phrase says of colours and relations holds for the best place, 0..1; NaN where nobody can
    tell, as without the thing that it is related to. reason: which part of the phrase holds for
    none of the places of its noun, or why that is not known; empty where that is not why.
    looks_more_like: words that fit the best place better, the best first.
    """

    name: str
    places: tuple[Place, ...]
    candidate: Hit | None
    fit: float = 1.0
    reason: str = ''
    looks_more_like: tuple[str, ...] = ()

    @property
    def hits(self) -> tuple[Hit, ...]:
        """Returns the places without their points."""
        return tuple(place.hit for place in self.places)


@dataclass(frozen=True)
class SearchResult:
    """What a question found in an index of N points.

    relevancy (N,): of the phrase that fits the point best. labels (N,): index of that phrase.
    phrases: what each of them found.
    """

    relevancy: np.ndarray
    labels: np.ndarray
    phrases: tuple[PhraseResult, ...]

    def worth_telling(self) -> SearchResult:
        """Returns the same without further places that are more likely wrong than right."""
        return replace(self, phrases=tuple(replace(phrase, places=tuple(
            place for rank, place in enumerate(phrase.places)
            if is_worth_telling(rank, place.hit))) for phrase in self.phrases))

    @property
    def places(self) -> tuple[Place, ...]:
        """Returns the places of all phrases, best first."""
        return tuple(sorted((place for phrase in self.phrases for place in phrase.places),
                            key=lambda place: sort_key(place.hit)))

    @property
    def hits(self) -> tuple[Hit, ...]:
        """Returns the places of all phrases without their points, best first."""
        return tuple(place.hit for place in self.places)

    @property
    def hit_numbers(self) -> np.ndarray:
        """Returns which of the hits, from 1, each point is part of, (N,) uint32; 0 for none."""
        out = np.zeros(len(self.relevancy), np.uint32)
        for number, place in reversed(list(enumerate(self.places, 1))):     # the best one counts
            out[place.members] = number
        return out


class Limits(NamedTuple):
    """threshold: relevancy that a place must reach. most: places of each phrase, at most.

    calibration: gives places their probabilities; None for no probabilities.
    """

    threshold: float
    most: int
    calibration: Calibration | None = None


def inside_region(index: LanguageIndex, region: Region) -> np.ndarray:
    """Returns which points of the index lie in the region, (N,) bool."""
    R, center = region.T_world_region[:3, :3], region.T_world_region[:3, 3] - index.origin
    # Most points lie apart from it along the axes of the map, which is found in less time.
    reach = np.abs(R) @ region.size / 2
    reach = reach + 1e-5 * (1 + reach + np.abs(center))     # what single precision may be off
    near = np.ones(len(index.points), bool)
    for axis, (low, high) in enumerate(zip(center - reach, center + reach, strict=True)):
        along = index.points[:, axis]
        near &= (along >= np.float32(low)) & (along <= np.float32(high))
    asked = np.flatnonzero(near)
    near[asked] = (np.abs((index.points[asked] - center) @ R) <= region.size / 2).all(1)
    return near


def search(query: TextQuery, names: Sequence[str], phrases: np.ndarray, negatives: np.ndarray,
           inside: np.ndarray | None, limits: Limits, look: bool = True) -> SearchResult:
    """Looks for each of the phrases.

    phrases (P, D), negatives (M, D): unit embeddings. inside (N,) bool: points that may be used;
    None for all. Outside of them every relevancy is 0. look: whether second looks take part, if
    there are any.
    """
    basis = query.index.basis                                           # (D, r)
    codes, canonical = phrases @ basis, negatives @ basis
    looked = query.looks.of(phrases, negatives) if look and query.looks_again else None
    relevancy = np.zeros(len(query.index.points), np.float32)
    labels, found = np.zeros(len(relevancy), np.uint32), []
    for start in range(0, len(codes), TOGETHER):
        fields = zip(*query.scorer.each_phrase(codes[start:start + TOGETHER], canonical),
                     strict=True)
        for label, (values, scales) in enumerate(fields, start):
            own = values if inside is None else np.where(inside, values, 0.0)
            better = own > relevancy
            relevancy[better], labels[better] = own[better], label
            fit = Fit(own if looked is None else query.with_looks(own, looked.segments[label]),
                      scales, own)
            result = search_phrase(query, names[label], fit, limits)
            found.append(result if looked is None else
                         confirmed(query, result, looked.views[label]))
    return SearchResult(relevancy, labels, tuple(found))


def search_phrase(query: TextQuery, name: str, fit: Fit, limits: Limits) -> PhraseResult:
    """Looks for one phrase, of which is known how well it fits each point."""
    places = tuple(named(place, name, limits.calibration) for place in query.places(
        fit.values, fit.scales, limits.threshold, limits.most, fit.field))
    return PhraseResult(name, places, places[0].hit if places else best_candidate(query, fit))


def confirmed(query: TextQuery, result: PhraseResult, views: np.ndarray) -> PhraseResult:
    """Returns what was found with the keyframes that confirm it.

    views (C,): relevancies of the phrase in each second look.
    """
    places = tuple(Place(replace(place.hit, confirmed_by=query.looks.confirming(np.unique(
        query.index.segments[place.members]), views)), place.members) for place in result.places)
    return replace(result, places=places,
                   candidate=places[0].hit if places else result.candidate)


def named(place: Place, name: str, calibration: Calibration | None) -> Place:
    """Returns the place with a label and a probability in its hit."""
    probability = math.nan if calibration is None else calibration.of_hit(place.hit)
    return Place(replace(place.hit, label=name, probability=probability), place.members)


def best_candidate(query: TextQuery, fit: Fit) -> Hit | None:
    """Returns the best place, however low; None where too few points beat the negatives."""
    if np.count_nonzero(fit.values > NEUTRAL) < 2 * query.config.min_points:
        return None
    place = query.best_place(fit)
    return place.hit if place else None
