# SPDX-License-Identifier: Apache-2.0
"""Named copies of maps below one folder: saved as a whole, verified before they are loaded."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from lerf_ros.errors import (
    ForeignFolderError,
    InvalidNameError,
    MapUnreadableError,
    NameTakenError,
    NoSnapshotError,
    NoSuchMapError,
    StorageError,
)
from lerf_ros.storage.durable import (
    OURS,
    copy_file,
    flush,
    flush_folders,
    read_sealed,
    remove_scratch,
    sealed,
    write_json,
)
from lerf_ros.storage.lock import FolderLock
from lerf_ros.storage.map_directory import MapDirectory, new_identity
from lerf_ros.storage.ownership import META, require_apart
from lerf_ros.storage.submaps import MANIFEST, SubmapFolder, SubmapSet

NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}')
# Beside the saved maps: a copy that is being made, and the map that it is about to replace.
COPYING, REPLACED = f'{OURS}copying-', f'{OURS}replaced-'
# In a map directory: a copy that is being made, and one that is complete and takes its place.
ARRIVING, ARRIVED, JOURNAL = f'{OURS}arriving', f'{OURS}arrived', 'journal.json'

# What is saved: a map of one frame, or a folder of submaps.
StoredMap: TypeAlias = MapDirectory | SubmapFolder


def stored_map(path: Path) -> StoredMap:
    """Returns the map in a folder as what it is; where there is none, as one of one frame."""
    submaps = SubmapFolder(path)
    return submaps if submaps.exists() else MapDirectory(path)


class SavedMaps:
    """The saved maps below a root folder; one process at a time changes them."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def names(self) -> list[str]:
        """Returns the names of all saved maps, in alphabetical order."""
        if not self.root.is_dir():
            return []
        names = {p.name for p in self.root.iterdir()
                 if (p / META).is_file() or (p / MANIFEST).is_file()}
        # A save that was killed between its two renames.
        names |= {n[len(REPLACED):] for n in names if n.startswith(REPLACED)}
        return sorted(n for n in names if NAME.fullmatch(n))

    def path(self, name: str) -> Path:
        """Returns the path of a map; InvalidNameError for a name that would lead elsewhere."""
        if not NAME.fullmatch(name):
            raise InvalidNameError(
                f'{name[:120]!r} is no name for a map: 1 to 100 letters, digits, "_", "-" and ".", '
                'not starting with "."')
        path = self.root / name
        if path.is_symlink():
            raise InvalidNameError(f'{path} is a link and leads out of the saved maps')
        return path

    def check_free(self, name: str, overwrite: bool) -> None:
        """Raises an error unless a map can be saved under a name.

        InvalidNameError; NameTakenError for an existing map without `overwrite`;
        ForeignFolderError where there is something else, or a map with files of others in it.
        """
        path = self.path(name)
        if name in self.names() and not overwrite:
            raise NameTakenError(f'there is a saved map {name!r} already: choose another name, or '
                                 'set overwrite')
        directory = stored_map(path)
        strangers = directory.strangers() if directory.claim() else []
        if strangers:
            raise ForeignFolderError(f'{strangers[0]} is not as lerf_ros writes it, and would go '
                                     'with the saved map: move it away, or choose another name')

    def save(self, directory: StoredMap, name: str, overwrite: bool = False) -> Path:
        """Copies a map with its newest snapshot; returns the path of the copy.

        Raises what `check_free` does, NoSnapshotError, MapUnreadableError for a damaged map, and
        StorageError; the saved maps are then as they were.
        """
        self.check_free(name, overwrite)
        target, copying = self.path(name), self.root / f'{COPYING}{name}'
        require_apart(target, [directory.path])
        if directory.newest() is None:
            raise NoSnapshotError(f'{directory.path} holds no snapshot yet: nothing is saved')
        with self._changing():
            remove_scratch(copying)
            try:
                copy_content(directory, copying)
                verify(stored_map(copying))
                self._replace(copying, target)
            finally:
                remove_scratch(copying)
        return target

    def load(self, name: str, into: StoredMap, check: Callable[[MapDirectory], None]) -> int:
        """Replaces the map in `into` by a saved one; returns how many keyframes that has.

        check: raises an error where the saved map, or one of its submaps, is not wanted. All of it
        is verified before anything is replaced. Raises NoSuchMapError, MapUnreadableError,
        ForeignFolderError where a file of somebody else has the name of one of the map's,
        StorageError and what `check` does; the map in `into` is then as it was.
        """
        path = self.path(name)
        if name not in self.names():
            known = ', '.join(self.names()) or 'none'
            raise NoSuchMapError(f'there is no saved map {name!r} in {self.root}; there are: '
                                 f'{known}')
        with self._changing():
            saved = stored_map(path)
            keyframes = verify(saved)
            for part in parts(saved):
                check(part)
            if not into.claim():    # after a kill, what arrives must be in a folder of ours
                begin_like(saved, into.path)
            stage(saved, stored_map(into.path))
        finish_load(into.path)
        return keyframes

    def _replace(self, copying: Path, target: Path) -> None:
        flush_folders(copying)
        old = self.root / f'{REPLACED}{target.name}'
        if target.exists():
            os.replace(target, old)
        os.replace(copying, target)
        flush(self.root)
        stored_map(old).discard()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Locks the saved maps, and completes or undoes what a killed process left."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FolderLock(self.root):
                for old in self.root.glob(f'{REPLACED}*'):
                    target = self.root / old.name[len(REPLACED):]
                    if target.exists():
                        stored_map(old).discard()
                    else:
                        os.replace(old, target)
                yield
        except (OSError, shutil.Error) as error:
            raise StorageError(f'{self.root}: {error}') from error


