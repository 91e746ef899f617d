# SPDX-License-Identifier: Apache-2.0
"""Qt as rqt binds it; where rqt is not, PySide6, so that the panel runs as a window of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lerf_ros.errors import ConfigError

BINDINGS = ('python_qt_binding', 'PySide6')


def binding() -> str:
    """Returns the name of the package whose QtCore and QtWidgets are used.

    Raises ConfigError where there is none.
    """
    for name in BINDINGS:
        try:
            importlib.import_module(f'{name}.QtWidgets')
        except ImportError:
            continue
        return name
    raise ConfigError('the panel needs Qt: sudo apt install ros-$ROS_DISTRO-rqt-gui-py, or in a '
                      'virtual environment pip install PySide6-Essentials')


if TYPE_CHECKING:
    from PySide6 import QtCore, QtWidgets
else:
    _NAME = binding()
    QtCore = importlib.import_module(f'{_NAME}.QtCore')
    QtWidgets = importlib.import_module(f'{_NAME}.QtWidgets')

__all__ = ['QtCore', 'QtWidgets', 'binding']
