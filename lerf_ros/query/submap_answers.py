# SPDX-License-Identifier: Apache-2.0
"""What the answers of all submaps are together: hits of overlapping ones are one hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from lerf_ros.geometry.camera import transform_points
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.resolution import Resolution
from lerf_ros.query.answer import Answer, Hit, PhraseAnswer, Presence
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.places import sort_key
from lerf_ros.query.presence import is_worth_telling


class Cubes(Protocol):
    """Where the cubes of all submaps are (storage/submaps.py)."""

    def depth(self, number: int, points_map: np.ndarray) -> np.ndarray:
        """Returns how far from the middle of a cube points (..., 3) lie (...): 1 on its faces."""

    def T_map_submap(self, number: int) -> np.ndarray:
        """Returns the pose (4, 4) of the frame that a submap was mapped in."""

    def overlapping(self, number: int, depth: float = 1.0) -> list[int]:
        """Returns the cubes, by number, that may share space with one; itself among them.

        depth: all cubes are made so many times as large.
        """


@dataclass(frozen=True)
class Part:
    """The answer of one submap, in the map frame, and the numbers of all submaps of the map.

    It speaks for its cube, and for what lies in no cube at all.
    """

    cubes: Cubes
    numbers: Sequence[int]
    number: int
    answer: Answer

    def depth(self, hit: Hit) -> float:
        """Returns how far from the middle of the cube a hit lies, 1 on its faces."""
        return float(self.cubes.depth(self.number, hit.position))

    def owns(self, hit: Hit) -> bool:
        """Returns whether a hit lies in the cube of this submap, or in that of none."""
        return self.depth(hit) <= 1.0 or all(
            self.cubes.depth(number, hit.position) > 1.0 for number in self.numbers)


def phrase_of(k: int, own: Sequence[Part], place: MappedPlace, most: int,
              all_of_them: bool = False) -> PhraseAnswer:
    """Returns what all submaps together say of a phrase, by its number, with `most` hits.

    What is said beside the hits is said of the best place, however low. all_of_them: also hits
    that are more likely wrong than right.
    """
    told = [part.answer.phrases[k] for part in own]
    hits = joined(owned_hits(k, own), most)
    if hits:
        surest = max(told, key=lambda phrase: phrase.best)
        likely = hits if all_of_them else tuple(
            hit for rank, hit in enumerate(hits) if is_worth_telling(rank, hit))
        return replace(surest, presence=Presence.PRESENT, hits=likely, not_found_reason='')
    surest = max(without_hits(told) or told, key=lambda phrase: phrase.best)
    doubtful = any(phrase.presence == Presence.NOT_OBSERVED for phrase in told)
    presence = Presence.ABSENT if place.enough and not doubtful else Presence.NOT_OBSERVED
    return replace(surest, presence=presence, hits=())


def owned_hits(k: int, own: Sequence[Part]) -> list[tuple[Part, Hit]]:
    """Returns the hits of a phrase, by its number, each with the submap that speaks for it."""
    return [(part, hit) for part in own for hit in part.answer.phrases[k].hits if part.owns(hit)]


def without_hits(told: Sequence[PhraseAnswer]) -> list[PhraseAnswer]:
    """Returns the answers of those submaps that found nothing at all."""
    return [phrase for phrase in told if not phrase.hits]


def joined(hits: Sequence[tuple[Part, Hit]], most: int) -> tuple[Hit, ...]:
    """Returns the `most` best hits, best first, doubles of overlapping submaps as one.

    Of those whose cubes have the best of them inside, the one that lies deepest is the most
    complete; it gets the best relevancy.
    """
    shown = []
    for doubles in leading(hits, most):
        best = doubles[0][1]
        _, hit = min((pair for pair in doubles if pair is doubles[0] or pair[0].depth(best) <= 1.0),
                     key=lambda pair: pair[0].depth(pair[1]))
        shown.append(replace(hit, relevancy=best.relevancy))
    return tuple(sorted(shown, key=sort_key))


def leading(hits: Sequence[tuple[Part, Hit]], most: int) -> list[list[tuple[Part, Hit]]]:
    """Returns the `most` best places, each with all hits that are it, the best first.

    Less relevant hits never change which these are.
    """
    ordered = sorted(hits, key=lambda pair: sort_key(pair[1]))
    middles = np.array([hit.position for _, hit in ordered]).reshape(-1, 3)
    reach = np.array([np.linalg.norm(hit.size) for _, hit in ordered]) / 2
    found: dict[int, list[tuple[Part, Hit]]] = {}
    for number, pair in enumerate(ordered):
        first = np.array(list(found), np.int64)
        apart = np.linalg.norm(middles[first] - middles[number], axis=1)
        near = first[apart <= np.maximum(reach[first], reach[number]) + 1e-9].tolist()
        double = next((k for k in near if same_place(pair[1], ordered[k][1])), None)
        if double is not None:
            found[double].append(pair)
        elif len(found) < most:
            found[number] = [pair]
    return list(found.values())


def same_place(a: Hit, b: Hit) -> bool:
    """Returns whether the middle of either box lies in the other one."""
    return any(bool((np.abs((one.position - other.position) @ other.rotation)
                     <= other.size / 2).all()) for one, other in ((a, b), (b, a)))


def spoken_for(cubes: Cubes, number: int, numbers: Sequence[int],
               points_map: np.ndarray) -> np.ndarray:
    """Returns which of its points (N, 3) a submap speaks for, (N,) bool: no other of the cubes in
    `numbers` has them nearer to its middle. Of two that are as near it is the first.
    """
    own, position = cubes.depth(number, points_map), list(numbers).index(number)
    out = np.ones(len(points_map), bool)
    inside = own <= 1.0
    overlapping = set(cubes.overlapping(number))
    # A cube has a point nearer to its middle only if that lies in both, made as large as need be.
    near = set(cubes.overlapping(number, max(float(own.max(initial=1.0)), 1.0)))
    for other, rival in enumerate(numbers):
        # A cube apart from this one has none of the points in here, and may have the others.
        asked = np.flatnonzero(out & ~inside if rival not in overlapping else out)
        if rival == number or rival not in near or not len(asked):
            continue
        depth = cubes.depth(rival, points_map[asked])
        out[asked] = depth >= own[asked] if other > position else depth > own[asked]
    return out


def all_places(cubes: Cubes, known: Mapping[int, Resolution | None]) -> Resolution | None:
    """Returns the places that all submaps looked at, each as its own submap resolves it.

    None where one does not know its own, which is of another version.
    """
    parts = {number: part for number, part in known.items() if part is not None}
    if len(parts) < len(known):
        return None
    numbers, points, spacing = list(parts), [], []
    for number, part in parts.items():
        world = transform_points(cubes.T_map_submap(number), part.points_world())
        own = spoken_for(cubes, number, numbers, world)
        points.append(world[own])
        spacing.append(part.spacing[own])
    origin = np.concatenate(points).mean(0) if sum(map(len, points)) else np.zeros(3)
    return Resolution((np.concatenate(points) - origin).astype(np.float32),
                      np.concatenate(spacing), origin)


class Cloud(NamedTuple):
    """The points of an Answer, with what is said of each."""

    points_world: np.ndarray
    relevancy: np.ndarray
    labels: np.ndarray
    hit_numbers: np.ndarray
    colors: np.ndarray


@dataclass(frozen=True)
class Surface:
    """What all submaps together know of where surfaces are, which no question changes.

    points (N, 3), map frame, and colors (N, 3) uint8: all of them, in the order of the submaps.
    own: the points (n,) of each submap, by number, that it speaks for: those that no other cube has
    nearer to its middle, by index.
    """

    points: np.ndarray
    colors: np.ndarray
    own: Mapping[int, np.ndarray]

    @classmethod
    def of(cls, cubes: Cubes, indexes: Mapping[int, LanguageIndex]) -> Surface:
        """Joins the points of the indexes of submaps, by number."""
        numbers, points, own = list(indexes), [], {}
        for number, index in indexes.items():
            world = transform_points(cubes.T_map_submap(number), index.points_world)
            own[number] = np.flatnonzero(spoken_for(cubes, number, numbers, world))
            points.append(world[own[number]])
        colors = [index.colors[own[number]] for number, index in indexes.items()]
        return cls(np.concatenate(points), np.concatenate(colors), own)

    def cloud(self, parts: Sequence[Part], hits: Sequence[Hit]) -> Cloud:
        """Returns the points of all submaps with what those that were asked say of them.

        Where a submap was not asked, nothing is relevant. hits: of all of them together.
        """
        relevancy = np.zeros(len(self.points), np.float32)
        (labels, hit_numbers), start = np.zeros((2, len(self.points)), np.uint32), 0
        told = {part.number: part.answer for part in parts}
        for number, own in self.own.items():
            place = np.s_[start:start + len(own)]
            if number in told:
                relevancy[place] = told[number].relevancy[own]
                labels[place] = told[number].labels[own]
                hit_numbers[place] = numbers_among(told[number], hits)[own]
            start += len(own)
        return Cloud(self.points, relevancy, labels, hit_numbers, self.colors)


def numbers_among(answer: Answer, hits: Sequence[Hit]) -> np.ndarray:
    """Returns which of all hits, from 1, each point (N,) of one answer is part of; 0 for none."""
    numbers = [next((number for number, hit in enumerate(hits, 1)
                     if hit.label == own.label and same_place(hit, own)), 0)
               for own in answer.hits]
    return np.array([0, *numbers], np.uint32)[answer.hit_numbers]
