# SPDX-License-Identifier: Apache-2.0
"""Opens a map's newest snapshot without training, and builds its index anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from lerf_ros import lerf
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.image_text import ImageTextEncoder, load_encoder
from lerf_ros.errors import (
    ConfigError,
    EncoderUnavailableError,
    MapUnreadableError,
    NoSnapshotError,
)
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.selection import is_held_out
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.resolution import PART, Resolution, measure_resolution
from lerf_ros.index.second_look import LookAgain
from lerf_ros.index.surface import PosedCamera
from lerf_ros.index.survey import Survey
from lerf_ros.mapping.cube_map import seen_in
from lerf_ros.mapping.map_looks import MapLooks
from lerf_ros.settings import flat_fields, flatten, to_dict
from lerf_ros.storage.durable import JsonObject
from lerf_ros.storage.lock import FolderLock
from lerf_ros.storage.map_directory import (
    FORMAT_VERSION,
    READABLE_FORMATS,
    MapDirectory,
    Snapshot,
    scene_of,
)
from lerf_ros.storage.submaps import SubmapFolder
from lerf_ros.training.checkpoint import load_fields
from lerf_ros.training.devices import choose_device
from lerf_ros.training.pose_refinement import PoseRefinement

ANSWER_SECTIONS = ('index', 'query')   # sections of settings that may change after training
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredMap:
    """The newest snapshot of a map: its fields, and the settings that they were trained with.

    cube: whether it is one of several submaps, whose keyframes show it only in part.
    """

    directory: MapDirectory
    snapshot: Snapshot
    meta: JsonObject
    config: LerfConfig
    scene: SceneFrame
    radiance: RadianceField
    language: LanguageField
    cube: bool = False

    @property
    def trained_scales(self) -> tuple[float, float]:
        """The scales between which the language was trained, scene radii."""
        low, high = self.snapshot.info['trained_scales']
        return low, high

    def cameras(self) -> list[PosedCamera]:
        """Returns the snapshot's keyframes with their refined poses, in the scene frame."""
        poses = self._refined_poses()
        every, out, row = self.config.keyframes.holdout_every, [], 0
        # The refined poses are in the order of the keyframes: none may be left out.
        stored = load_folder(self.directory.path, most_missing=0.0)
        frames = islice(stored.frames, self.snapshot.info['keyframes'])
        indices = self.directory.keyframes.indices()
        for i, frame in enumerate(frames):
            T = self.scene.pose_to_scene(frame.T_world_camera)
            if not is_held_out(i, every):
                T = T if poses is None else poses.corrected(row, torch.from_numpy(T)).numpy()
                row += 1
            valid = seen_in(self.scene, frame) if self.cube else frame.valid
            out.append(PosedCamera(frame.camera, T, valid,
                                   indices[i] if i < len(indices) else -1))
        return out

    def _refined_poses(self) -> PoseRefinement | None:
        if not self.config.poses.refine:
            return None
        if 'training.safetensors' not in self.snapshot.info['files']:
            log.warning('%s was stored without its training (map.training_state): the refined '
                        'poses are not known, the measured ones are used', self.snapshot.path)
            return None
        poses = PoseRefinement(self.config.keyframes.max_count, self.config.poses)
        poses.table.data.copy_(torch.from_numpy(self.snapshot.arrays('training')['poses']))
        # Their mean is taken off, so it counts how many there are.
        poses.count.fill_(len(self.snapshot.info.get('rows', ())))
        return poses

    def survey(self, language: LanguageField | None = None,
               look: LookAgain | None = None) -> Survey:
        """Computes index and coverage with the settings of `config`.

        language: another field than the stored one. look: at the things; None for no second looks.
        """
        return lerf.index(self.radiance, language or self.language, self.cameras(), self.scene,
                          self.trained_scales, self.config, look=look)

    def second_looks(self, encoder: ImageTextEncoder | None = None) -> LookAgain | None:
        """Returns what looks at the things of the map again, with the encoder that made it.

        encoder: the one that the settings name if None. None where the settings ask for no second
        looks, and where there is no such encoder.
        """
        if not self.config.index.look_views:
            return None
        try:
            encoder = encoder or load_encoder(self.config.features, str(choose_device(
                self.config.training.device)))
        except EncoderUnavailableError as error:
            log.warning('no second looks: %s', error)
            return None
        if encoder.identity() != self.snapshot.info['encoder']:
            log.warning('no second looks: the map was made with another encoder, %s',
                        self.snapshot.info['encoder'])
            return None
        return MapLooks.of(encoder, self.directory.keyframes, self.config.index).within(True)


