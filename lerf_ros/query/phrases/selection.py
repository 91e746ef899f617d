# SPDX-License-Identifier: Apache-2.0
"""Finds what a reading says: places of its noun, of which those stay that fit all the rest.

Each thing that a phrase names is a query of its own. Its noun is asked, and the noun with its
colours as well, because an encoder may know something of colours; then the colours of the map's
points decide which of the places are red, and their geometry which of them stand on the shelf.
What fits best of several ('largest', 'nearest') is chosen last, among those that fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from lerf_ros.query.answer import NEUTRAL, Hit
from lerf_ros.query.boxes import LEVEL
from lerf_ros.query.lookalikes import with_lookalikes
from lerf_ros.query.phrases.candidates import (
    SAME,
    Candidate,
    color_degree,
    colored,
    counted,
    distinct,
    sized,
)
from lerf_ros.query.phrases.likeliest import likeliest
from lerf_ros.query.phrases.reading import (
    CHOOSING,
    VIEWER,
    Reading,
    Relation,
    RelationKind,
    Thing,
    Viewpoint,
)
from lerf_ros.query.phrases.relations import (
    DIRECTIONS,
    HOLDS,
    Body,
    degree,
    directions,
    distance,
)
from lerf_ros.query.phrases.vocabulary import FLOORS, TABLES
from lerf_ros.query.places import FAINT, Place
from lerf_ros.query.question import Question
from lerf_ros.query.search import Limits, PhraseResult, SearchResult, named, search
from lerf_ros.query.text_query import TextQuery

MOST_CANDIDATES = 20     # places of a noun that colours and relations choose from
MOST_ANCHORS = 5
SUPPORTING = (RelationKind.ON, RelationKind.IN, RelationKind.UNDER, RelationKind.ABOVE)


@dataclass(frozen=True)
class Asking:
    """What is needed to ask an index for the things of readings.

    rows: unit embeddings (D,) of each noun, and of each noun with colours. negatives (M, D). inside
    (N,) bool: points that the thing itself may have; None for all. viewer: None where nobody knows.
    """

    query: TextQuery
    rows: Mapping[str, np.ndarray]
    negatives: np.ndarray
    inside: np.ndarray | None
    limits: Limits
    viewer: Viewpoint | None = None
    _found: dict[tuple[str, str, bool], SearchResult] = field(default_factory=dict)

    def places(self, thing: Thing, inside: np.ndarray | None) -> SearchResult:
        """Returns what the noun finds, and what it finds with its colours."""
        texts = list(dict.fromkeys([thing.noun, thing.described]))
        key = thing.noun, thing.described, inside is None
        if key not in self._found:
            self._found[key] = search(
                self.query, texts, np.stack([self.rows[text] for text in texts]), self.negatives,
                inside, self.limits._replace(most=MOST_CANDIDATES))
        return self._found[key]

    def anchors(self, thing: Thing) -> list[Candidate]:
        """Returns where an anchor is: it is taken to exist, so the best place is enough."""
        found = self.places(thing, None)
        places = distinct([place for phrase in found.phrases for place in phrase.places])
        fitting, unlike = colored(self.query.lab, thing, list(map(self.candidate, places)))
        if unlike or not places:
            best = self.likely(thing, None)
            fitting = [self.candidate(best)] \
                if best is not None and best.hit.relevancy >= NEUTRAL + FAINT else []
        return [*sized(thing, fitting)[:MOST_ANCHORS], *self.surfaces(thing, fitting)]

    def likely(self, thing: Thing, inside: np.ndarray | None) -> Place | None:
        """Returns the likeliest place of a thing; None where that has not the colours of it."""
        best = likeliest(self.query, thing, self.rows, self.negatives, inside)
        alike = best is not None and (not thing.colors or color_degree(
            self.query.lab[best.members], thing) >= 1)
        return best if alike else None

    def perhaps(self, thing: Thing) -> Hit | None:
        """Returns the likeliest place of a thing that has its colours and fits its noun a little.

        That is, better than the negatives, but below the threshold.
        """
        best = self.likely(thing, self.inside) if thing.colors else None
        may_be = best is not None and NEUTRAL < best.hit.relevancy < self.limits.threshold
        return best.hit if best is not None and may_be else None

    def surfaces(self, thing: Thing, found: Sequence[Candidate]) -> list[Candidate]:
        """Returns the level planes that a word such as 'table' may mean, if none of them was found.

        An encoder that does not know the word may find it anywhere; a plane is what it is.
        """
        index, word = self.query.index, thing.noun.split()[-1:]
        level = [k for k, plane in enumerate(index.planes) if plane[2] >= LEVEL]
        known = {k for c in found for k in np.unique(index.segments[c.place.members]).tolist()}
        if not level or not thing.plain or known & set(level):
            return []
        heights = {k: float(index.points_world[index.segments == k, 2].mean()) for k in level}
        floor = min(level, key=heights.__getitem__)
        meant = [floor] if set(word) & FLOORS else [k for k in level if set(word) & TABLES and (
            k != floor or len(level) == 1)]
        return [self.candidate(self.query.finder.place_of(
            np.flatnonzero(index.segments == k), np.zeros(len(index.points), np.float32),
            np.zeros(len(index.points), np.int64), stands=False)) for k in meant]

    def candidate(self, place: Place) -> Candidate:
        """Returns the candidate of a place; one on a supporting plane is all of that plane."""
        index, members = self.query.index, place.members
        segments = index.segments[members]
        planes, counts = np.unique(segments[(segments >= 0) & (segments < len(index.planes))],
                                   return_counts=True)
        if counts.sum() > len(members) / 2:
            members = np.flatnonzero(index.segments == planes[counts.argmax()])
        return Candidate(place, Body(index.points_world[members], place.hit.rotation))

    def reduced(self, candidate: Candidate, members: np.ndarray, values: np.ndarray) -> Candidate:
        """Returns the candidate with some of its points (indices) alone; values (N,)."""
        place = self.query.finder.place_of(members, values, np.zeros(len(values), np.int64),
                                           stands=False)
        hit = replace(place.hit, scale=candidate.place.hit.scale,
                      relevancy=candidate.place.hit.relevancy)
        return replace(self.candidate(Place(hit, place.members)), fit=candidate.fit)


def search_readings(query: TextQuery, question: Question, inside: np.ndarray | None,
                    limits: Limits, viewer: Viewpoint | None = None) -> SearchResult:
    """Looks for each phrase of a question as it was read, and for what its best place looks like.

    inside (N,) bool: points that a thing, not its anchors, may have; None for all. viewer: None
    where nobody knows.
    """
    found = find_readings(query, question, inside, limits, viewer)
    return with_lookalikes(query, question, found, limits.calibration)


def find_readings(query: TextQuery, question: Question, inside: np.ndarray | None,
                  limits: Limits, viewer: Viewpoint | None) -> SearchResult:
    """Returns what each phrase of a question finds; the arguments are those of search_readings."""
    phrases, negatives = question.positives, question.negatives
    special = [k for k, reading in enumerate(question.readings) if not reading.plain]
    if not special:
        # Pictures are nearer to each other than to any phrase: looks would need their own scale.
        return search(query, question.names, phrases, negatives, inside, limits,
                      look=not question.picture)
    asking = Asking(query.generous, question.rows, negatives, inside, limits, viewer)
    plain = [k for k in range(len(phrases)) if k not in special]
    relevancy = np.zeros(len(query.index.points), np.float32)
    labels = np.zeros(len(relevancy), np.uint32)
    found: dict[int, PhraseResult] = {}
    for numbers, result in (
            (plain, search(query, [question.names[k] for k in plain], phrases[plain], negatives,
                           inside, limits)),
            *(([k], find_reading(asking, question.names[k], question.readings[k]))
              for k in special)):
        better = result.relevancy > relevancy
        relevancy[better] = result.relevancy[better]
        labels[better] = np.array(numbers, np.uint32)[result.labels[better]]
        found.update(zip(numbers, result.phrases, strict=True))
    return SearchResult(relevancy, labels, tuple(found[k] for k in sorted(found)))


def find_reading(asking: Asking, name: str, reading: Reading) -> SearchResult:
    """Returns the places that a reading describes, best first, with `name` as their label."""
    found = asking.places(reading.thing, asking.inside)
    places = distinct([place for phrase in found.phrases for place in phrase.places])
    candidates = [asking.candidate(place) for place in places]
    fitting, reason = colored(asking.query.lab, reading.thing, candidates)
    perhaps = asking.perhaps(reading.thing) if reason or not places else None
    if perhaps is not None and not reading.relations:
        reason = '; '.join(filter(None, [reason, may_be(perhaps, reading.thing, asking.limits)]))
        return SearchResult(outshone(found.relevancy, places, []), np.zeros(
            len(found.relevancy), np.uint32), (PhraseResult(name, (), perhaps, reason=reason),))
    for relation in reading.relations:
        if relation.kind not in CHOOSING and relation.anchors and not reason:
            fitting, reason = related(asking, reading, relation, fitting)
    if not reason:
        fitting, reason = chosen(asking, reading, sized(reading.thing, fitting))
    best = max((c.fit for c in fitting), default=0.0) if not reason else best_fit(fitting)
    kept = [] if reason else sorted(fitting, key=lambda c: -c.rank)[:asking.limits.most]
    taken = [labelled(c, name, asking.limits) for c in kept]
    relevancy = outshone(found.relevancy, places, kept)
    candidate = taken[0].hit if taken else next(
        (phrase.candidate for phrase in found.phrases if phrase.candidate), None)
    return SearchResult(relevancy, np.zeros(len(relevancy), np.uint32), (PhraseResult(
        name, tuple(taken), candidate, fit=best if places else 1.0, reason=reason),))


def may_be(hit: Hit, thing: Thing, limits: Limits) -> str:
    """Returns what decided that a place of the right colours was not found."""
    return (f'the {thing.described.removesuffix(thing.noun).strip()} thing that is likeliest one '
            f'has relevancy {hit.relevancy:.2f}, threshold {limits.threshold:.2f}')


def best_fit(candidates: Sequence[Candidate]) -> float:
    """Returns the fit of the best of those that do not fit."""
    return min(max((c.fit for c in candidates), default=0.0), HOLDS)


def labelled(candidate: Candidate, name: str, limits: Limits) -> Place:
    """Returns the place of a candidate as a hit of the whole phrase."""
    place = named(candidate.place, name, limits.calibration)
    return Place(replace(place.hit, probability=place.hit.probability * candidate.fit),
                 place.members)


def outshone(relevancy: np.ndarray, places: Sequence[Place],
             kept: Sequence[Candidate]) -> np.ndarray:
    """Returns the relevancy (N,) in which places that were not kept are no better than neutral."""
    out = relevancy.copy()
    for place in places:
        out[place.members] = np.minimum(out[place.members], NEUTRAL)
    for candidate in kept:
        out[candidate.place.members] = relevancy[candidate.place.members]
    return out


def related(asking: Asking, reading: Reading, relation: Relation,
            candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    """Returns the candidates for which a relation holds, and why there are none, or ''.

    Of several things that an anchor may be, the one counts for which it holds best.
    """
    if not candidates:
        return [], ''
    if relation.kind in SUPPORTING:
        return supported(asking, reading, relation, candidates)
    viewer, missing = view_of(asking, reading)
    bodies = [bodies_of(asking, anchor, viewer) for anchor in relation.anchors]
    for anchor, found in zip(relation.anchors, bodies, strict=True):
        missing = missing or ('' if found else unknown(anchor, relation))
    if missing:
        return untold(candidates), missing
    judged = []
    for c in candidates:
        degrees = [degree(relation.kind, c.body, anchors, viewer)
                   for anchors in product(*bodies) if not overlap(c.body, anchors)]
        judged.append(replace(c, fit=c.fit * max(degrees, default=0.0)))
    return fitting_ones(reading, relation, candidates, judged)


def unknown(anchor: Thing, relation: Relation) -> str:
    """Returns that an anchor was not found."""
    return f'{str(anchor)!r} was not found, and so nothing is known to be {relation}'


def untold(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Returns candidates of which nobody can tell how well the phrase fits: their fit is NaN."""
    return [replace(c, fit=math.nan) for c in candidates]


