# SPDX-License-Identifier: Apache-2.0
"""Folders of results (pictures, tables, clouds), in which no file of somebody else is lost.

A list beside the results holds the checksums of the files that were written (`sha256sum --check`
reads it). Only a file that has not changed since is replaced by a newer one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lerf_ros.errors import ForeignFolderError, StorageError
from lerf_ros.storage.durable import OURS, is_file, partial_path, sha256
from lerf_ros.storage.ownership import require_apart, require_no_strangers

LIST = f'{OURS}sha256'
FOLDER_MARK = '0' * 64      # in place of a checksum


class OutputFolder:
    """Writes files into a folder that is new, empty or held results before."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def claim(self, inputs: Iterable[str | Path] = ()) -> None:
        """Makes the folder and its list, unless they are there.

        Raises ForeignFolderError for a folder that is an input, holds one or lies in one, and for
        one with files of others; StorageError where it cannot be made.
        """
        require_apart(self.path, inputs)
        if is_file(self.path / LIST):
            return
        require_no_strangers(self.path, f'list of results ({LIST})')
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._note('')
        except OSError as error:
            raise StorageError(f'{self.path} cannot be written ({error.strerror})') from error

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yields where to write a file; it moves to its place when the block ends.

        Raises as `claim`, and ForeignFolderError where a file of that name was not written here,
        or was changed since.
        """
        self.claim()
        path, partial = self.path / name, partial_path(self.path / name)
        self._check(path)
        partial.unlink(missing_ok=True)
        try:
            yield partial
            digest = sha256(partial)
            self._check(path)
            self._note(f'{digest}  {name}\n')   # first, so that a kill leaves no unknown file
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def note_folder(self, name: str) -> None:
        """Notes in the list that a folder in here is one of the results."""
        self.claim()
        self._note(f'{FOLDER_MARK}  {name}\n')

    def knows(self, name: str, digest: str = FOLDER_MARK) -> bool:
        """Returns whether a file with this checksum, or a folder, was noted in the list."""
        try:
            lines = (self.path / LIST).read_text(encoding='utf-8').splitlines()
        except (OSError, UnicodeDecodeError):
            return False
        return f'{digest}  {name}' in lines

    def _check(self, path: Path) -> None:
        if os.path.lexists(path) and not (is_file(path) and self.knows(path.name, sha256(path))):
            raise ForeignFolderError(f'{path} was not written by lerf_ros, or was changed since: '
                                     'move it away, or choose another folder')

    def _note(self, line: str) -> None:
        # Appended: several processes may write into one folder.
        descriptor = os.open(self.path / LIST, os.O_WRONLY | os.O_CREAT | os.O_APPEND
                             | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
