# SPDX-License-Identifier: Apache-2.0
"""Answers requests from the newest snapshot of a map directory: refresh, then ask."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lerf_ros.config import FeatureConfig, LerfConfig, QueryConfig
from lerf_ros.encoders.card import relevancy_threshold
from lerf_ros.encoders.image_text import ImageTextEncoder, check_identity, load_encoder
from lerf_ros.errors import (
    ConfigError,
    EncoderUnavailableError,
    MapUnreadableError,
    NoSnapshotError,
)
from lerf_ros.index.coverage import Coverage
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.resolution import PART, Resolution
from lerf_ros.lerf import find
from lerf_ros.loaded_snapshot import (
    LoadedSnapshot,
    calibration_of,
    judge,
    newest_view,
    plan_hit_grasps,
    space_of,
)
from lerf_ros.query.answer import Answer, Timing, dated, surest_presence
from lerf_ros.query.inventory import Item, inventory
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.mapped_space import MappedSpace
from lerf_ros.query.presence import Calibration, in_force
from lerf_ros.query.question import Question, as_read, encode_phrases, image_question, request_image
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextEncoder, TextQuery
from lerf_ros.settings import flat_fields
from lerf_ros.show.words import still_learning
from lerf_ros.storage.lock import no_snapshot
from lerf_ros.storage.map_directory import CALIBRATION, MapDirectory, Snapshot
from lerf_ros.training.devices import choose_device

# Sections of settings that answers depend on. The other settings were fixed when the map was made.
ANSWER_SECTIONS = ('query', 'features', 'grasp')
log = logging.getLogger(__name__)


class MapQuery:
    """Answers requests from the newest complete snapshot.

    Only one thread may ask at a time. `refresh` may run in another thread meanwhile: an answer
    always comes from a single snapshot.
    """

    def __init__(self, map_directory: str | Path, settings: Mapping[str, object] | None = None,
                 device: str = 'cpu', encoder: ImageTextEncoder | None = None) -> None:
        """settings: of query, features and grasp by dotted name; they override those of the map.

        encoder: replaces the one that the settings name. Raises ConfigError for any other setting,
        and for a device that does not exist.
        """
        self.directory = MapDirectory(map_directory)
        self._settings = answer_settings(settings or {})
        self._device = str(choose_device(device))
        self._encoder = encoder
        self._installing = threading.Lock()
        self._unlearned = 0     # stored keyframes that are newer than the loaded snapshot
        self._image_encoder: ImageTextEncoder | None = None
        self._encoder_features = FeatureConfig()
        self._loaded: LoadedSnapshot | None = None
        self._space: tuple[LoadedSnapshot, MappedSpace] | None = None   # of that snapshot
        self._identity = ('', '')

    @classmethod
    def open(cls, map_directory: str | Path) -> MapQuery:
        """Opens a map and loads its newest snapshot.

        Raises NoSnapshotError where there is none yet, and what `refresh` raises.
        """
        query = cls(map_directory)
        query.refresh()
        _ = query.snapshot      # raises where there is none
        return query

    @property
    def path(self) -> Path:
        """The folder of the map."""
        return self.directory.path

    @property
    def ready(self) -> bool:
        """Returns whether a snapshot is loaded."""
        return self._loaded is not None

    @property
    def snapshot_id(self) -> int:
        """Returns the number of the loaded snapshot, 0 before the first."""
        return self._loaded.snapshot_id if self._loaded else 0

    @property
    def snapshot_stamp_ns(self) -> int:
        """Returns the time when the loaded snapshot was taken, ns; 0 before the first."""
        return self._loaded.snapshot_stamp_ns if self._loaded else 0

    @property
    def frame_id(self) -> str:
        """Returns the name of the map frame, empty before the first snapshot."""
        return self._loaded.frame_id if self._loaded else ''

    @property
    def metric(self) -> bool:
        """Returns whether lengths are metres."""
        return self._loaded is not None and self._loaded.metric

    @property
    def map_id(self) -> str:
        """Returns which map the loaded snapshot belongs to; empty before the first."""
        return self._identity[0] if self._loaded else ''

    @property
    def info(self) -> Mapping[str, Any]:
        """Returns the manifest of the loaded snapshot, empty before the first."""
        return self._loaded.info if self._loaded else {}

    @property
    def learning(self) -> str:
        """Returns why the loaded snapshot lags behind its keyframes; empty if it does not."""
        return still_learning(self.info, self._unlearned) if self.ready else ''

    def refresh(self) -> bool:
        """Loads the newest snapshot if it is newer than the loaded one; returns whether it did.

        A damaged snapshot is skipped for the one before it. After a reset, or when another map was
        loaded into the directory, the snapshots of the new map count. Raises MapUnreadableError for
        a damaged or foreign directory, and EncoderUnavailableError or EncoderMismatchError when
        phrases cannot be encoded as the map needs it. After an error, and while there is no map,
        answers still come from the snapshot that was loaded before.
        """
        loaded = self._load_newest()
        until = self.info.get('learned_until')
        self._unlearned = 0 if until is None else sum(
            index >= until for index in self.directory.keyframes.indices())
        return loaded

    def _load_newest(self) -> bool:
        identity = self.directory.identity()
        if identity == ('', '') and not self.directory.exists():
            return False
        another = self.ready and identity != self._identity
        problem: MapUnreadableError | None = None
        for snapshot in self.directory.complete(0 if another else self.snapshot_id):
            try:
                self._load(snapshot)
                self._identity = identity
                return True
            except MapUnreadableError as error:
                log.warning('%s', error)
                problem = problem or error
        if problem is not None:
            raise problem
        if another:
            log.warning('%s was reset: there are no answers until its first snapshot',
                        self.directory.path)
            self._loaded = None
        return False

    def _load(self, snapshot: Snapshot) -> None:
        meta = self.directory.meta()
        try:
            index = LanguageIndex.from_arrays(snapshot.arrays('index'))
            coverage = Coverage.from_arrays(snapshot.arrays('coverage')) \
                if snapshot.has('coverage') else None
            resolution = Resolution.from_arrays(snapshot.arrays(PART)) \
                if snapshot.has(PART) else None
            stored = LerfConfig().override(meta['config'])
            radius, frame_id, metric = meta['scene']['radius'], meta['frame_id'], meta['metric']
            identity = snapshot.info['encoder']
        except (KeyError, TypeError) as error:
            raise MapUnreadableError(f'{snapshot.path}: {error} is missing; '
                                     'the map was written by another version') from error
        config = stored.override(self._settings)
        encoder = self._load_encoder(identity, config.features)
        asked = self._asked(replace(stored, query=config.query), identity, encoder, index)[0]
        query = TextQuery(index, encoder, asked, radius, self._device)
        self._install(LoadedSnapshot(
            query, coverage, resolution, None, stored, stored.grasp, frame_id, metric,
            snapshot.number, snapshot.info['stamp_ns'], dict(snapshot.info)))

    def _install(self, loaded: LoadedSnapshot) -> None:
        """Makes this snapshot the one that answers, under the current settings."""
        with self._installing:
            config = loaded.stored.override(self._settings)
            old = loaded.query
            asked, calibration = self._asked(replace(loaded.stored, query=config.query),
                                             loaded.info['encoder'], old.encoder, old.index)
            query = old if old.config == asked else TextQuery(
                old.index, old.encoder, asked, old.radius, self._device)
            self._loaded = replace(loaded, query=query, grasp=config.grasp,
                                   calibration=calibration)

    def _asked(self, config: LerfConfig, identity: Mapping[str, str], encoder: TextEncoder,
               index: LanguageIndex) -> tuple[QueryConfig, Calibration | None]:
        """Returns the settings of queries with the threshold in force, and the calibration."""
        own = relevancy_threshold(encoder, config.query.temperature)
        return in_force(config, identity, own, self.directory.path / CALIBRATION,
                        looks=len(index.looks) > 0)

    def settings(self) -> dict[str, object]:
        """Returns query and grasp settings in force, by dotted name; empty before a snapshot."""
        if self._loaded is None:
            return {}
        loaded = self._loaded
        config = replace(loaded.stored, query=loaded.query.config, grasp=loaded.grasp)
        return {name: value for name, _, value in flat_fields(config)
                if name.startswith(('query.', 'grasp.'))}

    def change(self, settings: Mapping[str, object]) -> None:
        """Changes these settings, by dotted name, from the next answer on; the others stay.

        Raises ConfigError for a setting that does not exist, is out of range or names the encoder.
        """
        fixed = [name for name in settings if name.startswith('features.')]
        if fixed:
            raise ConfigError(f'{", ".join(fixed)}: the encoder is chosen when the map is opened')
        self._settings = {**self._settings, **answer_settings(settings)}
        if self._loaded is not None:
            self._install(self._loaded)

    @property
    def snapshot(self) -> LoadedSnapshot:
        """Returns what is loaded; raises NoSnapshotError without a snapshot."""
        if self._loaded is None:
            raise NoSnapshotError(no_snapshot(self.directory.path))
        return self._loaded

    def inventory(self, names: Sequence[str]) -> tuple[Item, ...]:
        """Returns the things of the map with the names that fit best. Raises as `ask`."""
        loaded = self.snapshot
        return inventory(loaded.query, names, loaded.calibration)

    def mapped_space(self, around: np.ndarray | None = None) -> MappedSpace:
        """Returns what is known of the space around a robot; all of it, wherever `around` is.

        Raises NoSnapshotError, and MapUnreadableError for a damaged keyframe.
        """
        if self._space is None or self._space[0] is not self.snapshot:
            self._space = self.snapshot, space_of(self.snapshot, self.directory.keyframes)
        return self._space[1]

    @property
    def text_query(self) -> TextQuery:
        """Returns the loaded index with its encoder; raises NoSnapshotError without a snapshot."""
        return self.snapshot.query

    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns points (N, 3), world, and colours (N, 3) uint8. Raises NoSnapshotError."""
        index = self.text_query.index
        return index.points_world, index.colors

    def replace_index(self, index: LanguageIndex) -> None:
        """Answers from another index of the same map from now on, for control experiments."""
        loaded, old = self.snapshot, self.text_query
        self._loaded = replace(loaded, query=TextQuery(index, old.encoder, old.config, old.radius,
                                                       self._device))

    def _load_encoder(self, identity: dict[str, str], features: FeatureConfig) -> ImageTextEncoder:
        encoder = self._encoder or load_encoder(features, self._device, text_only=True)
        check_identity(encoder, identity)
        self._encoder, self._encoder_features = encoder, features
        return encoder

    def _encode_image(self, image: np.ndarray) -> np.ndarray:
        """Returns the embedding (1, D) of an RGB image (H, W, 3).

        The image tower is loaded for the first image. Raises EncoderUnavailableError without one.
        """
        if self._image_encoder is None:
            encoder = load_encoder(self._encoder_features, self._device, text_only=False)
            check_identity(encoder, self.info['encoder'])
            self._image_encoder = encoder
        try:
            return self._image_encoder.encode_images([image])
        except TypeError as error:
            raise EncoderUnavailableError(
                f'the encoder {self.info["encoder"]["name"]!r} of this map reads no pictures '
                f'({error}): ask in words, or map with conse or openclip') from error

    def read_pictures_with(self, other: MapQuery) -> None:
        """Shares the image tower that another query of the same encoder has loaded, if any."""
        self._image_encoder = self._image_encoder or other._image_encoder

    def answer(self, text: str, negatives: Sequence[str] = (), threshold: float = 0.0,
               max_hits: int = 0) -> Answer:
        """Asks where `text` is. 0 and empty stand for the configured values.

        Raises what `ask` raises.
        """
        return self.ask(QueryRequest(text, negatives=tuple(negatives), threshold=threshold,
                                     max_hits=max_hits))

    def ask(self, request: QueryRequest) -> Answer:
        """Answers a request, in world coordinates.

        Raises what QueryRequest.check raises, NoSnapshotError before the first snapshot,
        NotUnderstoodError for phrases that the encoder cannot read, and for images BadImageError
        and EncoderUnavailableError.
        """
        request.check()
        loaded, start = self.snapshot, time.perf_counter()
        query, calibration = loaded.query, calibration_of(request, loaded)
        question = self.question(request, query)
        encoded = time.perf_counter()
        threshold = request.least_relevancy(query.config)
        viewer = request.viewpoint or newest_view(question, self.directory)
        found = find(query, question, request.region, threshold,
                     request.max_hits or query.config.max_hits, calibration, viewer)
        found = found if request.threshold else found.worth_telling()
        place = MappedPlace.of(loaded.coverage, loaded.resolution, request.region, query.config,
                               1.0 if loaded.metric else query.radius, loaded.metric)
        phrases = as_read(judge(found, request, threshold, place, loaded), question, viewer)
        searched = time.perf_counter()
        plan = plan_hit_grasps(request, found, loaded, self.directory.keyframes)
        return dated(Answer(
            text=', '.join(question.names), texts=question.names, phrases=phrases,
            presence=surest_presence(phrases), observed=place.observed, threshold=threshold,
            too_coarse=place.too_coarse, hits=found.hits, doubt=question.doubt,
            probability=max((phrase.probability for phrase in phrases), default=math.nan),
            points_world=query.index.points_world, relevancy=found.relevancy, labels=found.labels,
            hit_numbers=found.hit_numbers, colors=query.index.colors, grasps=plan.grasps,
            no_target_reason=plan.reason,
            T_world_target=plan.grasps[0].T_world_grasp if plan.grasps else None,
            finger_depth=loaded.grasp.finger_depth, frame_id=loaded.frame_id, metric=loaded.metric,
            not_found_reason='' if found.hits else phrases[0].not_found_reason,
            learning=self.learning,
            snapshot_id=loaded.snapshot_id, snapshot_stamp_ns=loaded.snapshot_stamp_ns,
            timing=Timing(encoded - start, searched - encoded, time.perf_counter() - searched)),
            self.directory.keyframes.stamp)

    def question(self, request: QueryRequest, query: TextQuery | None = None) -> Question:
        """Returns what a request asks for, of the loaded index if None. Raises as `ask`."""
        query, image = query or self.text_query, request_image(request, self.directory.path)
        if image is None:
            return encode_phrases(request, query.encoder, query.config.negatives)
        return image_question(request, self._encode_image(image), query)


def answer_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """Returns the settings; raises ConfigError for one that is wrong or that no answer needs."""
    LerfConfig().override(dict(settings))
    other = [name for name in settings if name.split('.')[0] not in ANSWER_SECTIONS]
    if other:
        raise ConfigError(f'{", ".join(other)}: no answer depends on it; settings of '
                          f'{", ".join(ANSWER_SECTIONS)} can be given here')
    return dict(settings)
