# SPDX-License-Identifier: Apache-2.0
"""Finds parts of things: first the whole thing, then the part among the thing's own points.

The idea is LERF-TOGO's (Rashid et al., CoRL 2023): the name of a part alone matches all over a
scene, so it may only choose within a mask of the object. Here the mask is a set of 3D points, and
every measure is relative to the object: to its size, and to the spread of its own scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.index.scales import STEPS
from lerf_ros.query.answer import NEUTRAL
from lerf_ros.query.places import SCORE_POINTS, Place
from lerf_ros.query.search import PhraseResult
from lerf_ros.query.text_query import TextQuery

# Crops up to this multiple of the size of an object show mostly a part of it.
PART_WIDTH = 0.7
# The extent reaches down to this fraction of the way from NEUTRAL to the relevancy of the place.
EXTENT = 0.5
# The score of one point is noisy: it is smoothed over this many neighbours, itself included.
NEAREST = 7


def part_phrase(text: str, part: str) -> str:
    """Returns the phrase for a part, such as 'mug handle'; without a text the name of the part."""
    return f'{text} {part}'.strip()


def find_parts(query: TextQuery, things: Sequence[PhraseResult], wholes: np.ndarray,
               parts: np.ndarray, negatives: np.ndarray, part: str, inside: np.ndarray | None
               ) -> tuple[np.ndarray, tuple[PhraseResult, ...]]:
    """Finds the part in each of the places.

    things: what each phrase found. wholes (P, r), parts (P, r), negatives (M, r): codes of the
    phrases, of the phrases with the part, and of the negatives. inside (N,) bool: points that may
    be used; None for all. Returns the relevancy (N,) of every index point and one place for each
    thing. The relevancy is 0 outside of the things; within a thing it runs from 0 (fits the part
    least) to 1 (fits it best). A hit keeps the relevancy and the probability of its thing: the part
    is there if the thing is.
    """
    relevancy, found = np.zeros(len(query.index.points), np.float32), []
    for thing, whole, named in zip(things, wholes, parts, strict=True):
        own = []
        for place in thing.places:
            members = extent(query, place, np.stack([whole, named]), negatives, inside)
            scores, scale = part_scores(query, members, whole, named)
            relevancy[members] = np.maximum(relevancy[members], scores)
            chosen = best_part(query, members, scores)
            best = query.finder.place_of(chosen, relevancy, np.full(len(relevancy), scale),
                                         stands=False)
            own.append(Place(replace(
                best.hit, relevancy=place.hit.relevancy, label=f'{thing.name}: {part}',
                probability=place.hit.probability), best.members))
        found.append(replace(thing, places=tuple(own)))
    return relevancy, tuple(found)


def extent(query: TextQuery, place: Place, phrases: np.ndarray, negatives: np.ndarray,
           inside: np.ndarray | None) -> np.ndarray:
    """Returns the indices of all points of the thing: around the place, what fits it or its part.

    phrases (P, r), negatives (M, r): codes. A handle resembles a mug less than the body does, so it
    may lie below the level of a hit. It belongs to the mug when points that fit half as well
    connect them. It may be a segment of its own, but neither a supporting plane nor larger than the
    thing.
    """
    values = query.scorer.best_phrase(phrases, negatives)[0]
    if inside is not None:
        values = np.where(inside, values, 0.0)
    level = NEUTRAL + EXTENT * max(place.hit.relevancy - NEUTRAL, 0.0)
    fits = (values >= level) & may_belong(query, place.members)
    fits[place.members] = True
    near = [cluster for cluster in query.finder.clusters(np.flatnonzero(fits), across=True)
            if np.isin(cluster, place.members).any()]
    return np.unique(np.concatenate([place.members, *near]))


def may_belong(query: TextQuery, members: np.ndarray) -> np.ndarray:
    """Returns which points (N,) lie in the thing's segments or in small ones, never in planes."""
    segments, sizes = query.index.segments, query.finder.sizes
    # The last entry is for noise, whose segment is -1.
    small = np.append(sizes <= len(members), False)
    small[segments[members]] = True
    small[:len(query.index.planes)] = False
    return small[segments]


def part_scores(query: TextQuery, members: np.ndarray, whole: np.ndarray,
                part: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns how well each member (M,) fits the part, 0..1 within the thing, and the best scale.

    members (M,): indices of the thing's points. whole, part (r,): codes. The score is the margin
    of the part over the whole. It is averaged over the scales that a part fills, and smoothed over
    neighbouring points, because one scale or point is noisy. 0 is the median of the thing's points
    (a part is the smaller half), 1 the mean of the best ones.
    """
    index = query.index
    size = np.ptp(index.points[members], axis=0).max()
    scales = index.stored_scales
    fitting = np.flatnonzero(scales <= PART_WIDTH * size)
    fitting = fitting if len(fitting) else np.array([int(scales.argmin())])
    codes = index.codes_of(members)[:, fitting]
    margins = codes @ (part - whole)                                       # (M, fitting)
    mean = median_of_neighbours(index.points[members], margins.mean(1))
    best = np.argsort(mean)[-SCORE_POINTS:]
    low, high = float(np.median(mean)), float(mean[best].mean())
    scale = margins[best].mean(0).argmax()
    return np.clip((mean - low) / max(high - low, 1e-6), 0, 1), int(fitting[scale]) * STEPS


def median_of_neighbours(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the median (M,) of the values at each of the points (M, 3) and its neighbours."""
    nearest = cKDTree(points).query(points, k=min(NEAREST, len(points)))[1]
    return np.median(values[nearest].reshape(len(points), -1), axis=1)


def best_part(query: TextQuery, members: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the members that make up the part: the best cluster of those that fit nearly best."""
    high = scores >= query.config.relevant_fraction
    chosen = members[high] if high.any() else members
    clusters = query.finder.clusters(chosen, across=True) or [chosen]
    value = dict(zip(members.tolist(), scores.tolist(), strict=True))

    def fit(cluster: np.ndarray) -> tuple[float, int]:
        best = sorted((value[i] for i in cluster.tolist()), reverse=True)[:SCORE_POINTS]
        return round(float(np.mean(best)), 2), len(cluster)
    return max(clusters, key=fit)