def parts(stored: StoredMap) -> list[MapDirectory]:
    """Returns the map directories that a map consists of: its submaps, or itself."""
    return stored.directories() if isinstance(stored, SubmapFolder) else [stored]


def begin_like(saved: StoredMap, path: Path) -> None:
    """Begins an empty map of the kind of a saved one."""
    if isinstance(saved, SubmapFolder):
        SubmapFolder(path).write(SubmapSet.begin(saved.submaps().lattice))
    else:
        MapDirectory(path).create({**saved.meta(), **new_identity(), 'scene': None})


def verify(stored: StoredMap) -> int:
    """Checks every file of a map against its checksum; returns the number of keyframes.

    Raises MapUnreadableError for a map that is damaged or holds no snapshot. A submap may be so
    new that it has none.
    """
    if not isinstance(stored, SubmapFolder):
        return len(verified(stored))
    if stored.newest() is None:
        raise MapUnreadableError(f'{stored.path} holds no complete snapshot')
    return len({(source, index) for source, part in stored.sources()
                for index in (verified(part) if part.newest() else part.keyframes.indices())})


def verified(directory: MapDirectory) -> list[int]:
    """Checks every file of a map of one frame; returns its keyframes. Raises as `verify`."""
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
    return indices


def copy_content(stored: StoredMap, target: Path) -> None:
    """Copies all files of a map, of its snapshots only the newest. Raises OSError."""
    target.mkdir(parents=True)
    for part in parts(stored):
        for path in lasting_files(part):
            copy_file(path, target / path.relative_to(stored.path))
    if isinstance(stored, SubmapFolder):
        copy_file(stored.path / MANIFEST, target / MANIFEST)


def lasting_files(part: MapDirectory) -> Iterator[Path]:
    """Yields the files of a map of one frame that a copy needs: of its snapshots only the newest.
    """
    snapshot = part.newest()
    for path in part.own_files():
        folder = path.relative_to(part.path).parts[0]
        old = folder == 'snapshots' and snapshot is not None and path.parent != snapshot.path
        if folder != 'checkpoints' and not old and not path.name.startswith(OURS):
            yield path


def renew(arriving: StoredMap) -> None:
    """Gives a copy another edition, by which readers know that the map was replaced."""
    edition = new_identity()['edition']
    if isinstance(arriving, SubmapFolder):
        arriving.write(replace(arriving.submaps(), edition=edition))
    else:
        write_json(arriving.path / META, {**arriving.meta(), 'edition': edition})


def stage(saved: StoredMap, into: StoredMap) -> None:
    """Copies a verified map into a map directory, complete but not in its place yet."""
    folder, arriving = into.path, into.path / ARRIVING
    into.claim()
    remove_scratch(arriving)
    try:
        copy_content(saved, arriving)
        renew(stored_map(arriving))
        verify(stored_map(arriving))
        new = [str(path.relative_to(arriving)) for path in stored_map(arriving).own_files()]
        old = [str(path.relative_to(folder)) for path in into.own_files()]
        for name in new:
            if name not in old and os.path.lexists(folder / name):
                raise ForeignFolderError(f'{folder / name} was not written by lerf_ros and has '
                                         'the name of a file of the saved map: move it away')
        write_json(arriving / JOURNAL, sealed({'new': new, 'old': old}))
        flush_folders(arriving)
        os.replace(arriving, folder / ARRIVED)
        flush(folder)
    finally:
        remove_scratch(arriving)


def finish_load(folder: Path) -> None:
    """Moves a map that has arrived to its place; resumes where a killed process stopped.

    Readers rely on meta.json, which comes last; they ignore snapshots of another map.
    """
    remove_scratch(folder / ARRIVING)
    arrived = folder / ARRIVED
    if not arrived.is_dir():
        return
    journal = read_sealed(arrived / JOURNAL)
    new, directory = journal['new'], stored_map(folder)
    directory.delete([folder / name for name in journal['old'] if name not in set(new)])
    for name in new:
        if (arrived / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(arrived / name, folder / name)
    for name in {Path(name).parent for name in new}:
        flush(folder / name)
    flush(folder)
    remove_scratch(arrived)
