# SPDX-License-Identifier: Apache-2.0
"""One language index, ready to be asked: relevancy of every point, and the places it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from lerf_ros.config import QueryConfig
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import NEUTRAL
from lerf_ros.query.phrases.colors import balanced
from lerf_ros.query.places import HALF, NOISE, Place, PlaceFinder, way_to
from lerf_ros.query.relevancy import Scorer
from lerf_ros.query.second_look import LookScorer, combined


class TextEncoder(Protocol):
    """The part of an image-text encoder that a query needs."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the unit embeddings (N, D) of N phrases."""


class Fit(NamedTuple):
    """How well a phrase fits N points.

    values (N,): relevancies, scales (N,): each point's best scale, as an index. field (N,): what
    the language field alone says.
    """

    values: np.ndarray
    scales: np.ndarray
    field: np.ndarray


class TextQuery:
    """Answers phrases from one index. It holds no state of any single query."""

    def __init__(self, index: LanguageIndex, encoder: TextEncoder, config: QueryConfig,
                 radius: float, device: str = 'cpu') -> None:
        """radius: of the scene frame, world units; the configured lengths are multiples of it.

        device: what compares phrases with the points.
        """
        self.index, self.encoder, self.config, self.radius = index, encoder, config, radius
        self.device = device
        self.finder = PlaceFinder(index, config, radius)

    @cached_property
    def scorer(self) -> Scorer:
        """Returns what compares phrases with the points of the index."""
        return Scorer(self.index.codes, self.config.temperature, self.device)

    @cached_property
    def lab(self) -> np.ndarray:
        """Returns the colours (N, 3) of the points, CIELAB, freed of the cast of the light."""
        return balanced(self.index.colors)

    @cached_property
    def generous(self) -> TextQuery:
        """Returns a query that also finds places which fit half as well as the best one.

        Among them something else decides, such as a colour that the encoder does not see.
        """
        fraction = min(self.config.relevant_fraction, HALF)
        other = TextQuery(self.index, self.encoder, replace(
            self.config, relevant_fraction=fraction), self.radius, self.device)
        other.__dict__.update(scorer=self.scorer, lab=self.lab, looks=self.looks)
        return other

    @cached_property
    def looks(self) -> LookScorer:
        """Returns what compares phrases with the second looks of the index."""
        return LookScorer(self.index.looks, len(self.finder.segments), self.config.temperature)

    @property
    def looks_again(self) -> bool:
        """Returns whether second looks take part in the answers."""
        return self.config.look_weight > 0 and len(self.index.looks) > 0

    def relevancy(self, text: str, negatives: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Returns the field's relevancy (N,) of every point, and its best scale (N,), an index."""
        fit = self.fit(text, negatives)
        return fit.field, fit.scales

    def fit(self, text: str, negatives: Sequence[str] = ()) -> Fit:
        """Returns how well a phrase fits every point, with second looks where there are any."""
        rows = self.encoder.encode_texts([text, *(negatives or self.config.negatives)])
        return self.fit_row(rows[0], rows[1:])

    def fit_row(self, phrase: np.ndarray, negatives: np.ndarray) -> Fit:
        """Returns `fit` of a phrase (D,) and negatives (M, D) that are encoded already."""
        row, basis = phrase[None], self.index.basis
        field, scales, _ = self.scorer.best_phrase(row @ basis, negatives @ basis)
        return Fit(self.with_looks(field, self.looks.of(row, negatives).segments[0])
                   if self.looks_again else field, scales, field)

    def with_looks(self, field: np.ndarray, looked: np.ndarray) -> np.ndarray:
        """Returns the relevancies (N,) of the field combined with those of second looks (S,)."""
        return combined(field, self.finder.segments, looked, self.config.look_weight,
                        self.config.whole_share)

    def places(self, values: np.ndarray, scales: np.ndarray, threshold: float, max_hits: int,
               field: np.ndarray | None = None) -> list[Place]:
        """Returns at most `max_hits` places that reach the threshold, best first.

        values, scales, field (N,): as in Fit; without second looks there is no field beside the
        values.
        """
        if not len(values) or values.max() < threshold:
            return []
        places = self.finder.find(values, scales, threshold, self.config.min_points, max_hits,
                                  field)
        # A box leaves outliers out, so a place may keep fewer points than were relevant.
        return [place for place in places if place.hit.relevancy >= threshold
                and place.hit.points >= self.config.min_points]

    def best_place(self, fit: Fit) -> Place | None:
        """Returns the best place, however low its relevancy; None where there are too few points.

        Localization asks for things that are known to be there. Whether a thing is there at all
        is a question of the threshold.
        """
        values, enough = fit.values, 2 * self.config.min_points
        if len(values) < enough:
            return None
        floor = min(way_to(float(values.max()), self.config.relevant_fraction),
                    float(np.partition(values, -enough)[-enough]))
        places = self.finder.find(values, fit.scales, floor, NOISE, 1, fit.field)
        if not places and fit.field is not values:
            # All that reaches the floor is spill of things that second looks refuse.
            places = self.finder.find(values, fit.scales, min(floor, NEUTRAL), NOISE, 1, fit.field)
        return places[0] if places else None
