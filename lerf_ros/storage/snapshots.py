# SPDX-License-Identifier: Apache-2.0
"""Numbered folders of safetensors files with a manifest of checksums: complete, or not there."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lerf_ros.errors import MapUnreadableError
from lerf_ros.storage.durable import (
    OURS,
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
    """A complete snapshot: its number, its folder, and what its manifest says of it."""

    number: int
    path: Path
    info: Mapping[str, Any]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of NAME.safetensors; MapUnreadableError when the checksum does not hold."""
        from safetensors import SafetensorError  # brings torch with it, which a node may not need
        from safetensors.torch import load_file

        file = f'{name}.safetensors'
        try:
            check_file(self.path / file, self.info['files'][file])
            # This reader maps the file into memory: what no query touches is never copied.
            return {key: value.numpy() for key, value in load_file(self.path / file).items()}
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise MapUnreadableError(f'{self.path / file} cannot be read: {error}') from error

    def verify(self) -> None:
        """MapUnreadableError unless the checksums of all files hold."""
        for file, expected in self.info['files'].items():
            check_file(self.path / file, expected)


class SnapshotFolder:
    """Writes and finds numbered snapshots in one folder; a reader sees all of one or nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned: set[int] = set()

    def numbers(self) -> list[int]:
        """All there are, ascending, complete or not."""
        return sorted(int(p.name) for p in self.path.iterdir() if DIGITS.fullmatch(p.name)) \
            if self.path.is_dir() else []

    def write(self, arrays: Mapping[str, Mapping[str, np.ndarray]], info: Mapping[str, Any],
              keep: int) -> int:
        """Writes NAME.safetensors for each name and the manifest; returns the new number.

        Only the newest `keep` are left. OSError where the disk is full or read-only: those that
        were complete before are still there then, and what was begun is removed.
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
        """Those whose manifest holds, ascending: that we wrote them is known."""
        return [number for number in self.numbers() if self.own_files(number)]

    def own_files(self, number: int) -> list[Path]:
        """The files of a snapshot that its manifest names, itself last; none without a manifest."""
        folder = self.path / f'{number:06d}'
        try:
            names = [*read_sealed(folder / MANIFEST)['files'], MANIFEST]
        except (MapUnreadableError, KeyError, TypeError):
            return []
        files = [folder / name for name in names if name == MANIFEST or ARRAYS.fullmatch(name)]
        return [file for file in files if is_folder(folder) and is_file(file)]

    def remove(self, number: int) -> None:
        """Deletes the files that belong to a snapshot; whatever else lies there stays."""
        for file in self.own_files(number):
            file.unlink(missing_ok=True)
        remove_folder_if_empty(self.path / f'{number:06d}')

    def clear(self) -> None:
        """Removes all that were written here, and the folder where nothing else is in it."""
        for number in self.own_numbers():
            self.remove(number)
        remove_folder_if_empty(self.path)

    @staticmethod
    def _fill(folder: Path, arrays: Mapping[str, Mapping[str, np.ndarray]],
              info: Mapping[str, Any]) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        files = {}
        for name, tensors in arrays.items():
            file = folder / f'{name}.safetensors'
            file.touch()
            mode = file.stat().st_mode      # as the umask has it: save_file gives 0600
            try:
                save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, file)
            except SafetensorError as error:   # how it tells that the disk is full
                raise OSError(f'{file} cannot be written: {error}') from error
            file.chmod(mode)
            flush(file)
            files[file.name] = sha256(file)
        write_json(folder / MANIFEST, sealed({**info, 'files': files}))

    def complete(self, after: int = 0) -> Iterator[Snapshot]:
        """Those with a number above `after` whose manifest holds and whose files exist.

        Newest first. One that is not complete is named in a warning, once.
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
