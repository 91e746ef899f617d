# SPDX-License-Identifier: Apache-2.0
"""Finds the files that a capture names, even if the names were written on another system.

A name is tried as it stands; then with Windows separators; then ignoring case and Unicode form,
which some systems do not distinguish; then without its ending; and last by its trailing parts,
because colmap2nerf writes paths relative to where it was started, and other tools write those of
another machine. Several candidates count as none.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath

from lerf_ros.errors import DatasetError

IMAGE_ENDINGS = frozenset(('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.gif',
                           '.avif', '.heic', '.heif', '.jp2', '.ppm', '.pgm', '.exr', '.npy',
                           '.npz'))
LONGEST = 255   # bytes of a file name
# Files in folders with these prefixes are not colour images.
NO_COLOUR = ('depth', 'mask', 'conf', 'normal', 'semantic', 'instance', 'segment')


class FileFinder:
    """Looks up files below a folder, and next to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.moved: list[str] = []   # names that were found by their trailing parts

    def find(self, name: str, colour: bool = True) -> Path | None:
        """Returns the file of a name, or None if there is none or several candidates.

        colour: the name is that of a colour image, so that depth maps of the same name are ignored.
        """
        parts = normal_parts(name)
        # No file system allows such names, and looking them up would raise.
        if not parts or '\0' in name or max(len(os.fsencode(part)) for part in parts) > LONGEST:
            return None
        written = self.root / name
        if written.is_file():
            return written
        for base in (self.root, *([] if is_absolute(name) else [self.root.resolve().parent])):
            found = self._spelled(base, parts)
            if found is not None:
                if base != self.root:
                    self.moved.append(name)
                return found
        end = [part for part in parts if part != '..']
        found = self._by_trailing_parts(end, colour) if end else None
        if found is not None:
            self.moved.append(name)
        return found

    def existing(self, name: str, what: str, colour: bool = False) -> Path:
        """Returns the file of a name as `find` does; raises DatasetError if there is none.

        what: describes the file in the message.
        """
        path = self.find(name, colour)
        if path is None:
            raise DatasetError(f'{what} {self.root / name} does not exist')
        return path

    def _spelled(self, base: Path, parts: list[str]) -> Path | None:
        """Returns the only file whose path equals parts except for case, Unicode form, ending."""
        folder = base
        for part in parts[:-1]:
            exact = folder / part
            if not exact.is_dir():
                alike = [p for p in sorted_content(folder)
                         if same_name(p.name, part) and p.is_dir()]
                if len(alike) != 1:
                    return None
                exact = alike[0]
            folder = exact
        return only_match([p for p in sorted_content(folder) if p.is_file()], parts[-1])

    def _by_trailing_parts(self, parts: list[str], colour: bool) -> Path | None:
        """Returns the file that shares most trailing parts with a name, if only one does."""
        candidates = [path for path in self._files[name_key(parts[-1])]
                      if not (colour and is_not_colour(path.relative_to(self.root)))]
        shared = [count_shared_parts(path.parts, parts) for path in candidates]
        # For depth and masks the name alone is not enough: colour images often have the same.
        if max(shared, default=0) < (1 if colour else min(len(parts), 2)):
            return None
        best = [path for path, count in zip(candidates, shared) if count == max(shared)]
        return only_match(best, parts[-1])

    @cached_property
    def _files(self) -> defaultdict[str, list[Path]]:
        """All images below the folder by the key of their name, with and without its ending."""
        files: defaultdict[str, list[Path]] = defaultdict(list)
        for folder, _, names in os.walk(self.root):
            for name in names:
                if PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS:
                    path = Path(folder) / name
                    files[name_key(name)].append(path)
                    files[name_key(path.stem)].append(path)
        return files


def normal_parts(name: str) -> list[str]:
    """Splits a path with either system's separators into parts, without `.` and `a/..`."""
    parts: list[str] = []
    for part in name.replace('\\', '/').split('/'):
        if part == '..' and parts and parts[-1] != '..':
            parts.pop()
        elif part not in ('', '.'):
            parts.append(part)
    return parts


def is_absolute(name: str) -> bool:
    """Returns whether a path is absolute, on this system or on Windows."""
    return name.startswith(('/', '\\')) or name[1:2] == ':'


def name_key(name: str) -> str:
    """Returns a key that is equal for names that some file systems do not distinguish."""
    return unicodedata.normalize('NFC', name).casefold()


def same_name(a: str, b: str) -> bool:
    """Returns whether two names differ only in case and Unicode form."""
    return name_key(a) == name_key(b)


def sorted_content(folder: Path) -> list[Path]:
    """Returns the sorted content of a folder, empty if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def only_match(files: list[Path], name: str) -> Path | None:
    """Returns the only one of some files with this name, with or without its ending, or None."""
    for fits in (lambda p: p.name == name, lambda p: same_name(p.name, name),
                 lambda p: p.suffix.lower() in IMAGE_ENDINGS and p.stem == name,
                 lambda p: p.suffix.lower() in IMAGE_ENDINGS and same_name(p.stem, name)):
        fitting = [path for path in files if fits(path)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def count_shared_parts(path: tuple[str, ...], parts: list[str]) -> int:
    """Counts the trailing parts that two paths share; their last parts are taken to match."""
    count = 1
    while (count < min(len(path), len(parts)) and same_name(path[-count - 1], parts[-count - 1])):
        count += 1
    return count


def is_not_colour(path: Path) -> bool:
    """Returns whether a path below the capture is named like depth, a mask or the like."""
    return any(part.lower().startswith(NO_COLOUR) for part in path.parts[:-1]) or any(
        path.stem.lower().endswith(f'.{word}') for word in NO_COLOUR)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Returns a sort key that orders file names by the numbers in them: 2.png before 10.png."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', name)]
