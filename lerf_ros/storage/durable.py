# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, also after a loss of power, and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lerf_ros.errors import MapUnreadableError


def write_file(path: Path, data: bytes) -> None:
    """Writes beside the place, flushes to the disk and renames; the folder is flushed too."""
    partial = path.with_name(f'.{path.name}.partial')
    with partial.open('wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    flush(path.parent)


def write_json(path: Path, content: Any) -> None:
    """`write_file` of readable JSON."""
    write_file(path, json.dumps(content, indent=1).encode())


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its own checksum in it."""
    return {**content, 'checksum': checksum(content)}


def read_sealed(path: Path) -> dict[str, Any]:
    """What `sealed` content a JSON file holds; MapUnreadableError where it is not whole."""
    try:
        content = json.loads(path.read_text())
        stated = content.pop('checksum')
        if stated == checksum(content):
            return content
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MapUnreadableError(f'{path} cannot be read: {error}') from error
    raise MapUnreadableError(f'{path} is damaged: its checksum does not hold')


def checksum(content: Mapping[str, Any]) -> str:
    """Of plain JSON values, whatever their order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's bytes; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_file(path: Path, expected: str) -> None:
    """MapUnreadableError unless the file is there with this checksum."""
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
