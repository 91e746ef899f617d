# SPDX-License-Identifier: Apache-2.0
"""Python modules that only some encoders need."""

from __future__ import annotations

import importlib
from types import ModuleType

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
