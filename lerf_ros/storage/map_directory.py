# SPDX-License-Identifier: Apache-2.0
"""The map directory: the contract between the mapper, which writes it, and queries, which read it.

    MAP/meta.json                  format, identity, map frame, scene frame, encoder, settings
    MAP/keyframes/, images/, ...   keyframes, each durable on its own (storage/keyframe_files.py)
    MAP/transforms.json            all of them in nerfstudio's layout, as of the newest snapshot
    MAP/snapshots/000007/          manifest.json (checksums), field.safetensors, index.safetensors
    MAP/checkpoints/000009/        the same without an index: to go on training from
    MAP/features/                  what the encoder saw in the keyframes, to be had again

Every file is written beside its place, flushed to the disk and renamed, a snapshot as a whole
folder: a reader sees all of it or nothing. Safetensors and JSON only, so that opening a map never
runs code from it.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lerf_ros.errors import MapUnreadableError
from lerf_ros.keyframes.frame import Keyframe
from lerf_ros.storage.durable import flush, write_json
from lerf_ros.storage.keyframe_files import KeyframeFiles
from lerf_ros.storage.snapshots import Snapshot, SnapshotFolder

__all__ = ['CONTENT', 'MapDirectory', 'Snapshot']

FORMAT_VERSION = 3
# Formats whose fields can still be read, so that their index can be built anew.
READABLE_FORMATS = (2, 3)
# All that belongs to a map, in the order in which another map's is put in its place: readers
# believe meta.json, so it comes last.
CONTENT = ('snapshots', 'checkpoints', 'keyframes', 'images', 'depth', 'masks', 'features',
           'transforms.json', 'meta.json')


class MapDirectory:
    """Reads and writes one map directory; one writer, any number of readers."""

    def __init__(self, path: str | Path, metric: bool = False,
                 formats: Collection[int] = (FORMAT_VERSION,)) -> None:
        """formats: those that are not refused."""
        self.path, self.formats = Path(path), formats
        self.keyframes = KeyframeFiles(self.path, metric)
        self.snapshots = SnapshotFolder(self.path / 'snapshots')
        self.checkpoints = SnapshotFolder(self.path / 'checkpoints')

    @property
    def metric(self) -> bool:
        return self.keyframes.metric

    def create(self, meta: Mapping[str, Any]) -> None:
        """Starts the map with its meta data; called again, it replaces all but the identity."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            identity = {'id': self.meta()['id'], 'edition': self.meta()['edition']}
        except (MapUnreadableError, KeyError):
            identity = new_identity()
        write_json(self.path / 'meta.json', {'format': FORMAT_VERSION, **identity, **meta})

    def meta(self) -> dict[str, Any]:
        """meta.json; MapUnreadableError where it is missing, damaged or of another format."""
        file = self.path / 'meta.json'
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
        """Whether a map was begun here; MapUnreadableError for what is something else.

        Raises it for a file, for a damaged meta.json, and for a folder with foreign things in it.
        """
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise MapUnreadableError(f'{self.path} is a file: a map is a directory')
        visible = {p.name for p in self.path.iterdir() if not p.name.startswith('.')}
        # A map of its first seconds may have no meta.json yet.
        if not visible - (set(CONTENT) - {'meta.json'}):
            return False
        self.meta()
        return True

    def identity(self) -> tuple[str, str]:
        """Which map this is, and which edition of it; both change with a reset or a load.

        Two empty strings where there is no map yet. Raises MapUnreadableError.
        """
        if not self.exists():
            return '', ''
        meta = self.meta()
        return meta.get('id', ''), meta.get('edition', '')

    def add_keyframe(self, keyframe: Keyframe) -> None:
        """Stores a keyframe; it is on the disk when this returns. Raises OSError."""
        self.keyframes.add(keyframe)

    def write_snapshot(self, arrays: Mapping[str, Mapping[str, np.ndarray]],
                       info: Mapping[str, Any], keep: int) -> int:
        """Writes NAME.safetensors for each name and the manifest; returns the new number.

        Only the newest `keep` snapshots are left. OSError when the disk does not take it.
        """
        return self.snapshots.write(arrays, {**info, 'map_id': self.identity()[0]}, keep)

    def write_checkpoint(self, arrays: Mapping[str, Mapping[str, np.ndarray]],
                         info: Mapping[str, Any]) -> int:
        """Writes the state of training alone; two are kept, in case the newer is damaged."""
        return self.checkpoints.write(arrays, {**info, 'map_id': self.identity()[0]}, keep=2)

    def newest(self, after: int = 0) -> Snapshot | None:
        """The newest complete snapshot with a number above `after`; None when there is none.

        Raises MapUnreadableError for a path that exists and is no map.
        """
        return next(self.complete(after), None)

    def complete(self, after: int = 0) -> Iterator[Snapshot]:
        """All complete snapshots of this map above `after`, newest first.

        One of another map, which is just being replaced by this one, is passed over.
        """
        identity = self.identity()[0]
        for snapshot in self.snapshots.complete(after):
            if snapshot.info.get('map_id', '') == identity:
                yield snapshot

    def training_states(self) -> Iterator[Snapshot]:
        """Snapshots and checkpoints of this map to go on training from, most steps first."""
        identity = self.identity()[0]
        found = [s for folder in (self.snapshots, self.checkpoints) for s in folder.complete()
                 if 'training.safetensors' in s.info['files']
                 and s.info.get('map_id', '') == identity]
        yield from sorted(found, key=lambda s: s.info['steps'], reverse=True)

    def clear(self, meta: Mapping[str, Any] | None = None) -> None:
        """Forgets the map; with `meta`, starts a new one with another identity at once.

        meta.json changes first: from then on nothing of the old map counts.
        """
        if meta is not None:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / 'meta.json',
                       {'format': FORMAT_VERSION, **new_identity(), **meta})
        for name in CONTENT if meta is None else CONTENT[:-1]:
            remove(self.path / name)
        if self.path.is_dir():
            flush(self.path)
        self.keyframes = KeyframeFiles(self.path, self.metric)


def new_identity() -> dict[str, str]:
    """id: of the map and all its copies; edition: new with each load, so that readers notice."""
    return {'id': str(uuid.uuid4()), 'edition': str(uuid.uuid4())}


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
