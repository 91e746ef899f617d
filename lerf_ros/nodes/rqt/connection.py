# SPDX-License-Identifier: Apache-2.0
"""A panel on the screen that asks through a node, in a namespace that can be changed."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

from lerf_ros.nodes.rqt.panel import QueryPanel
from lerf_ros.nodes.rqt.robot import RosRobot
from lerf_ros.nodes.rqt.widget import PanelWidget


def connected_widget(node: Node, number: int = 1) -> tuple[PanelWidget, Callable[[], None]]:
    """Returns the widget and what frees its clients; another thread spins the node.

    number: of the panels in one rqt, from 1; it is told in the title.
    """
    panel = QueryPanel(RosRobot(node))
    widget = PanelWidget(panel)
    if number > 1:
        widget.setWindowTitle(f'{widget.windowTitle()} ({number})')

    def robot() -> RosRobot:
        assert isinstance(panel.robot, RosRobot)
        return panel.robot

    def reconnect(namespace: str) -> None:
        if namespace.strip('/') != robot().namespace:
            robot().close()
            panel.robot = RosRobot(node, namespace)

    widget.reconnect = reconnect
    return widget, lambda: robot().close()
