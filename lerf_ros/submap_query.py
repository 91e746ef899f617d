# SPDX-License-Identifier: Apache-2.0
"""Answers requests from a map, whether it is one frame or a folder of submaps: as if it was one.

Each submap is asked in the frame that it was mapped in, for what lies in its cube; where that
frame is in the map now, after loop closures, is applied to what it is asked and what it answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.encoders.remembered import RememberedTexts
from lerf_ros.errors import BadImageError, NoSnapshotError
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.geometry.region import Region
from lerf_ros.index.resolution import Resolution
from lerf_ros.map_query import LoadedSnapshot, MapQuery, answer_settings
from lerf_ros.query.answer import Answer, Hit, Timing, in_frame, surest_presence
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.phrases.reading import Viewpoint
from lerf_ros.query.places import sort_key
from lerf_ros.query.question import request_image
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.submap_answers import Part, Surface, all_places, phrase_of
from lerf_ros.query.text_query import TextQuery
from lerf_ros.storage.lock import no_snapshot
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet

# A submap is asked only for what it holds; how well space is known is asked of all together.
EACH: dict[str, object] = {'query.min_observed': 0.0, 'query.min_resolved': 0.0}
AROUND = 1.5            # times the box of a hit: where grasps of it are looked for


@dataclass(frozen=True)
class Submap:
    """A submap that can be asked, and its number."""

    number: int
    query: MapQuery


class SubmapQuery:
    """Answers requests from the newest snapshots of a map. One thread may ask at a time.

    `refresh` may run in another thread meanwhile.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, object] | None = None,
                 device: str = 'cpu', encoder: ImageTextEncoder | None = None) -> None:
        """The arguments are those of MapQuery."""
        self.path, self.folder = Path(path), SubmapFolder(path)
        self._settings = answer_settings(settings or {})
        self._device, self._encoder = device, encoder
        # A map of one frame, which also tells what is wrong with a folder that is none at all.
        self._single: MapQuery | None = MapQuery(path, self._settings, device, encoder)
        self._set: SubmapSet | None = None
        self._submaps: tuple[Submap, ...] = ()
        self._all: Loaded | None = None     # replaced as a whole
        self._shared: ImageTextEncoder | None = None    # by all submaps, once one has loaded it

    def refresh(self) -> bool:
        """Loads what is new; returns whether there was something. Raises as MapQuery.refresh."""
        stored = self.folder.read()
        if stored is None:
            if self._single is None:
                self._single = MapQuery(self.path, self._settings, self._device, self._encoder)
                self._set, self._submaps, self._all = None, (), None
            return self._single.refresh()
        self._single = None
        moved = self._set is not None and self._places(stored) != self._places(self._set)
        known = {s.number: s.query for s in self._submaps} if self._set is not None and (
            stored.edition == self._set.edition) else {}
        submaps, loaded = [], moved or bool(self._submaps and not known)
        for number in range(len(stored.places)):
            query = known.get(number) or self._opened(number)
            loaded = query.refresh() or loaded
            if query.ready and self._shared is None:
                # All submaps share the encoder that the first of them has loaded.
                self._shared = cast(ImageTextEncoder, RememberedTexts(cast(
                    ImageTextEncoder, query.snapshot.query.encoder)))
                query = self._opened(number)
                query.refresh()
            submaps.append(Submap(number, query))
        self._set, self._submaps = stored, tuple(submaps)
        if loaded:
            self._all = Loaded.of(stored, [s for s in submaps if s.query.ready])
        return loaded

    def _opened(self, number: int) -> MapQuery:
        return MapQuery(self.folder.path_of(number), {**self._settings, **EACH}, self._device,
                        self._shared or self._encoder)

    @staticmethod
    def _places(submaps: SubmapSet) -> tuple[bytes, ...]:
        return tuple(place.T_map_submap.tobytes() for place in submaps.places)

    @property
    def _ready(self) -> list[MapQuery]:
        if self._single is not None:
            return [self._single] if self._single.ready else []
        return [submap.query for submap in self._submaps if submap.query.ready]

    @property
    def ready(self) -> bool:
        """Whether a snapshot is loaded."""
        return bool(self._ready)

    @property
    def single(self) -> MapQuery | None:
        """The map where it is one of one frame; None for submaps."""
        return self._single

    @property
    def snapshot(self) -> LoadedSnapshot | None:
        """The loaded snapshot of a map of one frame; None for submaps, and before the first."""
        single = self._single
        return single.snapshot if single is not None and single.ready else None

    @property
    def text_query(self) -> TextQuery:
        """The index of a map of one frame; raises NoSnapshotError without one, and for submaps."""
        if self._single is None:
            raise NoSnapshotError(f'{self.path} is a folder of submaps: each has an index of its '
                                  'own')
        return self._single.text_query

    @property
    def snapshot_id(self) -> int:
        """The number of the loaded snapshot; of submaps, their numbers added up."""
        return sum(query.snapshot_id for query in self._ready)

    @property
    def snapshot_stamp_ns(self) -> int:
        """When the newest of the loaded snapshots was taken, ns; 0 before the first."""
        return max((query.snapshot_stamp_ns for query in self._ready), default=0)

    @property
    def frame_id(self) -> str:
        """The name of the map frame, empty before the first snapshot."""
        return next((query.frame_id for query in self._ready), '')

    @property
    def metric(self) -> bool:
        """Whether lengths are metres."""
        return any(query.metric for query in self._ready)

    @property
    def map_id(self) -> str:
        """Which map the loaded snapshot belongs to; empty before the first."""
        if self._set is not None:
            return self._set.id if self.ready else ''
        return self._single.map_id if self._single else ''

    @property
    def info(self) -> Mapping[str, Any]:
        """The manifest of the loaded snapshot; of submaps, counts are added up."""
        known = [query.info for query in self._ready]
        if self._single is not None or not known:
            return known[0] if known else {}
        sums = {name: sum(info[name] for info in known if name in info)
                for name in ('points', 'steps', 'keyframes')}
        return {**known[-1], **sums}

    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns points (N, 3), world, and colours (N, 3) uint8 of the loaded snapshot.

        Raises NoSnapshotError without one.
        """
        if self._single is not None:
            return self._single.surface()
        surface = self._loaded().surface
        return surface.points, surface.colors

    def _loaded(self) -> Loaded:
        """Returns what is loaded, all of one moment; raises NoSnapshotError for nothing."""
        if self._all is None:
            raise NoSnapshotError(no_snapshot(self.path))
        return self._all

    def settings(self) -> dict[str, object]:
        """Returns query and grasp settings in force, by dotted name; empty before a snapshot."""
        found = next((query.settings() for query in self._ready), {})
        stored = next((query.snapshot.stored for query in self._ready), None)
        if self._single is not None or stored is None:
            return found
        own = stored.override(self._settings).query
        return {**found, 'query.min_observed': own.min_observed,
                'query.min_resolved': own.min_resolved}

    def change(self, settings: Mapping[str, object]) -> None:
        """Changes these settings, by dotted name, from the next answer on. Raises ConfigError."""
        each = [self._single] if self._single is not None else [s.query for s in self._submaps]
        for query in each:
            query.change(settings if self._single is not None else {**settings, **EACH})
        self._settings = {**self._settings, **answer_settings(settings)}

    def ask(self, request: QueryRequest) -> Answer:
        """Answers a request, in world coordinates. Raises as MapQuery.ask."""
        if self._single is not None:
            return self._single.ask(request)
        request.check()
        start, loaded = time.perf_counter(), self._loaded()
        submaps, asked = loaded.set, loaded.submaps
        request = self._prepared(request, loaded)
        near = [submap for submap in asked if touches(submaps, submap.number, request.region)]
        own = [self._part(submaps, submap, replace(request, plan_grasps=False))
               for submap in near or asked]
        place = self._place(loaded, request.region)
        most = request.max_hits or asked[0].query.text_query.config.max_hits
        phrases = tuple(phrase_of(k, own, place, most)
                        for k in range(len(own[0].answer.phrases)))
        hits = tuple(sorted((hit for phrase in phrases for hit in phrase.hits), key=sort_key))
        cloud = loaded.surface.cloud(own, hits)
        answer = self._grasped(replace(
            own[0].answer, phrases=phrases, hits=hits, points_world=cloud.points_world,
            relevancy=cloud.relevancy, labels=cloud.labels, hit_numbers=cloud.hit_numbers,
            colors=cloud.colors, presence=surest_presence(phrases), observed=place.observed,
            too_coarse=place.too_coarse, probability=max(p.probability for p in phrases),
            not_found_reason='' if hits else phrases[0].not_found_reason,
            learning=next(filter(None, (part.answer.learning for part in own)), ''),
            frame_id=self.frame_id, snapshot_id=self.snapshot_id,
            snapshot_stamp_ns=self.snapshot_stamp_ns),
            request, own, loaded)
        encode = sum(part.answer.timing.encode for part in own)
        return replace(answer, timing=Timing(encode, time.perf_counter() - start - encode, 0.0))

    def _prepared(self, request: QueryRequest, loaded: Loaded) -> QueryRequest:
        """Returns a request that means the same in each submap: its picture, who looks."""
        if request.crop is not None:
            holder = holder_of(loaded, request.crop.keyframe)
            image = request_image(request, holder.query.directory.path)
            return replace(request, crop=None, image=image)
        if request.viewpoint is None and any(r.needs_viewer for r in request.readings()):
            return replace(request, viewpoint=newest_view(loaded))
        return request

    def _part(self, submaps: SubmapSet, submap: Submap, request: QueryRequest) -> Part:
        """Asks one submap in its own frame; returns its answer in that of the map."""
        T = submaps.places[submap.number].T_map_submap
        if np.array_equal(T, np.eye(4)):
            return Part(submaps, submap.number, submap.query.ask(request))
        answer = submap.query.ask(moved(request, invert_pose(T)))
        return Part(submaps, submap.number, in_frame(answer, T, answer.frame_id))

    def _grasped(self, answer: Answer, request: QueryRequest, own: Sequence[Part],
                 loaded: Loaded) -> Answer:
        """Returns the answer with grasps of its best hit."""
        if not answer.hits or not request.plan_grasps:
            return answer
        best = answer.hits[0]
        number = next(part.number for part in own if any(
            np.allclose(hit.position, best.position) for hit in part.answer.hits))
        submap = next(s for s in loaded.submaps if s.number == number)
        around = replace(request, region=box_around(best), max_hits=1)
        found = self._part(loaded.set, submap, around).answer
        return replace(answer, grasps=found.grasps, T_world_target=found.T_world_target,
                       no_target_reason=found.no_target_reason, finger_depth=found.finger_depth)

    def _place(self, loaded: Loaded, region: Region | None) -> MappedPlace:
        """Returns how well all submaps together know a region."""
        snapshots = {s.number: s.query.snapshot for s in loaded.submaps}
        known = [s.coverage.observed(in_submap(loaded.set, number, region))
                 for number, s in snapshots.items() if s.coverage is not None]
        first = next(iter(snapshots.values()))
        config = first.stored.override(self._settings).query
        place = MappedPlace.of(None, loaded.places, region, config,
                               1.0 if first.metric else first.query.radius, first.metric)
        # A region lies in one submap, or in the overlap of several that know it alike.
        observed = float('nan') if not known else max(known) if region else float(np.mean(known))
        words = place.too_coarse or unsettled(list(snapshots.values()))
        return replace(place, observed=observed, too_coarse=words,
                       enough=place.enough and not words and not observed < config.min_observed)


@dataclass(frozen=True)
class Loaded:
    """The submaps that can be asked, at one moment, and what no question changes of them.

    places: that all of them looked at, each as its own submap resolves it; None if not known.
    """

    set: SubmapSet
    submaps: tuple[Submap, ...]
    surface: Surface
    places: Resolution | None

    @classmethod
    def of(cls, submaps: SubmapSet, ready: Sequence[Submap]) -> Loaded | None:
        """Joins submaps with a snapshot; None without any."""
        if not ready:
            return None
        snapshots = {s.number: s.query.snapshot for s in ready}
        return cls(submaps, tuple(ready), Surface.of(submaps, {
            n: s.query.index for n, s in snapshots.items()}), all_places(submaps, {
                n: s.resolution for n, s in snapshots.items()}))


def unsettled(snapshots: Sequence[LoadedSnapshot]) -> str:
    """Returns in words that submaps still learn; empty where all are done.

    What things are is learned last: of 36 things in a hall of four tables, 5 fitted no phrase after
    1,100 steps although their surfaces were exact to 5 mm. So nothing is called absent before
    training has settled, and the learning rate of the language field has reached its floor.
    """
    learning = sum(not s.info.get('settled', True)
                   or s.info['steps'] < s.stored.training.language_decay_steps for s in snapshots)
    if not learning:
        return ''
    return (f'{learning} of {len(snapshots)} submaps still learn (training.settle_steps, '
            'training.language_decay_steps): what is not found there may not be learned yet; ask '
            'again when the mapper rests, or train longer')


def holder_of(loaded: Loaded, keyframe: int) -> Submap:
    """Returns a submap that has a keyframe, by index, or the first of all if none has it.

    Raises BadImageError where several maps that were merged have one of this number.
    """
    found = [s for s in loaded.submaps if keyframe in s.query.directory.keyframes]
    if len({loaded.set.places[s.number].source for s in found}) > 1:
        raise BadImageError(f'several of the maps that were merged have a keyframe {keyframe}: '
                            'send the picture itself')
    return found[0] if found else loaded.submaps[0]


def newest_view(loaded: Loaded) -> Viewpoint | None:
    """Returns from where the newest keyframe was taken, in the map frame."""
    files = {s.number: s.query.directory.keyframes for s in loaded.submaps}

    def age(number: int) -> tuple[int, int]:
        """Merged maps count their keyframes each for itself, so the time decides first."""
        newest = max(files[number].indices(), default=-1)
        return files[number].stamp(newest) if newest >= 0 else -1, newest

    number = max(files, key=age)
    T = files[number].newest_pose()
    if T is None:
        return None
    T = loaded.set.T_map_submap(number) @ T
    return Viewpoint(T[:3, 3], T[:3, 2], 'the newest keyframe')


def moved(request: QueryRequest, T: np.ndarray) -> QueryRequest:
    """Returns a request after the rigid motion T (4, 4) of all that it says of places."""
    region, view = request.region, request.viewpoint
    return replace(
        request, region=region and Region(T @ region.T_world_region, region.size),
        viewpoint=view and replace(view, position=T[:3, :3] @ view.position + T[:3, 3],
                                   forward=T[:3, :3] @ view.forward))


def in_submap(submaps: SubmapSet, number: int, region: Region | None) -> Region | None:
    """Returns a region of the map in the frame that a submap was mapped in."""
    T = invert_pose(submaps.places[number].T_map_submap)
    return region and Region(T @ region.T_world_region, region.size)


def touches(submaps: SubmapSet, number: int, region: Region | None) -> bool:
    """Returns whether a region may reach into the cube of a submap; None is everywhere."""
    if region is None:
        return True
    apart = np.linalg.norm(submaps.middle(number) - region.T_world_region[:3, 3])
    reach = np.sqrt(3) * submaps.lattice_of(number).radius + np.linalg.norm(region.size) / 2
    return bool(apart <= reach)


def box_around(hit: Hit) -> Region:
    """Returns a region around the box of a hit, in which there is hardly room for another one."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = hit.rotation, hit.position
    return Region(T, AROUND * hit.size)
