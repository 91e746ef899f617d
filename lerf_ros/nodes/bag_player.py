# SPDX-License-Identifier: Apache-2.0
"""Publishes the messages of a bag again, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from lerf_ros.errors import DatasetError
from lerf_ros.nodes import qos_overrides
from lerf_ros.nodes.bag_reader import IMAGE_TYPES, Bag, message_class
from lerf_ros.nodes.conversions import ns_to_stamp
from lerf_ros.nodes.demo_config import ReplayConfig
from lerf_ros.nodes.topics import profile

FIXED_TOPICS = ('/tf', '/tf_static', '/clock')


class BagPlayer:
    """The topics of one bag; those whose message type is not installed here are left out."""

    def __init__(self, node: Node, config: ReplayConfig):
        """Raises DatasetError for a bag that cannot be read or of which nothing can be played."""
        self._bag, self._config = Bag(config.bag), config
        self._publishers, self._image_publishers = {}, []
        for topic in self._bag.topics:
            try:
                kind = message_class(topic.type_name)
            except DatasetError as error:
                node.get_logger().warning(f'{topic.name} is left out: {error}')
                continue
            if config.clock and topic.name == '/clock':
                continue
            # Reliable serves every subscriber; some hundred messages, for one bag may hold many
            # publishers of /tf_static and bursts of /tf.
            depth = 100 if topic.latched or topic.name in FIXED_TOPICS else 10
            publisher = qos_overrides.publisher(node, kind, self._renamed(topic.name),
                                                profile(depth, latched=topic.latched))
            self._publishers[topic.name] = publisher
            if topic.type_name in IMAGE_TYPES:
                self._image_publishers.append(publisher)
        if not self._publishers:
            raise DatasetError(f'bag {config.bag} holds no topic that can be played here')
        self._clock = qos_overrides.publisher(
            node, Clock, '/clock', profile(10)) if config.clock else None
        self.description = (f'{self._bag.count} messages on {len(self._publishers)} topics, '
                            f'{self._bag.duration_s / config.speed:.1f} s')

    def heard(self) -> bool:
        """Whether anybody subscribes to an image, or to anything where there are no images."""
        return any(publisher.get_subscription_count() > 0
                   for publisher in self._image_publishers or self._publishers.values())

    def steps(self) -> Iterator[tuple[float, tuple[str, int, bytes]]]:
        """Each message (topic, time, bytes) with its time from the start, in seconds."""
        start_ns = None
        for topic, stamp_ns, raw in self._bag.messages():
            start_ns = stamp_ns if start_ns is None else start_ns
            yield (stamp_ns - start_ns) * 1e-9 / self._config.speed, (topic, stamp_ns, raw)

    def publish(self, message: tuple[str, int, bytes]) -> None:
        """Publishes one message, and its time first where a clock is asked for."""
        topic, stamp_ns, raw = message
        if self._clock is not None:
            self._clock.publish(Clock(clock=ns_to_stamp(stamp_ns)))
        if topic in self._publishers:
            self._publishers[topic].publish(bytes(raw))

    def _renamed(self, topic: str) -> str:
        if topic in FIXED_TOPICS or not self._config.topic_prefix:
            return topic
        return '/' + self._config.topic_prefix.strip('/') + '/' + topic.lstrip('/')
