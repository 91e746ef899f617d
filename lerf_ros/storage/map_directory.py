# SPDX-License-Identifier: Apache-2.0
"""The map directory: the contract between the mapper, which writes it, and queries, which read it.

    MAP/meta.json                  format, identity, map frame, scene frame, encoder, settings
    MAP/keyframes/, images/, ...   keyframes, each durable on its own (storage/keyframe_files.py)
    MAP/transforms.json            all of them in nerfstudio's layout, as of the newest snapshot
    MAP/snapshots/000007/          manifest.json (checksums), field.safetensors, index.safetensors
    MAP/checkpoints/000009/        the same without an index: to go on training from
    MAP/calibration.json           threshold and probabilities, from `lerf_ros calibrate`
    MAP/features/                  the keyframes' features, so that a restart need not extract them

Every file is written beside its place, flushed to the disk and renamed, a snapshot as a whole
folder: a reader sees all of it or nothing. Safetensors and JSON only, so that opening a map never
runs code from it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lerf_ros.errors import ForeignFolderError, MapUnreadableError
from lerf_ros.storage.durable import (
    OURS,
    JsonObject,
    flush,
    is_file,
    is_folder,
    remove_folder_if_empty,
    remove_scratch,
    write_json,
)
from lerf_ros.storage.keyframe_files import KeyframeFiles
from lerf_ros.storage.lock import NAME as LOCK
from lerf_ros.storage.ownership import META, foreign_names, read_meta, require_no_strangers
from lerf_ros.storage.snapshots import Snapshot, SnapshotFolder

if TYPE_CHECKING:
    from lerf_ros.geometry.scene_frame import SceneFrame

__all__ = ['MapDirectory', 'Snapshot']

FORMAT_VERSION = 3
CALIBRATION = 'calibration.json'
# Formats whose fields can still be read, so that their index can be built anew.
READABLE_FORMATS = (2, 3)
FOLDERS = ('snapshots', 'checkpoints', 'keyframes', 'images', 'depth', 'masks', 'features')
# Files of the feature cache, also partly written ones.
FEATURES = re.compile(r'(keyframe_|vocabulary_)[0-9a-f]{64}(\.safetensors|[.\w]{8,40}\.part)')
# Entries of meta.json that stay when the rest of it is written anew.
LASTING = ('id', 'edition', 'first_keyframe', 'source')


class MapDirectory:
    """Reads and writes one map directory; one writer, any number of readers."""

    def __init__(self, path: str | Path, metric: bool = False,
                 formats: Collection[int] = (FORMAT_VERSION,)) -> None:
        """formats: of the maps that can be read."""
        self.path, self.formats = Path(path), formats
        first = (read_meta(self.path) or {}).get('first_keyframe', 0)
        self.keyframes = KeyframeFiles(self.path, metric, first)
        self.snapshots = SnapshotFolder(self.path / 'snapshots')
        self.checkpoints = SnapshotFolder(self.path / 'checkpoints')

    @property
    def metric(self) -> bool:
        """Whether world units are metres, as given to the constructor."""
        return self.keyframes.metric

    def claim(self) -> bool:
        """Returns whether there is a map here; ForeignFolderError where none may be written.

        That is a folder with other things in it and no meta.json of ours, or a map in which a file
        or link of somebody else has the place of one of ours. Writes nothing.
        """
        if read_meta(self.path) is None:
            require_no_strangers(self.path, META)
            return False
        for name in FOLDERS:
            path = self.path / name
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                raise ForeignFolderError(f'{path} is not a folder of lerf_ros: move it away, or '
                                         'map into another directory')
        if not self.keyframes.transforms_are_ours():
            raise ForeignFolderError(f'{self.path / "transforms.json"} was not written by '
                                     'lerf_ros: move it away, or map into another directory')
        return True

    def create(self, meta: JsonObject) -> None:
        """Writes meta.json; keeps the identity of an earlier one. Raises ForeignFolderError."""
        lasting = {'id': '', **(read_meta(self.path) or {})} if self.claim() else {}
        self.path.mkdir(parents=True, exist_ok=True)
        kept = {name: lasting[name] for name in LASTING if lasting.get(name)}
        write_json(self.path / META, {'format': FORMAT_VERSION, **new_identity(), **meta, **kept})

    def meta(self) -> JsonObject:
        """Reads meta.json; MapUnreadableError where it is missing, damaged or of another format."""
        file = self.path / META
        try:
            meta = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise MapUnreadableError(f'{self.path} is not a readable map: {error}') from error
        if not isinstance(meta, dict) or meta.get('format') not in self.formats:
            raise MapUnreadableError(
                f'{file} is not of map format {FORMAT_VERSION}: `lerf_ros reindex` brings a '
                'trained map of the format before up to date, others must be made again')
        return meta

    def exists(self) -> bool:
        """Returns whether a map was begun here.

        Raises MapUnreadableError for a file, for a damaged meta.json, and for a folder that holds
        other things and no meta.json.
        """
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise MapUnreadableError(f'{self.path} is a file: a map is a directory')
        if not any(foreign_names(self.path)):
            return False
        self.meta()
        return True

    def identity(self) -> tuple[str, str]:
        """Returns the ids of this map and of its edition, which change with a reset or a load.

        They are empty where there is no map yet. Raises MapUnreadableError.
        """
        if not self.exists():
            return '', ''
        meta = self.meta()
        return meta.get('id', ''), meta.get('edition', '')

    def write_snapshot(self, arrays: Mapping[str, Mapping[str, np.ndarray]],
                       info: JsonObject, keep: int) -> int:
        """Writes NAME.safetensors for each name and the manifest; returns the new number.

        Keeps only the newest `keep` snapshots. Raises OSError when the disk does not take it.
        """
        return self.snapshots.write(arrays, {**info, 'map_id': self.identity()[0]}, keep)

    def write_checkpoint(self, arrays: Mapping[str, Mapping[str, np.ndarray]],
                         info: JsonObject) -> int:
        """Writes a training state without an index; keeps two, in case the newer is damaged."""
        return self.checkpoints.write(arrays, {**info, 'map_id': self.identity()[0]}, keep=2)

    def newest(self, after: int = 0) -> Snapshot | None:
        """Returns the newest complete snapshot with a number above `after`; None without one.

        Raises MapUnreadableError for a path that exists and is no map.
        """
        return next(self.complete(after), None)

    def complete(self, after: int = 0) -> Iterator[Snapshot]:
        """Yields all complete snapshots of this map above `after`, newest first.

        Skips those of another map, which this one is just replacing.
        """
        identity = self.identity()[0]
        for snapshot in self.snapshots.complete(after):
            if snapshot.info.get('map_id', '') == identity:
                yield snapshot

    def training_states(self) -> Iterator[Snapshot]:
        """Yields snapshots and checkpoints that training can resume from, most steps first."""
        identity = self.identity()[0]
        found = [s for folder in (self.snapshots, self.checkpoints) for s in folder.complete()
                 if 'training.safetensors' in s.info['files']
                 and s.info.get('map_id', '') == identity]
        yield from sorted(found, key=lambda s: s.info['steps'], reverse=True)

    def own_files(self) -> list[Path]:
        """Returns all files that are known to be written by this package, meta.json last.

        The records of keyframes and snapshots name theirs, with checksums.
        """
        files = list(self.keyframes.own_files())
        for folder in (self.snapshots, self.checkpoints):
            files += [file for number in folder.numbers() for file in folder.own_files(number)
                      if is_folder(folder.path)]
        files += feature_files(self.path)
        transforms = self.path / 'transforms.json'
        if is_file(transforms) and self.keyframes.transforms_are_ours():
            files.append(transforms)
        if is_calibration(self.path / CALIBRATION):
            files.append(self.path / CALIBRATION)
        return files + ([self.path / META] if read_meta(self.path) is not None else [])

    def strangers(self) -> list[Path]:
        """Returns all files, links and other things in here that are not ours."""
        own = set(self.own_files())
        return [path for path in sorted(self.path.rglob('*'))
                if path not in own and not is_folder(path)
                and not any(part.startswith(OURS) for part in
                            path.relative_to(self.path).parts)]

    def clear(self, meta: JsonObject | None = None) -> None:
        """Deletes the map's own files; with `meta`, begins a new one with another identity.

        meta.json changes first: from then on nothing of the old map counts. What others put into
        the folder stays. Raises ForeignFolderError as `claim` does.
        """
        if not self.claim() and meta is None:
            return
        files = self.own_files()
        if meta is not None:
            self.path.mkdir(parents=True, exist_ok=True)
            files = [file for file in files if file.name != META]
            meta = {**new_identity(), **meta}
            self._begin(meta)
        for folder in (self.path, self.snapshots.path, self.checkpoints.path):
            for left in folder.glob(f'{OURS}*') if is_folder(folder) else ():
                if left.name != LOCK:
                    remove_scratch(left)
        self.delete(files)
        if meta is not None and self.keyframes.first:
            self._begin(meta)

    def discard(self) -> None:
        """Deletes the map's own files, and the folder if nothing else is in it."""
        self.clear()
        remove_scratch(self.path / LOCK)
        remove_folder_if_empty(self.path)

    def _begin(self, meta: JsonObject) -> None:
        """Writes meta.json of a map to which no keyframe belongs that is there now."""
        first = KeyframeFiles(self.path).free_index()
        self.keyframes = KeyframeFiles(self.path, self.metric, first)
        write_json(self.path / META, {'format': FORMAT_VERSION, **meta, 'first_keyframe': first})

    def delete(self, files: Collection[Path]) -> None:
        """Deletes files, and the map's folders if nothing is left in them."""
        for file in files:
            file.unlink(missing_ok=True)
        for folder in (*{file.parent for file in files}, *(self.path / n for n in FOLDERS)):
            if folder != self.path:
                remove_folder_if_empty(folder)
        if self.path.is_dir():
            flush(self.path)


