# SPDX-License-Identifier: Apache-2.0
"""Features of keyframes that were seen before, on disk."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from lerf_ros.features.feature_file import (
    DamagedFileError,
    array_hash,
    from_arrays,
    read_file,
    to_arrays,
    write_file,
)
from lerf_ros.features.keyframe_features import KeyframeFeatures

log = logging.getLogger(__name__)

MEGABYTE = 10**6
KEYFRAME, VOCABULARY = 'keyframe_', 'vocabulary_'
# The key is a SHA-256; what is being written has some letters more.
OWN = re.compile(rf'({KEYFRAME}|{VOCABULARY})[0-9a-f]{{64}}(\.safetensors|[.\w]{{8,40}}\.part)')
# A file that was begun and not ended for this long has no writer any more.
ABANDONED_NS = 3600 * 10**9


class FeatureCache:
    """A folder of features by the hash of all that they were made from (feature_key).

    Several processes may share it. A file that is damaged is named in a warning and removed; what
    was not used for longest goes first when the folder outgrows its limit. A disk that is full
    or cannot be read is a warning, once: everything works without the cache, but slower.
    A vocabulary shared by many keyframes is one file, and one array in memory.
    """

    def __init__(self, folder: str | Path, megabytes: int) -> None:
        """megabytes: limit of the folder's size, 10**6 bytes each; 0 switches the cache off."""
        self.folder = Path(folder)
        self._limit = megabytes * MEGABYTE
        self._vocabularies: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()
        self._warned = False

    def load(self, key: str) -> KeyframeFeatures | None:
        """What was stored under a key, or None."""
        if not self._limit:
            return None
        path = self._path(KEYFRAME, key)
        try:
            arrays, metadata = read_file(path)
            os.utime(path)
            return from_arrays(arrays, metadata, self._find)
        except FileNotFoundError:   # not there, or just removed by another process
            return None
        except OSError as error:
            self._warn(error)
        except (DamagedFileError, KeyError, ValueError, TypeError) as error:
            self._remove_damaged(path, error)
        return None

    def store(self, key: str, features: KeyframeFeatures) -> KeyframeFeatures:
        """Keeps features under a key; returns what load will return for it.

        So a shared vocabulary that was known before is the same array again.
        """
        if not self._limit:
            return features
        known: dict[str, np.ndarray] = {}

        def know(vocabulary: np.ndarray) -> str:
            name = array_hash(vocabulary)
            known[name] = self._vocabularies.setdefault(name, vocabulary)
            return name

        arrays, metadata = to_arrays(features, know)
        try:
            write_file(self._path(KEYFRAME, key), arrays, metadata)
            for name, vocabulary in known.items():   # younger than the files that need them
                self._keep_vocabulary(self._path(VOCABULARY, name), vocabulary)
            self._shrink()
        except OSError as error:
            self._warn(error)
        return from_arrays(arrays, metadata, known.__getitem__)

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / f'{kind}{key}.safetensors'

    @staticmethod
    def _keep_vocabulary(path: Path, vocabulary: np.ndarray) -> None:
        try:
            os.utime(path)
        except FileNotFoundError:
            write_file(path, {'vocabulary': vocabulary})

    def _find(self, name: str) -> np.ndarray:
        """A shared vocabulary; raises FileNotFoundError where it has to be made again."""
        path = self._path(VOCABULARY, name)
        os.utime(path)
        vocabulary = self._vocabularies.get(name)
        if vocabulary is None:
            try:
                vocabulary = read_file(path)[0]['vocabulary']
            except (DamagedFileError, KeyError) as error:
                self._remove_damaged(path, error)
                raise FileNotFoundError(str(path)) from error
            self._vocabularies[name] = vocabulary
        return vocabulary

    def _shrink(self) -> None:
        """Removes files, oldest use first, until the folder is within its limit."""
        files = []
        for path in self.folder.glob('*_*'):
            if not OWN.fullmatch(path.name):    # somebody else's
                continue
            with contextlib.suppress(FileNotFoundError):   # another process removes them too
                status = path.stat()
                files.append((status.st_mtime_ns, path.name, status.st_size))
        total = sum(size for _, _, size in files)
        abandoned_ns = time.time_ns() - ABANDONED_NS
        for used_ns, name, size in sorted(files):
            part = name.endswith('.part')
            if part and used_ns > abandoned_ns:
                continue
            if part or total > self._limit:
                (self.folder / name).unlink(missing_ok=True)
                total -= size

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            log.warning('the feature cache %s cannot be used (%s): features are computed every '
                        'time', self.folder, error)
        self._warned = True

    @staticmethod
    def _remove_damaged(path: Path, error: Exception) -> None:
        log.warning('%s is damaged (%s): it is removed, and its features are computed again',
                    path, error)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
