# SPDX-License-Identifier: Apache-2.0
"""Which folders may be written to: every command, node and service asks here first.

Only a folder that is new or empty becomes a map; from then on its meta.json says that it is ours.
What others put into a folder of ours still belongs to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from lerf_ros.errors import ForeignFolderError, StorageError
from lerf_ros.storage.durable import OURS, JsonObject, is_file

META = 'meta.json'


def read_meta(folder: Path) -> JsonObject | None:
    """Reads meta.json of a map of any version of this package; None where there is none."""
    file = folder / META
    try:
        meta = json.loads(file.read_text()) if is_file(file) else None
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and is_meta(meta) else None


def is_meta(content: JsonObject) -> bool:
    """Returns whether this is the content of a meta.json of ours."""
    number = content.get('format')
    if not isinstance(number, int) or isinstance(number, bool):
        return False
    # Format 2 had no identity yet.
    return {'id', 'edition'} <= content.keys() or \
        number == 2 and {'encoder', 'scene', 'config'} <= content.keys()


def foreign_names(folder: Path) -> Iterator[str]:
    """Yields the names in a folder, but for traces that our mapper leaves beside its maps."""
    yield from (path.name for path in sorted(folder.iterdir())
                if not path.name.startswith(OURS) and not is_old_lock(path))


def is_old_lock(path: Path) -> bool:
    """Returns whether this is a lock of earlier versions, whose name others use as well."""
    if path.name != '.lock' or not is_file(path) or path.stat().st_size > 1000:
        return False
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {'pid', 'parent', 'leaving'} == set(content)


def require_apart(folder: Path, inputs: Iterable[str | Path]) -> None:
    """Raises ForeignFolderError where a folder is an input, lies in one, or holds one."""
    place = folder.resolve()
    for given in inputs:
        source = Path(given).resolve()
        if place == source:
            raise ForeignFolderError(
                f'{folder} is the input itself, and nothing is written into it: choose a folder '
                'of its own for the result')
        if source in place.parents:
            raise ForeignFolderError(f'{folder} lies in the input {given}: choose a folder '
                                     'outside of it')
        if place in source.parents:
            raise ForeignFolderError(f'{folder} holds the input {given}: choose a folder of its '
                                     'own for the result')


def require_no_strangers(folder: Path, what: str) -> None:
    """Raises ForeignFolderError unless the path is free, or a folder with at most our traces.

    what: the file that would show the folder to be ours.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise ForeignFolderError(f'{folder} is no folder, and it is not replaced by one: choose '
                                 'another name')
    try:
        names = list(foreign_names(folder))
    except OSError as error:
        raise StorageError(f'{folder} cannot be read ({error.strerror})') from error
    if names:
        shown = ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
        raise ForeignFolderError(
            f'{folder} holds {shown} and no {what} of lerf_ros: what others wrote is never '
            'touched, so give a new or an empty folder')
