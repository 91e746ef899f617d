# SPDX-License-Identifier: Apache-2.0
"""The heartbeat by which nav2's lifecycle manager sees that an active node is alive.

It is a bond of bondpy on the topic `bond`, with the node's name as id, as nav2's own nodes make it.
bondpy is an apt package of ROS (ros-$ROS_DISTRO-bondpy); it is not on PyPI.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Protocol

from rclpy.node import Node

from lerf_ros.errors import ConfigError

TOPIC = 'bond'
PERIOD_S = 0.25         # the manager gives up after 4 s
AUTO, ALWAYS, NEVER = 'auto', 'always', 'never'


class Bond(Protocol):
    """What is used of bondpy.bondpy.Bond."""

    heartbeat_period: float

    def start(self) -> None:
        """Begins to publish."""

    def shutdown(self) -> None:
        """Breaks the bond, which tells the other side, and frees its publisher."""


class ManagerBond:
    """Bonds a node with its manager while it is active, where that is wanted and possible."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bond: Bond | None = None

    @property
    def formed(self) -> bool:
        """Returns whether the node sends its heartbeat."""
        return self._bond is not None

    def check(self, wanted: str) -> None:
        """Raises ConfigError where a bond is wanted (ALWAYS) and bondpy is missing."""
        if wanted == ALWAYS and bondpy() is None:
            raise ConfigError('bond is always and bondpy is not installed: sudo apt install '
                              'ros-$ROS_DISTRO-bondpy, or set bond to auto or never, and '
                              "bond_timeout of nav2's lifecycle manager to 0.0")

    def start(self, wanted: str, managed: bool) -> None:
        """Begins the heartbeat. wanted: AUTO only for managed nodes and where bondpy is here."""
        module = None if wanted == NEVER or (wanted == AUTO and not managed) else bondpy()
        if module is None or self._bond is not None:
            return
        bond: Bond = module.Bond(TOPIC, self._node.get_name(), self._node)
        bond.heartbeat_period = PERIOD_S
        bond.start()
        self._bond = bond

    def end(self) -> None:
        """Breaks the bond; does nothing without one."""
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.shutdown()


def bondpy() -> ModuleType | None:
    """Returns the module bondpy.bondpy; None where it is not installed."""
    try:
        return importlib.import_module('bondpy.bondpy')
    except ImportError:
        return None
