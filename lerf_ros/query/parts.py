# SPDX-License-Identifier: Apache-2.0
"""Parts of things: first the thing with its extent, then the part among the thing's own points.

The idea is LERF-TOGO's (Rashid et al., CoRL 2023): a part's name alone is found all over a scene,
so it may only choose within a mask of the object. Here the mask is in 3D, and every measure is
relative to the object itself: its size, and the spread of its own scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.index.scales import STEPS
from lerf_ros.query.presence import EVEN
from lerf_ros.query.text_query import SCORE_POINTS, Place, TextQuery

# A crop as wide as this part of the object shows mostly a part of it.
PART_WIDTH = 0.7
# The extent reaches down to this part of the way from even to the relevancy of the place.
EXTENT = 0.5
# A point's own score is noisy: it counts with this many nearest ones, itself among them.
NEAREST = 7


def part_phrase(text: str, part: str) -> str:
    """How one says it: 'mug' and 'handle' are 'mug handle'; without a text the part's name."""
    return f'{text} {part}'.strip()


def find_parts(query: TextQuery, places: Sequence[tuple[Place, int]], names: Sequence[str],
               wholes: np.ndarray, parts: np.ndarray, negatives: np.ndarray, part: str,
               inside: np.ndarray | None) -> tuple[np.ndarray, list[Place]]:
    """The part of each of the places: relevancy (N,) of every index point, and one place each.

    places: where the things are, and which of the `names` each is. wholes (P, r), parts (P, r),
    negatives (M, r): codes of the names, of the names with the part, and of the negatives. inside
    (N,): points that may be used, None for all. Relevancy is 0 outside of the things; within one
    it goes from 0 to 1, from what fits the part least to what fits it best. A hit has the
    relevancy and the probability of its thing: the part is as much there as the thing is.
    """
    relevancy, found = np.zeros(len(query.index.points), np.float32), []
    for place, name in places:
        members = extent(query, place, np.stack([wholes[name], parts[name]]), negatives, inside)
        scores, scale = part_scores(query, members, wholes[name], parts[name])
        relevancy[members] = np.maximum(relevancy[members], scores)
        chosen = best_part(query, members, scores)
        own = query.part_of(chosen, relevancy, np.full(len(relevancy), scale))
        found.append(Place(replace(
            own.hit, relevancy=place.hit.relevancy, label=f'{names[name]}: {part}',
            probability=place.hit.probability), own.members))
    return relevancy, found


def extent(query: TextQuery, place: Place, phrases: np.ndarray, negatives: np.ndarray,
           inside: np.ndarray | None) -> np.ndarray:
    """Indices of all points of the thing: around the place, what fits the thing or its part.

    A handle looks less like a mug than the mug's body does, so it may lie below the level of a
    hit; it belongs to the mug when it is connected to it by points that fit half as well. It may be
    a segment of its own, but neither a supporting surface nor larger than the thing.
    """
    values = query.best_phrase(phrases, negatives)[0]
    if inside is not None:
        values = np.where(inside, values, 0.0)
    level = EVEN + EXTENT * max(place.hit.relevancy - EVEN, 0.0)
    fits = (values >= level) & may_belong(query, place.members)
    fits[place.members] = True
    near = [cluster for cluster in query.clusters(np.flatnonzero(fits))
            if np.isin(cluster, place.members).any()]
    return np.unique(np.concatenate([place.members, *near]))


def may_belong(query: TextQuery, members: np.ndarray) -> np.ndarray:
    """Which points (N,) are of the thing's segments or small ones, never of planes."""
    segments, sizes = query.index.segments, query.finder.sizes
    # The last is no segment, -1: noise.
    small = np.append(sizes <= len(members), False)
    small[segments[members]] = True
    small[:len(query.index.planes)] = False
    return small[segments]


def part_scores(query: TextQuery, members: np.ndarray, whole: np.ndarray,
                part: np.ndarray) -> tuple[np.ndarray, int]:
    """How well each of the points (M,) fits the part, 0..1 within the thing, and the best scale.

    The part must win against the whole, at scales that a part fills: the mean over them, since one
    scale alone is noisy, and the median over the nearest points, since one point is. From 0, what
    the middle of the thing's points reaches (a part is the smaller half), to 1, the mean of the
    best.
    """
    index = query.index
    size = np.ptp(index.points[members], axis=0).max()
    scales = index.stored_scales
    fitting = np.flatnonzero(scales <= PART_WIDTH * size)
    fitting = fitting if len(fitting) else np.array([int(scales.argmin())])
    codes = index.codes_of(members)[:, fitting]
    margins = codes @ (part - whole)                                       # (M, fitting)
    mean = middle_of_nearest(index.points[members], margins.mean(1))
    best = np.argsort(mean)[-SCORE_POINTS:]
    low, high = float(np.median(mean)), float(mean[best].mean())
    scale = margins[best].mean(0).argmax()
    return np.clip((mean - low) / max(high - low, 1e-6), 0, 1), int(fitting[scale]) * STEPS


def middle_of_nearest(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The median (M,) of the values at each of the points (M, 3) and those nearest to it."""
    nearest = cKDTree(points).query(points, k=min(NEAREST, len(points)))[1]
    return np.median(values[nearest].reshape(len(points), -1), axis=1)


def best_part(query: TextQuery, members: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Those of the members that are the part: the best cluster of what fits nearly best."""
    high = scores >= query.config.relevant_fraction
    chosen = members[high] if high.any() else members
    clusters = query.clusters(chosen) or [chosen]
    value = dict(zip(members.tolist(), scores.tolist(), strict=True))

    def fit(cluster: np.ndarray) -> tuple[float, int]:
        best = sorted((value[i] for i in cluster.tolist()), reverse=True)[:SCORE_POINTS]
        return round(float(np.mean(best)), 2), len(cluster)
    return max(clusters, key=fit)
