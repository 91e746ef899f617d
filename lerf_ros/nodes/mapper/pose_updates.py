# SPDX-License-Identifier: Apache-2.0
"""Better poses of keyframes on a topic, as a SLAM publishes them after a loop closure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nav_msgs.msg import Path
from rclpy.node import Node

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common.conversions import pose_to_matrix, stamp_to_ns
from lerf_ros.nodes.common.diagnostics import input_monitor, subscribe_monitored
from lerf_ros.nodes.common.topics import POSE_UPDATES_QOS

WARN_PERIOD_S = 5.0


class PoseUpdates:
    """Reads poses of the optical frame from nav_msgs/Path, each by its own stamp."""

    def __init__(self, node: Node, topic: str, map_frame: str,
                 move: Callable[[dict[int, np.ndarray]], None]) -> None:
        """move: called with T_map_camera (4, 4) by stamp (ns)."""
        self._node, self._map_frame, self._move = node, map_frame, move
        self.left_out = 0       # poses that are NaN or whose quaternion is no rotation
        self.refused = 0        # messages in another frame
        self.fault = ''         # of the latest message; empty when all of it was used
        self.monitor = input_monitor(node, 'pose updates', Path, topic, 'pose_updates_topic',
                                     POSE_UPDATES_QOS, rare=True)
        self._subscription = subscribe_monitored(
            node, self.monitor, Path, topic, self.take, POSE_UPDATES_QOS)

    def take(self, msg: Path) -> None:
        """Takes a message; refuses it as a whole when any of its frames is not the map frame."""
        self.fault = ''
        frames = {msg.header.frame_id, *(pose.header.frame_id for pose in msg.poses)} - {''}
        if frames != {self._map_frame}:
            self.refused += 1
            self._warn(f'pose updates are in {", ".join(map(repr, sorted(frames))) or "no frame"} '
                       f'and not in {self._map_frame!r}: publish them in the map frame, or set '
                       f'map_frame ({self.refused} messages refused so far)')
            return
        poses = {}
        for pose in msg.poses:
            try:
                poses[stamp_to_ns(pose.header.stamp)] = pose_to_matrix(pose.pose)
            except FrameError as error:
                self.left_out += 1
                self._warn(f'a pose update is left out: {error} ({self.left_out} so far)')
        if poses:
            self._move(poses)

    def close(self) -> None:
        """Ends the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _warn(self, text: str) -> None:
        self.fault = text
        self._node.get_logger().warning(text, throttle_duration_sec=WARN_PERIOD_S)
