# SPDX-License-Identifier: Apache-2.0
"""Numbered folders of safetensors files with a manifest of checksums, complete or not there."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lerf_ros.errors import MapUnreadableError
from lerf_ros.storage.durable import (
    OURS,
    JsonObject,
    check_file,
    flush,
    is_file,
    is_folder,
    read_sealed,
    remove_folder_if_empty,
    remove_scratch,
    sealed,
    sha256,
    write_json,
)

MANIFEST, ARRAYS = 'manifest.json', re.compile(r'\w+\.safetensors')
DIGITS = re.compile(r'[0-9]{6,18}')
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot: its number, its folder, and the contents of its manifest."""

    number: int
    path: Path
    info: JsonObject

    def has(self, name: str) -> bool:
        """Returns whether there is a NAME.safetensors."""
        return f'{name}.safetensors' in self.info['files']

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Reads the arrays of NAME.safetensors; MapUnreadableError when it is damaged."""
        from safetensors import SafetensorError  # loads torch, which nodes may not need
        from safetensors.torch import load_file

        file = f'{name}.safetensors'
        try:
            check_file(self.path / file, self.info['files'][file])
            # This maps the file into memory: arrays that no query reads are never copied.
            return {key: value.numpy() for key, value in load_file(self.path / file).items()}
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise MapUnreadableError(f'{self.path / file} cannot be read: {error}') from error

    def verify(self) -> None:
        """Raises MapUnreadableError unless the checksums of all files hold."""
        for file, expected in self.info['files'].items():
            check_file(self.path / file, expected)


class SnapshotFolder:
    """Writes and finds numbered snapshots in one folder; a reader sees a whole one or none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned: set[int] = set()

    def numbers(self) -> list[int]:
        """Returns the numbers of all snapshots, complete or not, ascending."""
        return sorted(int(p.name) for p in self.path.iterdir() if DIGITS.fullmatch(p.name)) \
            if self.path.is_dir() else []

    def write(self, arrays: Mapping[str, Mapping[str, np.ndarray]], info: JsonObject,
              keep: int) -> int:
        """Writes NAME.safetensors for each name and the manifest; returns the new number.

        Keeps only the newest `keep`. Raises OSError where the disk is full or read-only: snapshots
        that were complete before stay, and the new one is removed.
        """
        number = max(self.numbers(), default=0) + 1
        for left in self.path.glob(f'{OURS}*') if self.path.is_dir() else ():
            remove_scratch(left)   # a writer was killed
        partial = self.path / f'{OURS}partial-{number:06d}'
        try:
            partial.mkdir(parents=True)
            self._fill(partial, arrays, info)
            os.replace(partial, self.path / f'{number:06d}')
        except OSError:
            remove_scratch(partial)
            raise
        flush(self.path)
        for old in self.own_numbers()[:-keep]:
            self.remove(old)
        return number

    def own_numbers(self) -> list[int]:
        """Returns the numbers of those with a valid manifest, which are ours, ascending."""
        return [number for number in self.numbers() if self.own_files(number)]

    def own_files(self, number: int) -> list[Path]:
        """Returns the files that a snapshot's manifest names, itself last; none without one."""
        folder = self.path / f'{number:06d}'
        try:
            names = [*read_sealed(folder / MANIFEST)['files'], MANIFEST]
        except (MapUnreadableError, KeyError, TypeError):
            return []
        files = [folder / name for name in names if name == MANIFEST or ARRAYS.fullmatch(name)]
        return [file for file in files if is_folder(folder) and is_file(file)]

    def remove(self, number: int) -> None:
        """Deletes the files of a snapshot; other files in its folder stay."""
        for file in self.own_files(number):
            file.unlink(missing_ok=True)
        remove_folder_if_empty(self.path / f'{number:06d}')

    def clear(self) -> None:
        """Removes all snapshots of ours, and the folder if nothing else is in it."""
        for number in self.own_numbers():
            self.remove(number)
        remove_folder_if_empty(self.path)

    @staticmethod
    def _fill(folder: Path, arrays: Mapping[str, Mapping[str, np.ndarray]],
              info: JsonObject) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        files = {}
        for name, tensors in arrays.items():
            file = folder / f'{name}.safetensors'
            file.touch()
            mode = file.stat().st_mode      # of the umask, where save_file gives 0600
            try:
                save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, file)
            except SafetensorError as error:   # raised where the disk is full
                raise OSError(f'{file} cannot be written: {error}') from error
            file.chmod(mode)
            flush(file)
            files[file.name] = sha256(file)
        write_json(folder / MANIFEST, sealed({**info, 'files': files}))

    def complete(self, after: int = 0) -> Iterator[Snapshot]:
        """Yields those above `after` with a valid manifest and all files, newest first.

        Warns once of each that is not complete.
        """
        for number in reversed(self.numbers()):
            if number <= after:
                return
            path = self.path / f'{number:06d}'
            try:
                info = read_sealed(path / MANIFEST)
                missing = [file for file in info['files'] if not (path / file).is_file()]
                if missing:
                    raise MapUnreadableError(f'{path / missing[0]} is missing')
            except (MapUnreadableError, KeyError, TypeError) as error:
                if number not in self._warned:
                    log.warning('snapshot %s is not complete (%s): an older one is used',
                                path, error)
                self._warned.add(number)
            else:
                yield Snapshot(number, path, info)