def feature_files(folder: Path) -> list[Path]:
    """Returns the files of the feature cache in a map's folder."""
    features = folder / 'features'
    return [path for path in sorted(features.iterdir())
            if FEATURES.fullmatch(path.name) and is_file(path)] if is_folder(features) else []


def is_calibration(path: Path) -> bool:
    """Returns whether a file was written by `lerf_ros calibrate`."""
    try:
        content = json.loads(path.read_text()) if is_file(path) else None
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {'encoder', 'settings'} <= content.keys()


def scene_as_json(scene: SceneFrame) -> JsonObject:
    """Returns the scene frame as meta.json holds it."""
    return {'center': list(scene.center), 'radius': scene.radius, 'skipped': scene.skipped}


def scene_of(meta: JsonObject) -> SceneFrame:
    """Returns the scene frame that meta.json holds. Raises KeyError where there is none."""
    from lerf_ros.geometry.scene_frame import SceneFrame  # loads torch, which nodes do not
    stored = meta['scene']
    x, y, z = stored['center']
    # Maps of versions that skipped nothing do not say so.
    return SceneFrame((x, y, z), stored['radius'], stored.get('skipped', 0.0))


def new_identity() -> dict[str, str]:
    """Makes an id, which copies of a map keep, and an edition, which changes with each load."""
    return {'id': str(uuid.uuid4()), 'edition': str(uuid.uuid4())}
