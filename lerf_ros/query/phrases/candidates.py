# SPDX-License-Identifier: Apache-2.0
"""Places that a noun may mean, and which of them look as was said: their colours and sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.query.answer import NEUTRAL, Hit
from lerf_ros.query.phrases.colors import thing_colors, word_memberships
from lerf_ros.query.phrases.reading import Thing
from lerf_ros.query.phrases.relations import HOLDS, Body
from lerf_ros.query.phrases.vocabulary import BASIC_COLORS, SIZES, SUPERLATIVES
from lerf_ros.query.places import Place

TWIN = 0.5               # with less than this fraction of the best one's colour it is another thing
SAME = 0.5               # of two places with this fraction of points in common one is enough


@dataclass(frozen=True)
class Candidate:
    """A place of a noun. fit: how well all else that was said holds for it, 0..1."""

    place: Place
    body: Body
    fit: float = 1.0

    @property
    def rank(self) -> float:
        """Returns what candidates are sorted by, the best has the largest."""
        return self.fit * max(self.place.hit.relevancy - NEUTRAL, 0.0)


def distinct(places: Sequence[Place]) -> list[Place]:
    """Returns the places, best first, without those that share most points with a better one."""
    kept: list[Place] = []
    for place in sorted(places, key=lambda p: -p.hit.relevancy):
        if all(len(np.intersect1d(place.members, other.members)) < SAME * min(
                len(place.members), len(other.members)) for other in kept):
            kept.append(place)
    return kept


def colored(lab: np.ndarray, thing: Thing,
            candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    """Returns the candidates that have the thing's colours, and why there are none, or ''.

    Where none has them all are returned, each with its fit. lab (N, 3): CIELAB of the map's points.
    """
    if not thing.colors or not candidates:
        return list(candidates), ''
    raw = np.array([color_degree(lab[c.place.members], thing) for c in candidates])
    degrees = np.clip(raw * HOLDS, 0, 1)
    judged = [replace(c, fit=c.fit * float(d)) for c, d in zip(candidates, degrees, strict=True)]
    fits = (degrees >= HOLDS) & (raw >= TWIN * raw.max())
    if fits.any():
        return [c for c, fit in zip(judged, fits, strict=True) if fit], ''
    return judged, (f'{counted(len(candidates), thing.noun)}, but none is '
                    f'{thing.described.removesuffix(thing.noun).strip()}: '
                    f'{main_colors(lab, candidates)}')


def color_degree(lab: np.ndarray, thing: Thing) -> float:
    """Returns how well the colours of a thing fit points of colours (n, 3), CIELAB.

    From 1 on they have them.
    """
    words = thing_colors(lab, thing.colors, thing.shade)
    # Several colours share the points.
    return float(words.max() if thing.any_color else words.min() * len(thing.colors))


def main_colors(lab: np.ndarray, candidates: Sequence[Candidate]) -> str:
    """Returns what colours the candidates have, in words."""
    names = [BASIC_COLORS[int(word_memberships(lab[c.place.members], BASIC_COLORS)
                              .mean(0).argmax())] for c in candidates]
    return ('it is ' if len(names) == 1 else 'they are ') + ', '.join(dict.fromkeys(names))


def counted(places: int, noun: str) -> str:
    """Returns how often a noun was found, in words."""
    return f'{noun!r} was found in {places} place{"s" * (places > 1)}'


def sized(thing: Thing, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Returns the candidates that are as large, tall, ... as was said, of all that there are."""
    left = list(candidates)
    for word in thing.sizes:
        what, sign = SUPERLATIVES.get(word) or SIZES[word]
        lengths = [sign * MEASURES[what](c.place.hit) for c in left]
        if len(left) < 2:
            continue
        if word in SUPERLATIVES:
            left = [left[int(np.argmax(lengths))]]
            continue
        middle = (max(lengths) + min(lengths)) / 2
        left = [c for c, length in zip(left, lengths, strict=True) if length >= middle]
    return left


# Logarithms, so that the middle between a small and a large thing is not next to the large one.
MEASURES: dict[str, Callable[[Hit], float]] = {
    'volume': lambda hit: float(np.log(np.maximum(hit.size, 1e-9)).sum()),
    'height': lambda hit: math.log(max(float((np.abs(hit.rotation[2]) * hit.size).sum()), 1e-9)),
    'length': lambda hit: math.log(max(float(max(hit.size)), 1e-9)),
    'thickness': lambda hit: math.log(max(float(min(hit.size)), 1e-9)),
    'elevation': lambda hit: float(hit.position[2])}