def open_stored_map(path: str | Path, changes: JsonObject | None = None,
                    cube: bool = False) -> StoredMap:
    """Opens the newest snapshot of a map, of this format or an older one that can be read.

    changes: settings of index and queries, by dotted name, that replace the stored ones. For these
    a map of an older format has the defaults of this version. Raises NoSnapshotError,
    MapUnreadableError, and ConfigError for any other setting.
    """
    other = [name for name in changes or {} if name.split('.')[0] not in ANSWER_SECTIONS]
    if other:
        raise ConfigError(f'{", ".join(other)}: a finished map is trained; only settings of '
                          f'{" and ".join(ANSWER_SECTIONS)} can change')
    directory = MapDirectory(path, formats=READABLE_FORMATS)
    snapshot = directory.newest()
    if snapshot is None:
        raise NoSnapshotError(f'{path} holds no snapshot')
    if not snapshot.has('field'):
        raise MapUnreadableError(
            f'{path} was mapped without a field (training.field none), so that no view can be '
            'rendered and no index made anew: answers need neither; map the capture with '
            'training.field lerf for that')
    meta = directory.meta()
    try:
        stored = known_settings(meta['config'], meta['format'] == FORMAT_VERSION)
        config = LerfConfig().override(stored).override(dict(changes or {}))
        scene = scene_of(meta)
    except KeyError as error:
        raise MapUnreadableError(f'{directory.path}: {error} is missing in meta.json') from error
    device = choose_device(config.training.device)
    radiance, language = load_fields(config, scene, snapshot.arrays('field'))
    return StoredMap(directory, snapshot, meta, config, scene, radiance.to(device),
                     language.to(device), cube)


def known_settings(stored: JsonObject, answers: bool) -> JsonObject:
    """Returns the stored settings, by dotted name, that this version has.

    answers: whether those of index and query are among them.
    """
    names: Sequence[str] = [name for name, _, _ in flat_fields(LerfConfig())]
    settings = {name: value for name, value in flatten(dict(stored)).items()
                if answers or name.split('.')[0] not in ANSWER_SECTIONS}
    gone = sorted(set(settings) - set(names))
    if gone:
        log.warning('settings that this version no longer has: %s', ', '.join(gone))
    return {name: value for name, value in settings.items() if name in names}


def reindex(path: str | Path, changes: JsonObject | None = None,
            encoder: ImageTextEncoder | None = None) -> int:
    """Builds the index anew and writes it as a new snapshot; returns its number.

    encoder: for second looks; the one that the settings name if None. Fields and training stay as
    they are; the map has this version's format afterwards. Raises as `open_stored_map`, and
    LockedError while a mapper works on the map.
    """
    if not Path(path).is_dir():
        raise MapUnreadableError(f'{path} is not a directory')
    MapDirectory(path).claim()
    with FolderLock(Path(path)):
        return _reindex(open_stored_map(path, changes), encoder)


def reindex_submaps(folder: SubmapFolder, changes: JsonObject | None = None,
                    encoder: ImageTextEncoder | None = None) -> int:
    """Builds the index of each submap that has a snapshot anew; returns how many these are.

    The arguments are those of `reindex`. What a submap has is left as it is when a later one
    fails. Raises as `reindex`.
    """
    folder.claim()
    with FolderLock(folder.path):
        parts = [part for part in folder.directories() if part.newest() is not None]
        if not parts:
            raise NoSnapshotError(f'{folder.path} holds no snapshot')
        for part in parts:
            _reindex(open_stored_map(part.path, changes, cube=True), encoder)
    return len(parts)


def _reindex(stored: StoredMap, encoder: ImageTextEncoder | None) -> int:
    survey, old = stored.survey(look=stored.second_looks(encoder)), stored.snapshot
    parts = {Path(file).stem: old.arrays(Path(file).stem) for file in old.info['files']}
    if PART in parts:
        places = Resolution.from_arrays(parts[PART]).points_world()
        parts[PART] = measure_resolution([places], 1, survey.index, stored.scene.radius).arrays()
    info = {name: value for name, value in old.info.items() if name not in ('files', 'checksum')}
    info.update(stamp_ns=time.time_ns(), points=len(survey.index.points),
                config=to_dict(stored.config))
    number = stored.directory.write_snapshot({**parts, **survey.arrays()}, info,
                                             stored.config.map.keep_snapshots)
    meta = {name: value for name, value in stored.meta.items() if name != 'format'}
    stored.directory.create({**meta, 'config': to_dict(stored.config)})
    return number
