# SPDX-License-Identifier: Apache-2.0
"""From the relevancy of every point to places: relevance says which segments, they say how far.

Embeddings speak of crops as wide as a hand or an arm, so relevancy spills over a thing's edge. What
the snapshot's segments keep apart therefore stays apart: a segment that is relevant enough is the
place as a whole, and what is left of its relevancy around it is none.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from sklearn.cluster import DBSCAN

from lerf_ros.config import QueryConfig
from lerf_ros.query.answer import Hit
from lerf_ros.query.boxes import Box, minimal_box, upright_box
from lerf_ros.query.language_index import LanguageIndex

TIE_DECIMALS = 3    # relevancies that agree to this count as equal
SCORE_POINTS = 10   # a hit's relevancy is the mean of its best points: one noisy point is no hit
NOISE = 5           # fewer points that lie together are nothing


class Place(NamedTuple):
    """A hit with the indices of its points."""

    hit: Hit
    members: np.ndarray


def rank(hit: Hit) -> tuple[float, int]:
    """Best first; of places that fit equally well, such as patches of a floor, the largest."""
    return -round(hit.relevancy, TIE_DECIMALS), -hit.points


class PlaceFinder:
    """Finds places in one index; boxes of whole segments are kept once they were asked for."""

    def __init__(self, index: LanguageIndex, config: QueryConfig, radius: float) -> None:
        """radius: of the scene frame, world units; lengths of the configuration are parts of it."""
        self.index, self.config, self.radius = index, config, radius
        self._wholes: dict[int, tuple[np.ndarray, Box]] = {}
        self._trees: dict[int, cKDTree] = {}

    @cached_property
    def segments(self) -> list[np.ndarray]:
        """The indices of each segment's points."""
        order = np.argsort(self.index.segments, kind='stable')
        ends = np.cumsum(np.bincount(self.index.segments + 1, minlength=1))
        return np.split(order, ends[:-1])[1:] if len(ends) > 1 else []

    def find(self, values: np.ndarray, scales: np.ndarray, level: float,
             least: int) -> list[Place]:
        """Places of at least `least` points that reach the level, best first.

        values (N,) relevancies, scales (N,) indices of each point's best scale.
        """
        relevant = np.flatnonzero(values >= level)
        counts = np.bincount(self.index.segments[relevant] + 1,
                             minlength=len(self.segments) + 1)[1:]
        sizes = np.array([len(members) for members in self.segments], np.int64)
        whole = counts >= np.maximum(self.config.whole_share * sizes, NOISE)
        places = [self._whole(k, values, scales) for k in np.flatnonzero(whole).tolist()]
        chosen = np.append(whole, False)[self.index.segments[relevant]]   # -1 is no segment
        rest = self._apart(relevant[~chosen], np.flatnonzero(whole))
        places.extend(self.place_of(members, values, scales) for members in self.clusters(rest))
        return sorted((p for p in places if len(p.members) >= least),
                      key=lambda place: rank(place.hit))

    def _apart(self, points: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """Those of the points (indices) that no whole segment is near to: the others are spill."""
        reach = self.config.cluster_radius * self.radius
        for k in whole.tolist():
            if not len(points):
                break
            if k not in self._trees:
                self._trees[k] = cKDTree(self.index.points_world[self.segments[k]])
            distance, _ = self._trees[k].query(self.index.points_world[points],
                                               distance_upper_bound=reach)
            points = points[~np.isfinite(distance)]
        return points

    def clusters(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Those of the chosen points that lie together, cluster by cluster, noise left out.

        Points of two segments are never together.
        """
        out: list[np.ndarray] = []
        segments = self.index.segments[chosen]
        for k in np.unique(segments):
            own = chosen[segments == k]
            labels = DBSCAN(eps=self.config.cluster_radius * self.radius, min_samples=NOISE
                            ).fit_predict(self.index.points_world[own])
            out.extend(own[labels == label] for label in range(labels.max() + 1))
        return out

    def _whole(self, segment: int, values: np.ndarray, scales: np.ndarray) -> Place:
        if segment not in self._wholes:
            members = self.segments[segment]
            box = self.box(members)
            inside = box.contains(self.index.points_world[members])
            self._wholes[segment] = members[inside] if inside.any() else members, box
        return self._place(*self._wholes[segment], values, scales)

    def place_of(self, members: np.ndarray, values: np.ndarray, scales: np.ndarray) -> Place:
        """The place that these points (indices) make; what its box leaves out is no part of it."""
        box = self.box(members)
        inside = box.contains(self.index.points_world[members])
        return self._place(members[inside] if inside.any() else members, box, values, scales)

    def box(self, members: np.ndarray) -> Box:
        """The box around these points (indices), upright or not as configured."""
        points, c = self.index.points_world[members].astype(np.float64), self.config
        # One point in a hundred of few is none.
        trim = c.box_trim if len(points) >= 2 / max(c.box_trim, 1e-9) else 0.0
        if c.boxes == 'upright':
            return upright_box(points, self.index.planes, c.stand_reach * self.radius, trim)
        return minimal_box(points, trim)

    def _place(self, members: np.ndarray, box: Box, values: np.ndarray,
               scales: np.ndarray) -> Place:
        score = values[members]
        best = np.sort(score)[-SCORE_POINTS:]
        scale = np.bincount(scales[members], weights=score).argmax()
        return Place(Hit(
            position=box.center, rotation=box.rotation, size=box.size,
            relevancy=float(best.mean()), scale=float(self.index.scales[scale]),
            points=len(members), keyframes=int(np.median(self.index.keyframes[members]))), members)
