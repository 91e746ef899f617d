# SPDX-License-Identifier: Apache-2.0
"""What an earlier run of the mapper left in a map directory, to resume from."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from lerf_ros.config import LerfConfig
from lerf_ros.errors import ConfigError, EncoderMismatchError, MapUnreadableError
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.settings import to_dict
from lerf_ros.storage.durable import JsonObject
from lerf_ros.storage.map_directory import MapDirectory, scene_of
from lerf_ros.storage.snapshots import Snapshot
from lerf_ros.training.checkpoint import load_training
from lerf_ros.training.learners import Trainer

# Settings that may change between two runs of one training.
FREE = {('training', 'device'), ('training', 'threads'), ('features', 'cache_megabytes'),
        ('features', 'batch'), ('keyframes', 'when_full'), ('keyframes', 'memory_megabytes'),
        ('keyframes', 'least_contrast')}
SECTIONS = ('keyframes', 'scene', 'features', 'field', 'language', 'poses', 'training')
# What else must be the same: its key in meta.json, and the parameter for it.
META = {'frame_id': 'map_frame', 'metric': 'metric'}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierRun:
    """The keyframes, and the newest training state, of an earlier run.

    indices: keyframes to learn, those of `state` first and in its order. scene is None before the
    first few keyframes, state before the first checkpoint. known: how many of the keyframes are
    those of `state`; rows: their rows in it, without held-out ones.
    """

    indices: tuple[int, ...]
    next_index: int
    scene: SceneFrame | None = None
    state: Snapshot | None = None
    known: int = 0
    rows: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        """Training steps of `state`, 0 without one."""
        return self.state.info['steps'] if self.state else 0

    def complete(self, waiting: int) -> bool:
        """Returns whether the keyframes of the state are learned again, or could not be read.

        waiting: how many keyframes wait to be learned.
        """
        return len(self.indices) - waiting >= self.known

    def resume(self, trainer: Trainer) -> None:
        """Resumes the state in a trainer that has learned its keyframes.

        A damaged state is named in a warning, and training begins anew.
        """
        assert self.state is not None
        try:
            load_training(trainer, self.state.arrays('field'), self.state.arrays('training'),
                          self.rows)
            log.info('training goes on after step %d with %d keyframes', self.steps, self.known)
        except MapUnreadableError as error:
            log.warning('training begins anew: %s', error)


def find_earlier_run(directory: MapDirectory, meta: JsonObject) -> EarlierRun | None:
    """Returns what an earlier run left in the directory, None where that is nothing.

    meta: the meta.json that this mapper would write. Raises MapUnreadableError for something
    that is no map, EncoderMismatchError and ConfigError for a map of another encoder or of other
    settings.
    """
    if not directory.exists():
        return None
    stored = directory.meta()
    on_disk = directory.keyframes.indices()
    if not on_disk and directory.newest() is None:
        return None     # begun without a keyframe: any settings may be used
    check_same_map(stored, meta, directory)
    indices = [i for i in on_disk if _readable(directory, i)]
    next_index = directory.keyframes.free_index()
    if stored['scene'] is None:
        return EarlierRun(tuple(indices), next_index)
    scene = scene_of(stored)
    state = newest_state(directory)
    if state is None:
        return EarlierRun(tuple(indices), next_index, scene)
    there = set(indices)
    known = [i for i in (*state.info['rows'], *state.info['held_out']) if i in there]
    # In the order in which they came, since the random draws of training depend on it.
    known.sort()
    rows = tuple(row for row, i in sorted(enumerate(state.info['rows']), key=lambda p: p[1])
                 if i in there)
    later = [i for i in indices if i not in set(known)]
    return EarlierRun((*known, *later), next_index, scene, state, len(known), rows)


def newest_state(directory: MapDirectory) -> Snapshot | None:
    """Returns the newest undamaged training state; names damaged ones in warnings."""
    for state in directory.training_states():
        try:
            state.verify()
            if 'rows' in state.info and 'held_out' in state.info:
                return state
        except MapUnreadableError as error:
            log.warning('%s: an older state of training is used', error)
    return None


def _readable(directory: MapDirectory, index: int) -> bool:
    """Returns whether record and images of a keyframe are whole; warns where they are not."""
    try:
        directory.keyframes.verify(index)
    except MapUnreadableError as error:
        log.warning('keyframe %d is left out: %s', index, error)
        return False
    return True


def check_same_map(stored: JsonObject, meta: JsonObject,
                   directory: MapDirectory) -> None:
    """Raises EncoderMismatchError or ConfigError, with what differs, unless the maps match."""
    path = directory.path
    try:
        if stored['encoder'] != meta['encoder']:
            raise EncoderMismatchError(
                f'the map in {path} was made with encoder {stored["encoder"]}, the mapper has '
                f'{meta["encoder"]}: choose that one (features.encoder), or another map_directory')
        for key, name in META.items():
            if stored[key] != meta[key]:
                raise ConfigError(f'the map in {path} has {name} = {stored[key]!r}, the mapper '
                                  f'{meta[key]!r}: change one, or choose another map_directory')
        check_same_training(stored['config'], meta['config'])
        stored['scene']
    except KeyError as error:
        raise MapUnreadableError(f'{path / "meta.json"} has no {error}: it was written by another '
                                 'version') from error


def check_same_training(stored: JsonObject, config: JsonObject) -> None:
    """Raises ConfigError, naming the settings, when a map was trained with others."""
    # As JSON stores them: lists for tuples. A map of a version without a setting has its default.
    now, default = json.loads(json.dumps([config, to_dict(LerfConfig())]))
    changed = sorted(f'{part}.{name}' for part in SECTIONS for name in now[part]
                     if stored[part].get(name, default[part].get(name)) != now[part][name]
                     and (part, name) not in FREE)
    if changed:
        raise ConfigError(f'the map was trained with other settings ({", ".join(changed)}): '
                          'resume with the same ones, or train into another map directory')
