# SPDX-License-Identifier: Apache-2.0
"""Loads packages of optional extras, and weights from the Hugging Face hub or its cache."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from types import ModuleType

import torch

from lerf_ros.errors import EncoderUnavailableError


def require(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional extra.

    Raises EncoderUnavailableError, which says how to install the extra, if that fails.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EncoderUnavailableError(
            f'the encoder needs the Python module {module!r}, which cannot be imported ({error}): '
            f"pip install '.[{extra}]' in the folder of lerf_ros") from error


# Values of each tensor in the fingerprint: enough to tell any two trained models apart.
FINGERPRINT_VALUES = 64


def fingerprint(model: torch.nn.Module) -> str:
    """Computes a hash of the first values of every tensor; it is the same on CPU and GPU."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        head = value.flatten()[:FINGERPRINT_VALUES].cpu()
        digest.update(key.encode())
        digest.update((head.half() if head.is_floating_point() else head).numpy().tobytes())
    return digest.hexdigest()[:16]


# A robot's network either answers quickly or not at all.
REACH_TIMEOUT_S = 4.0
OFFLINE_ENCODER = 'conse'       # needs no hub: its weights come with pip


@contextlib.contextmanager
def hub_or_cache(extra: str = 'openclip') -> Iterator[None]:
    """Makes the hub's client read only its cache, inside the block, if the hub is unreachable.

    Otherwise the client would retry six times with growing pauses, a minute for each file.
    """
    constants = require('huggingface_hub.constants', extra)
    before = constants.HF_HUB_OFFLINE
    vars(constants)['HF_HUB_OFFLINE'] = before or not hub_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        vars(constants)['HF_HUB_OFFLINE'] = before


def hub_reachable(endpoint: str, timeout_s: float = REACH_TIMEOUT_S) -> bool:
    """Returns whether the host of a URL accepts a connection in time; assumed behind a proxy."""
    url = urllib.parse.urlsplit(endpoint)
    if url.hostname is None or url.scheme in urllib.request.getproxies():
        return True
    address = (url.hostname, url.port or (80 if url.scheme == 'http' else 443))
    reached = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout_s):
            reached.set()

    # A DNS look-up has no timeout of its own, hence the thread.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return reached.is_set()


def cache_folder(extra: str = 'openclip') -> str:
    """Returns the folder in which the hub's client keeps its downloads."""
    return str(require('huggingface_hub.constants', extra).HF_HUB_CACHE)


def first_line(error: BaseException) -> str:
    """Returns an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__
