# SPDX-License-Identifier: Apache-2.0
"""Answers requests from all submaps of a folder as if they were one map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.errors import NoSnapshotError
from lerf_ros.geometry.region import Region
from lerf_ros.geometry.submap_lattice import Cell, SubmapLattice
from lerf_ros.index.resolution import Resolution
from lerf_ros.map_query import MapQuery, answer_settings
from lerf_ros.query.answer import Answer, Hit, PhraseAnswer, Presence, surest_presence
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.places import sort_key
from lerf_ros.query.request import QueryRequest
from lerf_ros.storage.submaps import SubmapFolder

NO_GRASP = 'another hit is the best of its submap: ask in a region around this one'
# A submap is asked only for what it holds; how well space is known is asked of all together.
EACH: dict[str, object] = {'query.min_observed': 0.0, 'query.min_resolved': 0.0}


@dataclass(frozen=True)
class Submap:
    """A submap that can be asked: the cube of space that it is for, and its map."""

    cell: Cell
    query: MapQuery


class SubmapQuery:
    """Answers requests from the newest snapshots of all submaps. One thread may ask at a time."""

    def __init__(self, path: str | Path, settings: Mapping[str, object] | None = None,
                 device: str = 'cpu', encoder: ImageTextEncoder | None = None) -> None:
        """The arguments are those of MapQuery."""
        self.folder, self._settings = SubmapFolder(path), answer_settings(settings or {})
        self._device, self._encoder = device, encoder
        self._lattice: SubmapLattice | None = None
        self._submaps: dict[Cell, Submap] = {}

    def refresh(self) -> bool:
        """Loads what is new; returns whether there was something. Raises as MapQuery.refresh."""
        stored, loaded = self.folder.read(), False
        for number, cell in enumerate(stored[1] if stored else ()):
            self._lattice = stored[0] if stored else None
            if cell not in self._submaps:
                self._submaps[cell] = Submap(cell, MapQuery(
                    self.folder.path_of(number), {**self._settings, **EACH}, self._device,
                    self._encoder))
            query = self._submaps[cell].query
            loaded = query.refresh() or loaded
            if query.ready:
                # All submaps share the one that the first of them has loaded.
                self._encoder = self._encoder or cast(ImageTextEncoder,
                                                      query.snapshot.query.encoder)
        return loaded

    def ask(self, request: QueryRequest) -> Answer:
        """Answers a request, in world coordinates. Raises as MapQuery.ask."""
        submaps = [submap for submap in self._submaps.values() if submap.query.ready]
        if self._lattice is None or not submaps:
            raise NoSnapshotError(f'{self.folder.path} holds no submap with a snapshot yet')
        own = [Owned(self._lattice, submap, submap.query.ask(request)) for submap in submaps]
        place = self._place(submaps, request.region)
        most = request.max_hits or submaps[0].query.text_query.config.max_hits
        phrases = tuple(phrase_of(k, own, place, most)
                        for k in range(len(own[0].answer.phrases)))
        hits = tuple(sorted((hit for phrase in phrases for hit in phrase.hits), key=sort_key))
        # Grasps are planned for the best hit of each submap.
        best = next((part.answer for part in own if hits and part.answer.hits and np.array_equal(
            part.answer.hits[0].position, hits[0].position)), None)
        cloud = cloud_of(own)
        return replace(
            own[0].answer, phrases=phrases, hits=hits, presence=surest_presence(phrases),
            observed=place.observed, too_coarse=place.too_coarse,
            probability=max((phrase.probability for phrase in phrases), default=math.nan),
            grasps=best.grasps if best else (),
            T_world_target=best.T_world_target if best else None,
            no_target_reason=best.no_target_reason if best else NO_GRASP if hits else '',
            not_found_reason='' if hits else phrases[0].not_found_reason,
            learning=next(filter(None, (part.answer.learning for part in own)), ''),
            points_world=cloud.points_world, relevancy=cloud.relevancy, labels=cloud.labels,
            colors=cloud.colors)

    def _place(self, submaps: Sequence[Submap], region: Region | None) -> MappedPlace:
        """Returns how well all submaps together know a region."""
        assert self._lattice is not None
        snapshots = [submap.query.snapshot for submap in submaps]
        known = [s.coverage.observed(region) for s in snapshots if s.coverage is not None]
        first = snapshots[0]
        config = first.stored.override(self._settings).query
        place = MappedPlace.of(None, all_places(self._lattice, submaps), region, config,
                               1.0 if first.metric else first.query.radius, first.metric)
        # A region lies in one submap, or in the overlap of several that know it alike.
        observed = math.nan if not known else max(known) if region else float(np.mean(known))
        return replace(place, observed=observed,
                       enough=place.enough and not observed < config.min_observed)


@dataclass(frozen=True)
class Owned:
    """The answer of one submap, which speaks for its cube, and for what lies in no cube at all."""

    lattice: SubmapLattice
    submap: Submap
    answer: Answer

    def depth(self, hit: Hit) -> float:
        """Returns how far from the middle of the cube a hit lies, 1 on its faces."""
        return float(self.lattice.depth(self.submap.cell, hit.position))

    def owns(self, hit: Hit, all_parts: Sequence[Owned]) -> bool:
        """Returns whether a hit lies in the cube of this submap, or in that of none."""
        return self.depth(hit) <= 1.0 or all(part.depth(hit) > 1.0 for part in all_parts)


def phrase_of(k: int, own: Sequence[Owned], place: MappedPlace, most: int) -> PhraseAnswer:
    """Returns what all submaps together say of a phrase, by its number, with `most` hits."""
    told = [part.answer.phrases[k] for part in own]
    hits = joined([(part.depth(hit), hit) for part, phrase in zip(own, told, strict=True)
                   for hit in phrase.hits if part.owns(hit, own)])[:most]
    surest = max(told, key=lambda phrase: -1.0 if math.isnan(phrase.probability)
                 else phrase.probability)
    if hits:
        return replace(surest, presence=Presence.PRESENT, hits=hits, not_found_reason='')
    doubtful = any(phrase.presence == Presence.NOT_OBSERVED for phrase in told)
    presence = Presence.ABSENT if place.enough and not doubtful else Presence.NOT_OBSERVED
    return replace(surest, presence=presence, hits=(), not_found_reason=next(
        filter(None, (surest.not_found_reason, *(p.not_found_reason for p in told))), ''))


def joined(hits: Sequence[tuple[float, Hit]]) -> tuple[Hit, ...]:
    """Returns hits (depth in its cube, hit) best first, doubles of overlapping submaps as one.

    The one that lies deepest in its cube is the most complete; it gets the best relevancy.
    """
    kept: list[Hit] = []
    for _, hit in sorted(hits, key=lambda pair: pair[0]):
        double = next((k for k, other in enumerate(kept) if same_place(hit, other)), None)
        if double is None:
            kept.append(hit)
        elif hit.relevancy > kept[double].relevancy:
            kept[double] = replace(kept[double], relevancy=hit.relevancy)
    return tuple(sorted(kept, key=sort_key))


def same_place(a: Hit, b: Hit) -> bool:
    """Returns whether the middle of either box lies in the other one."""
    return any(bool((np.abs((one.position - other.position) @ other.rotation)
                     <= other.size / 2).all()) for one, other in ((a, b), (b, a)))


def all_places(lattice: SubmapLattice, submaps: Sequence[Submap]) -> Resolution | None:
    """Returns the places that all submaps looked at, each as its own submap resolves it.

    None where one does not know its own, which is of another version.
    """
    parts = [submap.query.snapshot.resolution for submap in submaps]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    cells, origin = [submap.cell for submap in submaps], known[0].origin
    points, spacing = [], []
    for number, part in enumerate(known):
        own = lattice.nearest(cells, part.points + part.origin) == number
        points.append(part.points[own] + (part.origin - origin))
        spacing.append(part.spacing[own])
    return Resolution(np.concatenate(points).astype(np.float32), np.concatenate(spacing), origin)


class Cloud(NamedTuple):
    """The points of an Answer with what is said of each."""

    points_world: np.ndarray
    relevancy: np.ndarray
    labels: np.ndarray
    colors: np.ndarray


def cloud_of(own: Sequence[Owned]) -> Cloud:
    """Returns the points of all submaps, of each those that lie nearest to its middle."""
    cells = [part.submap.cell for part in own]
    chosen = [part.lattice.nearest(cells, part.answer.points_world) == number
              for number, part in enumerate(own)]
    return Cloud(*(np.concatenate([getattr(part.answer, name)[keep] for part, keep
                                   in zip(own, chosen, strict=True)]) for name in Cloud._fields))
