# SPDX-License-Identifier: Apache-2.0
"""Features of a keyframe as one safetensors file, and what they were computed from as a key."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures

# Rises with every change of this file's layout, and with every change of an encoder, a pyramid
# or of dense features after which the same input gives other features.
FORMAT_VERSION = 1

Arrays = dict[str, np.ndarray]


class DamagedFileError(ValueError):
    """A file does not hold what was written into it."""


def feature_key(image: np.ndarray, recipe: Mapping[str, Any]) -> str:
    """A hash of an image (H, W, 3) uint8 and of all that is done with it (plain JSON values)."""
    digest = hashlib.sha256()
    described = {'format': FORMAT_VERSION, 'image': image.shape, **recipe}
    digest.update(json.dumps(described, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def array_hash(array: np.ndarray) -> str:
    """A hash of an array's type, shape and values."""
    return _checksum({'': array})


def to_arrays(features: KeyframeFeatures,
              keep_shared: Callable[[np.ndarray], str]) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and metadata of a file.

    A vocabulary that belongs to one level alone (the crops' own embeddings) goes into the file,
    in half precision where that loses nothing; any other is given to keep_shared, which returns
    the name by which it is found again.
    """
    arrays: Arrays = {'dense': features.dense}
    levels = []
    for i, level in enumerate(features.levels):
        described: dict[str, Any] = {'width_px': level.width_px, 'origin_px': level.origin_px,
                                     'stride_px': level.stride_px, 'shape': level.shape}
        arrays[f'{i}.weights'] = level.weights
        if _counts_cells(level):
            arrays[f'{i}.vocabulary'] = _halved(level.vocabulary)
        else:
            arrays[f'{i}.ids'] = level.ids
            described['vocabulary'] = keep_shared(level.vocabulary)
        levels.append(described)
    return arrays, {'levels': levels}


def from_arrays(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any],
                find_shared: Callable[[str], np.ndarray]) -> KeyframeFeatures:
    """The opposite of to_arrays."""
    levels = []
    for i, level in enumerate(metadata['levels']):
        if 'vocabulary' in level:
            ids, vocabulary = arrays[f'{i}.ids'], find_shared(level['vocabulary'])
        else:
            vocabulary = arrays[f'{i}.vocabulary'].astype(np.float32)
            ids = np.arange(len(vocabulary), dtype=np.int32).reshape(*level['shape'], 1)
        levels.append(EmbeddingMap(
            level['width_px'], tuple(level['origin_px']), tuple(level['stride_px']), ids,
            arrays[f'{i}.weights'], vocabulary))
    return KeyframeFeatures(tuple(levels), arrays['dense'])


def _counts_cells(level: EmbeddingMap) -> bool:
    """True where each cell has a row of the vocabulary to itself, in order."""
    return level.ids.shape[2] == 1 and np.array_equal(level.ids.ravel(),
                                                      np.arange(len(level.vocabulary)))


def _halved(values: np.ndarray) -> np.ndarray:
    half = values.astype(np.float16)
    return half if np.array_equal(half.astype(values.dtype), values) else values


def write_file(path: Path, arrays: Mapping[str, np.ndarray],
               metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a safetensors file with a checksum; raises OSError (a full disk, no permission).

    metadata: plain JSON values. It is one entry of the header, whose order is then always the
    same: equal content is equal bytes.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = json.dumps(metadata or {}, sort_keys=True)
    signed = json.dumps({'metadata': described, 'checksum': _checksum(whole, described)})
    write_atomically(path, save(whole, {'signed': signed}))


def read_file(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and metadata; raises OSError, and DamagedFileError where they are not as written."""
    try:
        with safe_open(path, framework='numpy') as file:
            signed = json.loads((file.metadata() or {})['signed'])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if signed['checksum'] == _checksum(arrays, signed['metadata']):
            return arrays, json.loads(signed['metadata'])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f'{type(error).__name__}: {error}') from error
    raise DamagedFileError('its checksum differs')


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside the file and renames: two processes may do this at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unlike tempfile's, with the access that the umask gives to all files.
    temporary = path.with_name(f'{path.stem}.{uuid.uuid4().hex}.part')
    try:
        with temporary.open('xb') as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _checksum(arrays: Mapping[str, np.ndarray], described: str = '') -> str:
    digest = hashlib.sha256(described.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


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
