# SPDX-License-Identifier: Apache-2.0
"""One writer for each map directory: an advisory lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import time
from pathlib import Path
from types import TracebackType

from lerf_ros.errors import LockedError, StorageError
from lerf_ros.storage.durable import OURS, JsonObject

NAME = f'{OURS}lock'
POLL_S = 0.1


class FolderLock:
    """Holds the lock file of a folder, which names the holder and says if it is about to leave."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._descriptor: int | None = None

    def acquire(self, patience_s: float = 0.0) -> None:
        """Takes the lock; waits patience_s at most for a holder that is about to leave.

        Raises LockedError when another process works on the folder, StorageError when the folder
        cannot be written.
        """
        end = time.monotonic() + patience_s
        while not self._try():
            holder = self.holder()
            if not leaving(holder) or time.monotonic() > end:
                raise LockedError(
                    f'{self.path.parent} is in use by another mapper (process '
                    f'{holder.get("pid", "unknown")}): stop that one, or map into another '
                    'directory')
            time.sleep(POLL_S)
        self.announce()

    def _try(self) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                                 0o666)
        except OSError as error:
            raise StorageError(f'{self.path.parent} cannot be written ({error.strerror}): give '
                               'the mapper a directory of its own') from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def announce(self, leave: bool = False, doing: str = '') -> None:
        """Writes into the lock file what this process does, and if others may wait for its end."""
        if self._descriptor is None:
            return
        content = json.dumps({'pid': os.getpid(), 'parent': parent_pid(), 'leaving': leave,
                              'doing': doing})
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content.encode(), 0)

    def holder(self) -> JsonObject:
        """Returns what the holder wrote; empty where that cannot be read."""
        return read_holder(self.path)

    def release(self) -> None:
        """Releases the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.release()


def read_holder(file: Path) -> JsonObject:
    """Reads what the holder of a lock wrote; empty where that cannot be read."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):   # it is being written
        return {}
    return content if isinstance(content, dict) else {}


def working_on(folder: Path) -> str:
    """Returns what the process that works on a folder says it does; empty where none does."""
    holder = read_holder(folder / NAME)
    try:
        os.kill(int(holder['pid']), 0)
    except (KeyError, ValueError, TypeError, ProcessLookupError):
        return ''
    except PermissionError:   # it lives, as another user
        pass
    return str(holder.get('doing') or 'working on it')


def in_use(folder: Path) -> bool:
    """Returns whether a process holds the lock of a folder; writes nothing."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:     # nobody ever worked on it
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def no_snapshot(folder: Path) -> str:
    """Returns why a map cannot answer yet, and what to do about it."""
    if not folder.is_dir():
        return (f'there is no map in {folder}, the folder does not exist: check map_directory, or '
                'start a mapper on it and wait for its first snapshot')
    if doing := working_on(folder):
        return f'{folder} holds no snapshot yet; its mapper is {doing}: ask again later'
    return (f'{folder} holds no snapshot, and no mapper seems to work on it: start one, or '
            'check map_directory')


def parent_pid() -> int:
    """Returns the process that started this one, also where that has died since."""
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def leaving(holder: JsonObject) -> bool:
    """Returns whether the holder said so, lost its parent, or was stopped by this one's parent.

    A node starts a process on its map directory only after it has stopped the one before.
    """
    if not holder or holder.get('leaving') or holder.get('parent') == parent_pid():
        return True
    try:
        os.kill(int(holder['parent']), 0)
    except (KeyError, ValueError, TypeError, ProcessLookupError):
        return True
    except PermissionError:   # it lives, as another user
        return False
    return False
