# SPDX-License-Identifier: Apache-2.0
"""From a phrase to ranked places: relevancy of every point, clusters, boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from sklearn.cluster import DBSCAN

from lerf_ros.config import QueryConfig
from lerf_ros.errors import EmptyTextError, InvalidThresholdError
from lerf_ros.query.answer import Hit
from lerf_ros.query.language_index import LanguageIndex
from lerf_ros.query.relevancy import relevancy

TIE_DECIMALS = 3    # relevancies that agree to this count as equal
SCORE_POINTS = 10   # a hit's relevancy is the mean of its best points: one noisy point is no hit


class TextEncoder(Protocol):
    """The part of an image-text encoder that a query needs."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray: ...


class Place(NamedTuple):
    """A hit with the indices of its points."""

    hit: Hit
    members: np.ndarray


def check_request(text: str, threshold: float) -> None:
    """Raises EmptyTextError or InvalidThresholdError."""
    if not text.strip():
        raise EmptyTextError('the phrase is empty: say what to look for, such as "red mug"')
    if not (math.isfinite(threshold) and 0 <= threshold <= 1):
        raise InvalidThresholdError(f'threshold {threshold} is not between 0 and 1 '
                                    '(0 takes the configured one)')


def rank(hit: Hit) -> tuple[float, int]:
    """Best first; of places that fit equally well, such as patches of a floor, the largest."""
    return -round(hit.relevancy, TIE_DECIMALS), -hit.points


class TextQuery:
    """Answers phrases from one index; holds no state of any query."""

    def __init__(self, index: LanguageIndex, encoder: TextEncoder, config: QueryConfig,
                 radius: float) -> None:
        """radius: of the scene frame, world units; lengths of the configuration are parts of it."""
        self.index, self.encoder, self.config, self.radius = index, encoder, config, radius

    def relevancy(self, text: str, negatives: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Relevancy (N,) of every point and its best scale (N,), an index into the scales."""
        phrases = [text, *(negatives or self.config.negatives)]
        codes = self.encoder.encode_texts(phrases) @ self.index.basis
        return relevancy(self.index.codes, codes[0], codes[1:], self.config.temperature)

    def hits(self, values: np.ndarray, scales: np.ndarray, threshold: float,
             max_hits: int) -> list[Hit]:
        """Clusters of relevant points, best first, none below the threshold."""
        return [place.hit for place in self.places(values, scales, threshold, max_hits)]

    def places(self, values: np.ndarray, scales: np.ndarray, threshold: float,
               max_hits: int) -> list[Place]:
        """The hits with their points, best first, none below the threshold."""
        if not len(values) or values.max() < threshold:
            return []
        chosen = np.flatnonzero(values >= max(self._level(values), threshold))
        places = [self.place_of(members, values, scales) for members in self.clusters(chosen)
                  if len(members) >= self.config.min_points]
        places = [place for place in places if place.hit.relevancy >= threshold]
        return sorted(places, key=lambda place: rank(place.hit))[:max_hits]

    def best_place(self, values: np.ndarray, scales: np.ndarray) -> Place | None:
        """Where a phrase is if it is anywhere: the best cluster, however low, and its points.

        Localization asks this of things that are known to be there; whether they are is the
        threshold's question. None without points.
        """
        enough = 2 * self.config.min_points
        if len(values) < enough:
            return None
        level = min(self._level(values), float(np.partition(values, -enough)[-enough]))
        places = [self.place_of(members, values, scales)
                  for members in self.clusters(np.flatnonzero(values >= level))]
        return min(places, key=lambda place: rank(place.hit)) if places else None

    def _level(self, values: np.ndarray) -> float:
        """The relevancy from which a point belongs to a hit.

        The paper's colour rule: relevancy counts from 0.5, where the phrase and its strongest
        negative fit equally well, up to the maximum.
        """
        top = float(values.max())
        return top - (1 - self.config.relevant_fraction) * max(top - 0.5, 0.0)

    def clusters(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Those of the chosen points that lie together, cluster by cluster, noise left out."""
        if not len(chosen):
            return []
        labels = DBSCAN(eps=self.config.cluster_radius * self.radius, min_samples=5
                        ).fit_predict(self.index.points_world[chosen])
        return [chosen[labels == label] for label in range(labels.max() + 1)]

    def place_of(self, members: np.ndarray, values: np.ndarray, scales: np.ndarray) -> Place:
        """The place that these points (indices) make."""
        points, score = self.index.points_world[members].astype(np.float64), values[members]
        low, high = np.percentile(points, (2, 98), axis=0)
        best = np.sort(score)[-SCORE_POINTS:]
        scale = np.bincount(scales[members], weights=score).argmax()
        hit = Hit(position=(low + high) / 2, rotation=np.eye(3), size=high - low,
                  relevancy=float(best.mean()), scale=float(self.index.scales[scale]),
                  points=len(members), keyframes=int(np.median(self.index.keyframes[members])))
        return Place(hit, members)
