# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, also after a loss of power, and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeAlias

from lerf_ros.errors import MapUnreadableError

# A JSON object from a file, which any program may have written.
JsonObject: TypeAlias = dict[str, Any]

# Names that begin so are ours in any folder: locks, and files and copies that are being written.
OURS = '.lerf_ros.'
PARTIAL = f'{OURS}partial.'


def write_file(path: Path, data: bytes) -> None:
    """Writes a file beside its place, flushes it, renames it and flushes the folder."""
    commit(prepare(path, data), path)


def prepare(path: Path, data: bytes) -> Path:
    """Writes a file beside its place and flushes it; returns where, for `commit`."""
    partial = partial_path(path)
    # O_NOFOLLOW: a link that somebody put there must not be written through.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                         | os.O_CLOEXEC, 0o666)
    with open(descriptor, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return partial


def partial_path(path: Path) -> Path:
    """Returns where a file lies before it is whole; its ending, which tells its format, stays."""
    return path.with_name(f'{PARTIAL}{path.name}')


def commit(partial: Path, path: Path) -> None:
    """Renames a prepared file to its place and flushes the folder."""
    os.replace(partial, path)
    flush(path.parent)


def write_json(path: Path, content: JsonObject) -> None:
    """Writes readable JSON as `write_file` does."""
    write_file(path, json.dumps(content, indent=1).encode())


def sealed(content: JsonObject) -> JsonObject:
    """Returns the content with its own checksum in it."""
    return {**content, 'checksum': checksum(content)}


def read_sealed(path: Path) -> JsonObject:
    """Reads `sealed` JSON without its checksum; MapUnreadableError where that does not hold."""
    try:
        content: JsonObject = json.loads(path.read_text())
        stated = content.pop('checksum')
        if stated == checksum(content):
            return content
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MapUnreadableError(f'{path} cannot be read: {error}') from error
    raise MapUnreadableError(f'{path} is damaged: its checksum does not hold')


def checksum(content: JsonObject) -> str:
    """Computes the checksum of JSON values, whatever the order of their names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_file(path: Path) -> bool:
    """Returns whether there is a regular file; a link to one does not count."""
    return path.is_file() and not path.is_symlink()


def is_folder(path: Path) -> bool:
    """Returns whether there is a folder; a link to one does not count."""
    return path.is_dir() and not path.is_symlink()


def remove_folder_if_empty(path: Path) -> None:
    """Removes a folder if nothing is in it."""
    if is_folder(path) and not any(path.iterdir()):
        path.rmdir()


def remove_scratch(path: Path) -> None:
    """Deletes a file or folder that has a name of ours; does not follow links."""
    if not path.name.startswith(OURS):
        raise ValueError(f'{path} may hold what others wrote')
    if is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Computes the SHA-256 of a file; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    """Computes the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def check_file(path: Path, expected: str) -> None:
    """Raises MapUnreadableError unless the file has this checksum."""
    try:
        found = sha256(path)
    except OSError as error:
        raise MapUnreadableError(f'{path} cannot be read: {error}') from error
    if found != expected:
        raise MapUnreadableError(f'{path} is damaged: its checksum differs from the one that '
                                 'was stored with it')


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path) -> None:
    """Copies and flushes one file; the folder of the target is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    flush(target)


def flush_folders(folder: Path) -> None:
    """Flushes a folder and all folders in it."""
    for path in [*(p for p in folder.rglob('*') if p.is_dir()), folder]:
        flush(path)
