# SPDX-License-Identifier: Apache-2.0
"""Named copies of maps below one folder: saved whole or not at all, verified before they load."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lerf_ros.errors import (
    InvalidNameError,
    MapUnreadableError,
    NameTakenError,
    NoSnapshotError,
    NoSuchMapError,
    StorageError,
)
from lerf_ros.storage.durable import copy_file, flush, flush_folders, write_json
from lerf_ros.storage.lock import FolderLock
from lerf_ros.storage.map_directory import CONTENT, MapDirectory, new_identity, remove

NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}')
# Beside the saved maps: a copy that is being made, and the map that it is about to replace.
PARTIAL, REPLACED = '.partial-', '.replaced-'
# In a map directory: a copy that is being made, and one that is complete and takes its place.
ARRIVING, ARRIVED, JOURNAL = '.arriving', '.arrived', 'journal.json'


class SavedMaps:
    """The maps below a root; one process at a time changes them."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def names(self) -> list[str]:
        """All saved maps, in alphabetical order."""
        if not self.root.is_dir():
            return []
        names = {p.name for p in self.root.iterdir() if (p / 'meta.json').is_file()}
        # A save that was killed between its two renames.
        names |= {n[len(REPLACED):] for n in names if n.startswith(REPLACED)}
        return sorted(n for n in names if NAME.fullmatch(n))

    def path(self, name: str) -> Path:
        """Where a map of this name lies; InvalidNameError for what would lie elsewhere."""
        if not NAME.fullmatch(name):
            raise InvalidNameError(
                f'{name[:120]!r} is no name for a map: 1 to 100 letters, digits, "_", "-" and ".", '
                'not starting with "."')
        path = self.root / name
        if path.is_symlink():
            raise InvalidNameError(f'{path} is a link and leads out of the saved maps')
        return path

    def check_free(self, name: str, overwrite: bool) -> None:
        """InvalidNameError, and NameTakenError where there is such a map and it shall stay."""
        if (self.path(name).exists() or name in self.names()) and not overwrite:
            raise NameTakenError(f'there is a saved map {name!r} already: choose another name, or '
                                 'set overwrite')

    def save(self, directory: MapDirectory, name: str, overwrite: bool = False) -> Path:
        """Copies a map with its newest snapshot; returns where the copy is.

        Raises NoSnapshotError, MapUnreadableError when what is copied is damaged, and
        StorageError; the saved maps are then as they were.
        """
        self.check_free(name, overwrite)
        snapshot = directory.newest()
        if snapshot is None:
            raise NoSnapshotError(f'{directory.path} holds no snapshot yet: nothing is saved')
        target, partial = self.path(name), self.root / f'{PARTIAL}{name}'
        with self._changing():
            remove(partial)
            try:
                copy_content(directory.path, partial, {f'snapshots/{snapshot.number:06d}'})
                verify(MapDirectory(partial))
                self._replace(partial, target)
            finally:
                remove(partial)
        return target

    def load(self, name: str, into: MapDirectory, check: Callable[[MapDirectory], None]) -> int:
        """Puts a saved map in the place of the one in `into`; returns its number of keyframes.

        check: raises what speaks against the saved map. All of it is verified before anything is
        replaced. Raises NoSuchMapError, MapUnreadableError, StorageError and what `check` does;
        the map in `into` is then as it was.
        """
        path = self.path(name)
        if name not in self.names():
            known = ', '.join(self.names()) or 'none'
            raise NoSuchMapError(f'there is no saved map {name!r} in {self.root}; there are: '
                                 f'{known}')
        with self._changing():
            saved = MapDirectory(path)
            keyframes = verify(saved)
            check(saved)
            bring(saved, into.path)
        finish_load(into.path)
        return keyframes

    def _replace(self, partial: Path, target: Path) -> None:
        flush_folders(partial)
        old = self.root / f'{REPLACED}{target.name}'
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
        flush(self.root)
        remove(old)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with the saved maps, and with what a killed process left put right."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FolderLock(self.root):
                for old in self.root.glob(f'{REPLACED}*'):
                    target = self.root / old.name[len(REPLACED):]
                    if target.exists():
                        remove(old)
                    else:
                        os.replace(old, target)
                yield
        except (OSError, shutil.Error) as error:
            raise StorageError(f'{self.root}: {error}') from error


def verify(directory: MapDirectory) -> int:
    """Checks every file of a map against its checksum; returns the number of keyframes.

    Raises MapUnreadableError for what is damaged, foreign or holds no snapshot.
    """
    meta = directory.meta()
    snapshot = directory.newest()
    if snapshot is None:
        raise MapUnreadableError(f'{directory.path} holds no complete snapshot')
    snapshot.verify()
    indices = directory.keyframes.indices()
    for index in indices:
        directory.keyframes.verify(index)
    missing = {*snapshot.info.get('rows', ()), *snapshot.info.get('held_out', ())} - {*indices}
    if missing:
        raise MapUnreadableError(f'{directory.path} lacks the keyframes {sorted(missing)}')
    if not isinstance(meta.get('scene'), Mapping):
        raise MapUnreadableError(f'{directory.path} has no scene in its meta.json')
    return len(indices)


def copy_content(source: Path, target: Path, snapshots: set[str]) -> None:
    """Copies all that belongs to a map, of its snapshots only these. Raises OSError."""
    target.mkdir(parents=True)
    for name in CONTENT:
        for path in sorted([source / name, *(source / name).rglob('*')]):
            inside = path.relative_to(source)
            part = str(Path(*inside.parts[:2]))
            if name == 'checkpoints' or (name == 'snapshots' and part not in snapshots):
                continue
            if path.is_file() and not path.name.startswith('.'):
                copy_file(path, target / inside)


def bring(saved: MapDirectory, folder: Path) -> None:
    """Copies a verified map into a map directory, complete but not in its place yet."""
    arriving, snapshot = folder / ARRIVING, saved.newest()
    assert snapshot is not None, 'verified'
    remove(arriving)
    try:
        copy_content(saved.path, arriving, {f'snapshots/{snapshot.number:06d}'})
        write_json(arriving / 'meta.json',
                   {**saved.meta(), 'edition': new_identity()['edition']})
        verify(MapDirectory(arriving))
        write_json(arriving / JOURNAL, sorted(p.name for p in arriving.iterdir()))
        flush_folders(arriving)
        os.replace(arriving, folder / ARRIVED)
        flush(folder)
    finally:
        remove(arriving)


def finish_load(folder: Path) -> None:
    """Puts a map that has arrived in its place; goes on where a killed process stopped.

    Readers believe meta.json, which comes last; snapshots of another map do not count for them.
    """
    remove(folder / ARRIVING)
    arrived = folder / ARRIVED
    if not arrived.is_dir():
        return
    names = json.loads((arrived / JOURNAL).read_text())
    for name in CONTENT:
        if (arrived / name).is_file():
            os.replace(arrived / name, folder / name)
        elif (arrived / name).is_dir():
            remove(folder / name)
            os.replace(arrived / name, folder / name)
        elif name not in names:
            remove(folder / name)
    flush(folder)
    remove(arrived)
