# SPDX-License-Identifier: Apache-2.0
"""What the core logs, here and in the mapping process, as lines of the node: level, stamp, /rosout.

The core knows Python's logging alone; a node hands its records on to rcutils.
"""

from __future__ import annotations

import logging
from typing import Any

CORE = 'lerf_ros'


class NodeHandler(logging.Handler):
    """Passes records on to a node's logger."""

    def __init__(self, logger: Any) -> None:
        """logger: rclpy's, of the node."""
        super().__init__()
        self._logger = logger
        self.level_before = logging.getLogger(CORE).level

    def emit(self, record: logging.LogRecord) -> None:
        """One line at the level of the record. rclpy wants a place of its own for each level."""
        text = f'[{record.name.removeprefix(CORE + ".")}] {self.format(record)}'
        if record.levelno >= logging.CRITICAL:
            self._logger.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def hand_on(logger: Any) -> NodeHandler:
    """Hands the core's records on to a node's logger from now on, at the level of that one."""
    handler, core = NodeHandler(logger), logging.getLogger(CORE)
    core.addHandler(handler)
    # Severities of rcutils: 10, 20, ... as Python's levels.
    core.setLevel(int(logger.get_effective_level()))
    return handler


def stop(handler: NodeHandler) -> None:
    """The reverse of `hand_on`."""
    core = logging.getLogger(CORE)
    core.removeHandler(handler)
    core.setLevel(handler.level_before)
