# SPDX-License-Identifier: Apache-2.0
"""A disk cache of keyframe features, one safetensors file each, by a hash of their inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict
from weakref import WeakValueDictionary

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures

# Increase this with every change of the file layout, and with every change of an encoder, the
# pyramid or dense features after which the same input gives other features.
FORMAT_VERSION = 2

Arrays = dict[str, np.ndarray]


class LevelMetadata(TypedDict, total=False):
    """One EmbeddingMap without its arrays; vocabulary: the hash of one that levels share."""

    width_px: float
    origin_px: Sequence[float]
    stride_px: Sequence[float]
    shape: Sequence[int]
    vocabulary: str


class DamagedFileError(ValueError):
    """A file does not hold what was written into it."""


def feature_key(image: np.ndarray, recipe: Mapping[str, object]) -> str:
    """Computes a hash of an image (H, W, 3) uint8 and of a recipe of plain JSON values."""
    digest = hashlib.sha256()
    described = {'format': FORMAT_VERSION, 'image': image.shape, **recipe}
    digest.update(json.dumps(described, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def array_hash(array: np.ndarray) -> str:
    """Computes a hash of an array's type, shape and values."""
    return _checksum({'': array})


def to_arrays(features: KeyframeFeatures,
              keep_shared: Callable[[np.ndarray], str]
              ) -> tuple[Arrays, dict[str, list[LevelMetadata]]]:
    """Converts features to the arrays and the metadata of a file.

    A vocabulary that belongs to one level alone (the embeddings of crops) becomes part of the file,
    in half precision if that is lossless. Any other is passed to keep_shared, which returns the
    name by which from_arrays finds it.
    """
    arrays: Arrays = {'dense': features.dense}
    levels: list[LevelMetadata] = []
    for i, level in enumerate(features.levels):
        described: LevelMetadata = {'width_px': level.width_px, 'origin_px': level.origin_px,
                                     'stride_px': level.stride_px, 'shape': level.shape}
        arrays[f'{i}.weights'] = level.weights
        if _counts_cells(level):
            arrays[f'{i}.vocabulary'] = _halved(level.vocabulary)
        else:
            arrays[f'{i}.ids'] = level.ids
            described['vocabulary'] = keep_shared(level.vocabulary)
        levels.append(described)
    return arrays, {'levels': levels}


def from_arrays(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, list[LevelMetadata]],
                find_shared: Callable[[str], np.ndarray]) -> KeyframeFeatures:
    """Converts the arrays and the metadata of a file back to features.

    find_shared: returns the shared vocabulary of a name. Raises KeyError, TypeError or ValueError
    for content that to_arrays does not write.
    """
    levels = []
    for i, level in enumerate(metadata['levels']):
        if 'vocabulary' in level:
            ids, vocabulary = arrays[f'{i}.ids'], find_shared(level['vocabulary'])
        else:
            vocabulary = arrays[f'{i}.vocabulary'].astype(np.float32)
            ids = np.arange(len(vocabulary), dtype=np.int32).reshape(*level['shape'], 1)
        (left, top), (across, down) = level['origin_px'], level['stride_px']
        levels.append(EmbeddingMap(level['width_px'], (left, top), (across, down), ids,
                                   arrays[f'{i}.weights'], vocabulary))
    return KeyframeFeatures(tuple(levels), arrays['dense'])


def _counts_cells(level: EmbeddingMap) -> bool:
    """Returns whether each cell has its own row of the vocabulary, in order."""
    return level.ids.shape[2] == 1 and np.array_equal(level.ids.ravel(),
                                                      np.arange(len(level.vocabulary)))


def _halved(values: np.ndarray) -> np.ndarray:
    half = values.astype(np.float16)
    return half if np.array_equal(half.astype(values.dtype), values) else values


def write_file(path: Path, arrays: Mapping[str, np.ndarray],
               metadata: Mapping[str, object] | None = None) -> None:
    """Writes a safetensors file with a checksum; raises OSError (a full disk, no permission).

    metadata: plain JSON values. They become a single entry of the header, because safetensors does
    not order several: so equal content gives equal bytes.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = json.dumps(metadata or {}, sort_keys=True)
    signed = json.dumps({'metadata': described, 'checksum': _checksum(whole, described)})
    write_atomically(path, save(whole, {'signed': signed}))


def read_file(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Reads arrays and metadata; raises OSError, and DamagedFileError if the checksum differs."""
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
    """Writes a temporary file and renames it, so that several processes may write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unlike those of tempfile, this file gets the permissions of the umask.
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
# Keys are SHA-256; files that are being written have a longer name.
OWN = re.compile(rf'({KEYFRAME}|{VOCABULARY})[0-9a-f]{{64}}(\.safetensors|[.\w]{{8,40}}\.part)')
# A partial file of this age was abandoned by its writer.
ABANDONED_NS = 3600 * 10**9


class FeatureCache:
    """A folder of features by the hash of everything they were computed from (feature_key).

    Several processes may share it. Damaged files are removed with a warning. When the folder
    outgrows its limit, the least recently used files are removed first. A disk that is full or
    cannot be read causes one warning: everything works without the cache, only slower. A
    vocabulary that keyframes share is stored as one file and held as one array in memory.
    """

    def __init__(self, folder: str | Path, megabytes: int) -> None:
        """Uses a folder of at most so many megabytes (10**6 bytes); 0 turns the cache off."""
        self.folder = Path(folder)
        self._limit = megabytes * MEGABYTE
        self._vocabularies: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()
        self._warned = False

    def load(self, key: str) -> KeyframeFeatures | None:
        """Returns the features that were stored under a key, or None."""
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
        """Stores features under a key and returns them as `load` will.

        A shared vocabulary is then the array that is already in memory, if there is one.
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
            for name, vocabulary in known.items():   # newer than the files that need it
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
        """Returns a shared vocabulary; raises FileNotFoundError if it must be computed again."""
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
        """Removes files, least recently used first, until the folder is within its limit."""
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
