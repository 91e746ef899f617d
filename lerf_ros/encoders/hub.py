# SPDX-License-Identifier: Apache-2.0
"""Loading weights through the Hugging Face hub's client without waiting for a hub that is away."""

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
from typing import Any

import torch

from lerf_ros.errors import EncoderUnavailableError


def require(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional extra, or says how to install it.

    Raises EncoderUnavailableError.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EncoderUnavailableError(
            f'the encoder needs the Python module {module!r}, which cannot be imported ({error}): '
            f'pip install "lerf_ros[{extra}]"') from error


# Values of each tensor that enter the fingerprint: enough to tell any two trainings apart.
FINGERPRINT_VALUES = 64


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of the first values of every tensor, the same on CPU and GPU."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        head = value.flatten()[:FINGERPRINT_VALUES].cpu()
        digest.update(key.encode())
        digest.update((head.half() if head.is_floating_point() else head).numpy().tobytes())
    return digest.hexdigest()[:16]


# A robot's network either answers at once or is not there.
REACH_TIMEOUT_S = 4.0
OFFLINE_ENCODER = 'conse'       # needs no hub: its weights come with pip


@contextlib.contextmanager
def hub_or_cache(extra: str = 'openclip') -> Iterator[None]:
    """Inside, the hub's client reads its cache alone when the hub cannot be reached.

    Left to itself the client tries six times with growing pauses, a minute for each file.
    """
    constants: Any = require('huggingface_hub.constants', extra)
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not hub_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_reachable(endpoint: str, timeout_s: float = REACH_TIMEOUT_S) -> bool:
    """True when the host of a URL accepts a connection in time; behind a proxy it is assumed."""
    url = urllib.parse.urlsplit(endpoint)
    if url.hostname is None or url.scheme in urllib.request.getproxies():
        return True
    address = (url.hostname, url.port or (80 if url.scheme == 'http' else 443))
    reached = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout_s):
            reached.set()

    # Looking a name up has no timeout of its own, hence the thread.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return reached.is_set()


def cache_folder(extra: str = 'openclip') -> str:
    """Where the hub's client keeps what it downloaded."""
    return str(require('huggingface_hub.constants', extra).HF_HUB_CACHE)


def first_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__
