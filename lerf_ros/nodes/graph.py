# SPDX-License-Identifier: Apache-2.0
"""What is seen of the ROS graph from a terminal: nodes, images, and the middleware."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import get_rmw_implementation_identifier

from lerf_ros.nodes.common.topics import publisher_name

IMAGE_TYPE = 'sensor_msgs/msg/Image'


def middleware() -> str:
    """Returns the name of the RMW implementation; raises what rclpy raises without one."""
    return str(get_rmw_implementation_identifier())


@contextlib.contextmanager
def terminal_node(namespace: str) -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """Yields a node for the time of a command, and what spins it."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Node('lerf_terminal', namespace=namespace, context=context,
                start_parameter_services=False, enable_rosout=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def other_nodes(node: Node) -> list[str]:
    """Returns the full names of the nodes that are seen, without this one."""
    return sorted(f'{space.rstrip("/")}/{name}' for name, space
                  in node.get_node_names_and_namespaces() if name != node.get_name())


@dataclass(frozen=True)
class ImageTopic:
    """A topic with images: its name, its publishers, and whether one of them is best effort."""

    name: str
    publishers: tuple[str, ...]
    best_effort: bool


@dataclass(frozen=True)
class Graph:
    """Which nodes and which topics with images are seen."""

    nodes: tuple[str, ...]
    images: tuple[ImageTopic, ...]


def look_around(seconds: float) -> Graph:
    """Returns what discovery finds within this time."""
    with terminal_node('') as (node, executor):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        images = []
        for topic, types in node.get_topic_names_and_types():
            offers = node.get_publishers_info_by_topic(topic) if IMAGE_TYPE in types else []
            if offers:
                images.append(ImageTopic(
                    topic, tuple(publisher_name(offer) for offer in offers),
                    any(offer.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
                        for offer in offers)))
        return Graph(tuple(other_nodes(node)), tuple(images))