def fitting_ones(reading: Reading, relation: Relation, before: Sequence[Candidate],
                 judged: list[Candidate]) -> tuple[list[Candidate], str]:
    """Returns those of the judged candidates for which a relation holds, and why none, or ''."""
    fitting = [c for c, old in zip(judged, before, strict=True) if c.fit >= HOLDS * old.fit]
    if fitting:
        return fitting, ''
    return judged, f'{counted(len(before), str(reading.thing))}, but none is {relation}'


def supported(asking: Asking, reading: Reading, relation: Relation,
              candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    """Returns the same as `related` for things that touch their anchor, as on or in it."""
    anchors = asking.anchors(relation.anchors[0])
    if not anchors:
        return untold(candidates), unknown(relation.anchors[0], relation)
    nobody, judged = Viewpoint(np.zeros(3), np.zeros(3), ''), []
    for c in candidates:
        best = replace(c, fit=0.0)
        for anchor in anchors:
            pair = parted(asking, reading.thing, relation.anchors[0], c, anchor)
            fit = c.fit * degree(relation.kind, pair[0].body, [pair[1].body], nobody) \
                if pair else 0.0
            if pair and fit > best.fit:
                best = replace(pair[0], fit=fit)
        judged.append(best)
    return fitting_ones(reading, relation, candidates, judged)


def parted(asking: Asking, thing: Thing, anchor: Thing, one: Candidate,
           other: Candidate) -> tuple[Candidate, Candidate] | None:
    """Returns a thing and its anchor apart, where one segment holds both; None if it is one thing.

    What lies on something often grows together with it. Each point is then part of the one whose
    noun fits it better.
    """
    a, b = one.place.members, other.place.members
    if len(np.intersect1d(a, b)) < SAME * min(len(a), len(b)):
        return one, other
    members = np.union1d(a, b)
    values = [asking.places(*what).relevancy for what in ((thing, asking.inside), (anchor, None))]
    mine = values[0][members] > values[1][members]
    parts = members[mine], members[~mine]
    if min(map(len, parts)) < asking.query.config.min_points:
        return None
    return (asking.reduced(one, parts[0], values[0]), asking.reduced(other, parts[1], values[1]))


def view_of(asking: Asking, reading: Reading) -> tuple[Viewpoint, str]:
    """Returns from where relations are seen, and why that is not known, or ''."""
    nobody = Viewpoint(np.zeros(3), np.array([1.0, 0.0, 0.0]), '')
    if reading.seen_from is not None:
        seen = asking.anchors(reading.seen_from)
        if not seen:
            return nobody, f'{str(reading.seen_from)!r} was not found, and it is seen from there'
        return Viewpoint(seen[0].body.center, nobody.forward, str(reading.seen_from)), ''
    if reading.needs_viewer and asking.viewer is None:
        return nobody, 'nobody knows where the viewer is: the map has no keyframes'
    return asking.viewer or nobody, ''


def bodies_of(asking: Asking, anchor: Thing, viewer: Viewpoint) -> list[Body]:
    """Returns what an anchor may be: the viewer is a point."""
    if anchor == VIEWER:
        return [Body(viewer.position[None], np.eye(3))]
    return [candidate.body for candidate in asking.anchors(anchor)]


def overlap(body: Body, anchors: Sequence[Body]) -> bool:
    """Returns whether an anchor is the thing itself."""
    return any(len(body.points) == len(anchor.points) and np.array_equal(
        body.points, anchor.points) for anchor in anchors)


def chosen(asking: Asking, reading: Reading,
           candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    """Returns the candidates, or the nearest, leftmost, ... of them where that was asked.

    With them comes why that cannot be told, or ''.
    """
    left = list(candidates)
    for relation in reading.relations:
        if not left or (relation.kind not in CHOOSING and relation.anchors):
            continue
        viewer, missing = view_of(asking, reading)
        costs = [] if missing else choice_costs(asking, relation, left, viewer)
        if not costs:
            return untold(left), missing or unknown(relation.anchors[0], relation)
        left = [left[int(np.argmin(costs))]]
    return left, ''


def choice_costs(asking: Asking, relation: Relation, candidates: Sequence[Candidate],
                 viewer: Viewpoint) -> list[float]:
    """Returns a number for each candidate, least for the one that is chosen; [] without anchor."""
    if not relation.anchors:
        everything = Body(np.concatenate([c.body.points for c in candidates]), np.eye(3))
        direction = DIRECTIONS[relation.kind] @ directions(everything, viewer)
        return [-float(c.body.center[:2] @ direction) for c in candidates]
    anchors = bodies_of(asking, relation.anchors[0], viewer)
    sign = 1.0 if relation.kind is RelationKind.NEAREST_TO else -1.0
    return [sign * min(distance(c.body, anchor) for anchor in anchors)
            for c in candidates] if anchors else []
