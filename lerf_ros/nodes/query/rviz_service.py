# SPDX-License-Identifier: Apache-2.0
"""lerf/rviz_config: writes an RViz configuration whose view shows the map at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rclpy.node import Node
from std_srvs.srv import Trigger

from lerf_ros.errors import LerfError
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.refusal import refuse
from lerf_ros.show.rviz_view import View, write_configuration

if TYPE_CHECKING:
    import numpy as np


class RvizConfigService:
    """Answers with the path of the file, for `rviz2 -d`."""

    def __init__(self, node: Node, points: Callable[[], tuple[np.ndarray, str]]) -> None:
        """points: returns the points (N, 3) of the map and its frame, or raises LerfError."""
        self._node, self._points = node, points
        node.create_service(Trigger, topics.RVIZ_CONFIG, self.on_request,
                            qos_profile=topics.COMMAND_QOS)

    def on_request(self, request: Trigger.Request, response: Trigger.Response
                   ) -> Trigger.Response:
        """Writes the configuration; the message is its path, or why there is none."""
        path = configuration_path(self._node.get_namespace())
        try:
            points, frame_id = self._points()
            write_configuration(path, View.of(points), frame_id,
                                self._node.get_namespace().rstrip('/'))
            response.success, response.message = True, str(path)
        except LerfError as error:
            refuse(response, error.code, str(error))
        except OSError as error:
            refuse(response, 'STORAGE', str(error))
        return response


def configuration_path(namespace: str) -> Path:
    """Returns where the configuration of a namespace is written: below ROS' own folder."""
    home = Path(os.environ.get('ROS_HOME') or Path.home() / '.ros')
    name = '_'.join(filter(None, namespace.split('/'))) or 'lerf'
    return home / 'lerf_ros' / f'{name}.rviz'
