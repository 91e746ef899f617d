# SPDX-License-Identifier: Apache-2.0
"""Features of a keyframe as one safetensors file, and what they were computed from as a key."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lerf_ros.features.embedding_map import EmbeddingMap
from lerf_ros.features.keyframe_features import KeyframeFeatures

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
