# SPDX-License-Identifier: Apache-2.0
"""Publishes the frames of the simulated robot as a robot does: in links, late, at 50 Hz."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import matrix_to_transform, ns_to_stamp
from lerf_ros.nodes.common.topics import TF_QOS, TF_STATIC_QOS
from lerf_ros.nodes.demo.config import OPTICAL_FRAME, SimCameraConfig
from lerf_ros.simulation.robot import T_LINK_OPTICAL, SimulatedRobot

MAX_BACKLOG_NS = 5 * 10**9


def stamped(T_parent_child: np.ndarray, parent: str, child: str,
            stamp_ns: int) -> TransformStamped:
    """The transform (4, 4) from the child's coordinates to the parent's, as a message."""
    msg = TransformStamped(child_frame_id=child, transform=matrix_to_transform(T_parent_child))
    msg.header.frame_id, msg.header.stamp = parent, ns_to_stamp(stamp_ns)
    return msg


class RobotTf:
    """map -> odom -> base_link -> camera_link on /tf, the optical frame on /tf_static.

    Localisation, odometry and joints each have a clock of their own: their stamps lie a third of
    a period apart, so that a listener must interpolate each of them.
    """

    def __init__(self, node: Node, robot: SimulatedRobot, config: SimCameraConfig,
                 path_time: Callable[[int], float]):
        """path_time: seconds on the path at a time in nanoseconds of the node's clock."""
        self._clock, self._path_time = node.get_clock(), path_time
        self._latency_ns = round(config.tf_latency * 1e9)
        self._period_ns = round(1e9 / config.tf_rate)
        self._next_ns = 0
        prefix = config.frame_prefix
        odom, base, link = (prefix + name for name in ('odom', 'base_link', 'camera_link'))
        self._links = ((config.map_frame, odom, robot.T_map_odom),
                       (odom, base, robot.T_odom_base),
                       (base, link, robot.T_base_camera_link))
        self._publisher = qos_overrides.publisher(node, TFMessage, '/tf', TF_QOS)
        self._static = qos_overrides.publisher(node, TFMessage, '/tf_static', TF_STATIC_QOS)
        self._static.publish(TFMessage(transforms=[stamped(
            T_LINK_OPTICAL, link, prefix + OPTICAL_FRAME, self._clock.now().nanoseconds)]))
        node.create_timer(1 / config.tf_rate, self._publish)

    def _publish(self) -> None:
        """Publishes all samples that are due: a rendering that holds this up leaves no gap."""
        newest_ns = self._clock.now().nanoseconds - self._latency_ns
        if newest_ns - self._next_ns > MAX_BACKLOG_NS or newest_ns < self._next_ns - MAX_BACKLOG_NS:
            self._next_ns = newest_ns   # the first time, or a clock that jumped
        while self._next_ns <= newest_ns:
            transforms = []
            for number, (parent, child, T) in enumerate(self._links):
                stamp_ns = self._next_ns - number * self._period_ns // len(self._links)
                transforms.append(stamped(T(self._path_time(stamp_ns)), parent, child, stamp_ns))
            self._publisher.publish(TFMessage(transforms=transforms))
            self._next_ns += self._period_ns
