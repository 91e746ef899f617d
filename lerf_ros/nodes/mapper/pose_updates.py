# SPDX-License-Identifier: Apache-2.0
"""Better poses of keyframes, as a SLAM publishes them after a loop closure: a topic of paths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nav_msgs.msg import Path
from rclpy.node import Node

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import pose_to_matrix, stamp_to_ns
from lerf_ros.nodes.common.diagnostics import InputWatch, type_name
from lerf_ros.nodes.common.topics import POSE_UPDATES_QOS

WARN_PERIOD_S = 5.0


class PoseUpdates:
    """Hands on the poses of the optical frame in nav_msgs/Path messages, by their own stamps."""

    def __init__(self, node: Node, topic: str, map_frame: str,
                 move: Callable[[dict[int, np.ndarray]], None]) -> None:
        """move: takes T_map_camera (4, 4) by stamp (ns)."""
        self._node, self._map_frame, self._move = node, map_frame, move
        self.left_out = 0       # poses that say nothing: NaN, or no rotation
        self.refused = 0        # messages in another frame
        self.fault = ''         # of the latest message; empty when all of it was taken
        self.watch = InputWatch('pose updates', node.resolve_topic_name(topic),
                                'pose_updates_topic', type_name(Path), lambda: POSE_UPDATES_QOS,
                                rare=True)
        self._subscription = qos_overrides.subscribe(
            node, Path, topic, self.take, POSE_UPDATES_QOS)

    def take(self, msg: Path) -> None:
        """Takes in one message; one in another frame is refused as a whole."""
        self.watch.seen()
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
