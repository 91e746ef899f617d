# SPDX-License-Identifier: Apache-2.0
"""Answers requests from a map, whether it is one frame or a folder of submaps: as if it was one.

Each submap is asked in the frame that it was mapped in, for what lies in its cube; where that
frame is in the map now, after loop closures, is applied to what it is asked and what it answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from lerf_ros.config import LerfConfig, QueryConfig
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.encoders.remembered import RememberedTexts
from lerf_ros.errors import NoSnapshotError
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.loaded_snapshot import LoadedSnapshot
from lerf_ros.loaded_submaps import Loaded, Submap, box_around, holder_of, moved, newest_view
from lerf_ros.map_query import MapQuery, answer_settings
from lerf_ros.query.answer import Answer, Timing, in_frame, surest_presence
from lerf_ros.query.ceilings import Ceilings
from lerf_ros.query.inventory import Item
from lerf_ros.query.mapped_space import MappedSpace, joined_space
from lerf_ros.query.places import sort_key
from lerf_ros.query.question import Question, request_image
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.submap_answers import Part, phrase_of
from lerf_ros.query.submap_choice import SubmapChoice
from lerf_ros.query.text_query import TextQuery
from lerf_ros.storage.lock import no_snapshot
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet

# A submap is asked only for what it holds; how well space is known is asked of all together.
EACH: dict[str, object] = {'query.min_observed': 0.0, 'query.min_resolved': 0.0}


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
        # Settings of queries, of which stored and which changed ones.
        self._own: tuple[LerfConfig, Mapping[str, object], QueryConfig] | None = None
        # What was joined last of which submaps.
        self._space: tuple[SubmapSet, tuple[MappedSpace, ...], MappedSpace] | None = None
        self._threads = ThreadPoolExecutor(torch.get_num_threads())
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

    def inventory(self, names: Sequence[str]) -> tuple[Item, ...]:
        """Returns the things of the map with the names that fit best. Raises as MapQuery's."""
        if self._single is not None:
            return self._single.inventory(names)
        return self._loaded().inventory(names)

    def mapped_space(self, around: np.ndarray | None = None) -> MappedSpace:
        """Returns what is known of the space around a robot, of the submaps near a place (3,).

        None is the middle of the map. Raises as MapQuery.mapped_space.
        """
        if self._single is not None:
            return self._single.mapped_space(around)
        loaded = self._loaded()
        middle, near = loaded.around(around)
        spaces = {s.number: s.query.mapped_space() for s in near}
        known = loaded.set, tuple(spaces.values())
        if self._space is None or self._space[0] is not known[0] or len(
                self._space[1]) != len(near) or any(
                a is not b for a, b in zip(self._space[1], known[1], strict=True)):
            self._space = (*known, joined_space(loaded.set, spaces, middle))
        return self._space[2]

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
        own = self._config(stored)
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
        request = self._prepared(request, loaded)
        near = loaded.near(request.region)
        place = loaded.place(near, request.region, self._config(near[0].query.snapshot.stored))
        question = near[0].query.question(request)
        for submap in near if question.picture else []:
            submap.query.read_pictures_with(near[0].query)
        encode = time.perf_counter() - start
        own = self._parts(loaded, near, replace(request, plan_grasps=False), question, place.enough)
        most = request.max_hits or near[0].query.text_query.config.max_hits
        phrases = tuple(phrase_of(k, own, place, most, request.threshold > 0)
                        for k in range(len(own[0].answer.phrases)))
        hits = tuple(sorted((hit for phrase in phrases for hit in phrase.hits), key=sort_key))
        cloud = loaded.surface.cloud(own, hits)
        answer = self._grasped(replace(
            own[0].answer, phrases=phrases, hits=hits, points_world=cloud.points_world,
            relevancy=cloud.relevancy, labels=cloud.labels, hit_numbers=cloud.hit_numbers,
            colors=cloud.colors, presence=surest_presence(phrases), observed=place.observed,
            too_coarse=place.too_coarse, probability=max(p.probability for p in phrases),
            not_found_reason='' if hits else phrases[0].not_found_reason,
            learning=next(filter(None, (s.query.learning for s in near)), self._unmapped()),
            frame_id=self.frame_id, snapshot_id=self.snapshot_id,
            snapshot_stamp_ns=self.snapshot_stamp_ns),
            request, own, loaded)
        return replace(answer, timing=Timing(encode, time.perf_counter() - start - encode, 0.0))

    def _unmapped(self) -> str:
        """Says how many submaps have no snapshot yet; empty for none."""
        count = len(self._submaps) - len(self._ready)
        return f'{count} of {len(self._submaps)} submaps have no snapshot yet, so that nothing ' \
            'in them is found: let the mapper come to rest' if count else ''

    def _config(self, stored: LerfConfig) -> QueryConfig:
        """Returns the settings of queries over all submaps, which takes long to put together."""
        if self._own is None or self._own[0] is not stored or self._own[1] is not self._settings:
            self._own = stored, self._settings, stored.override(self._settings).query
        return self._own[2]

    def _prepared(self, request: QueryRequest, loaded: Loaded) -> QueryRequest:
        """Returns a request that means the same in each submap: its picture, who looks."""
        if request.crop is not None:
            holder = holder_of(loaded, request.crop.keyframe)
            image = request_image(request, holder.query.directory.path)
            return replace(request, crop=None, image=image)
        if request.viewpoint is None and any(r.needs_viewer for r in request.readings()):
            return replace(request, viewpoint=newest_view(loaded))
        return request

    def _parts(self, loaded: Loaded, near: Sequence[Submap], request: QueryRequest,
               question: Question, enough: bool) -> list[Part]:
        """Asks those of the submaps that can matter for the answer (query/submap_choice.py)."""
        def ask(k: int) -> Part:
            return self._part(loaded, near[k], request)

        if request.part or len(near) == 1:      # a part is looked for in things of lower relevancy
            return list(self._threads.map(ask, range(len(near))))
        ceilings = list(self._threads.map(lambda s: Ceilings(
            s.query.text_query, question, request.region is not None), near))
        configs = [s.query.text_query.config for s in near]
        return SubmapChoice(
            [s.number for s in near], ceilings, [request.least_relevancy(c) for c in configs],
            request.max_hits or configs[0].max_hits, enough,
            [k for k, s in enumerate(near) if s.number in loaded.thin], ask, self._threads,
            torch.get_num_threads()).told()

    def _part(self, loaded: Loaded, submap: Submap, request: QueryRequest) -> Part:
        """Asks one submap in its own frame; returns its answer in that of the map."""
        T, numbers = loaded.set.T_map_submap(submap.number), loaded.numbers
        if np.array_equal(T, np.eye(4)):
            return Part(loaded.set, numbers, submap.number, submap.query.ask(request))
        answer = submap.query.ask(moved(request, invert_pose(T)))
        return Part(loaded.set, numbers, submap.number, in_frame(answer, T, answer.frame_id))

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
        found = self._part(loaded, submap, around).answer
        return replace(answer, grasps=found.grasps, T_world_target=found.T_world_target,
                       no_target_reason=found.no_target_reason, finger_depth=found.finger_depth)
