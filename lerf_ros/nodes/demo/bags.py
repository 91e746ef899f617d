# SPDX-License-Identifier: Apache-2.0
"""Reads a rosbag2 (sqlite3 or mcap) and publishes its messages again, without decoding them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

from lerf_ros.errors import DatasetError
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import ns_to_stamp
from lerf_ros.nodes.common.topics import profile
from lerf_ros.nodes.demo.config import ReplayConfig

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
METADATA, STORAGES = 'metadata.yaml', ('.mcap', '.db3')
ROS1_MAGIC, ZSTD_MAGIC = b'#ROSBAG V', b'\x28\xb5\x2f\xfd'
# Parts of rosbags' messages about bags that it cannot read although they are whole, and advice.
REMEDIES = (
    ('files are missing',
     'copy them as well, or leave them out with ros2 bag reindex {folder}'),
    ('Profile is not ros2',
     'it was not recorded by ROS 2; of a ROS 1 recording convert the .bag with rosbags-convert'),
    ('not supported', 'pip install -U rosbags, or write it again with ros2 bag convert'),
    ('seems to be empty', 'its recorder wrote nothing'))


@dataclass(frozen=True)
class BagTopic:
    """A recorded topic. latched: late subscribers get the last message (transient local)."""

    name: str
    type_name: str
    latched: bool


class Bag:
    """A rosbag2 that can be read any number of times: its folder, or a single storage file."""

    def __init__(self, path: str | Path) -> None:
        """Raises DatasetError when rosbags is not installed or the bag cannot be read."""
        try:
            from rosbags.rosbag2 import Reader
        except ImportError as error:
            raise DatasetError('reading bags needs rosbags: pip install rosbags') from error
        self._path, self._reader = storage_path(Path(path).expanduser()), Reader
        with self._named_errors(), Reader(self._path) as reader:
            self.topics = tuple(
                BagTopic(c.topic, c.msgtype, c.topic.endswith('/tf_static') or any(
                    profile.durability.name == 'TRANSIENT_LOCAL'
                    for profile in getattr(c.ext, 'offered_qos_profiles', ())))
                for c in reader.connections)
            self.duration_s, self.count = reader.duration * 1e-9, reader.message_count

    def messages(self) -> Iterator[tuple[str, int, bytes]]:
        """Yields topic, time of recording (ns) and serialised message (CDR), in order.

        Raises DatasetError where the bag is damaged.
        """
        with self._named_errors(), self._reader(self._path) as reader:
            alone = self._path.is_file()   # without metadata nothing tells how it is compressed
            for connection, stamp_ns, raw in reader.messages():
                if alone and raw[:len(ZSTD_MAGIC)] == ZSTD_MAGIC:
                    raise DatasetError(f'the messages of {self._path} are compressed one by one: '
                                       f'ros2 bag reindex {self._path.parent}, which says so')
                yield connection.topic, stamp_ns, raw

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turns any error of rosbags (YAML, sqlite, mcap) into a DatasetError with advice."""
        try:
            yield
        except DatasetError:
            raise
        except Exception as error:
            raise DatasetError(f'bag {self._path} cannot be read: {str(error).rstrip(".")}; '
                               f'{remedy(self._path, str(error))}') from error


def storage_path(path: Path) -> Path:
    """Returns what to read: the folder of the bag, or the only storage file where metadata is lost.

    Raises DatasetError, with advice, for a path that is not a rosbag2.
    """
    if path.is_file():
        if path.suffix in STORAGES:
            return path
        with path.open('rb') as file:
            ros1 = file.read(len(ROS1_MAGIC)) == ROS1_MAGIC
        if ros1:
            raise DatasetError(f'{path} is a ROS 1 bag: rosbags-convert --src {path} --dst '
                               f'{path.with_suffix("")} makes a rosbag2 of it')
        if path.name == METADATA:
            return path.parent
        raise DatasetError(f'{path} is not a rosbag2: a folder with a {METADATA}, a .mcap or a '
                           '.db3 is expected (of a compressed file: unpack it with zstd -d first)')
    if not path.is_dir():
        raise DatasetError(f'{path} is not a rosbag2: there is no such folder or file')
    if (path / METADATA).is_file():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in STORAGES)
    if len(files) == 1:
        return files[0]
    if files:
        raise DatasetError(f'{path} holds {len(files)} storage files and no {METADATA}, as when a '
                           f'recorder is killed: ros2 bag reindex {path} writes it')
    inside = sorted(str(file.parent) for file in path.glob(f'*/{METADATA}'))
    raise DatasetError(f'{path} is not a rosbag2: a folder with a {METADATA} is expected (of a '
                       f'ROS 1 bag: rosbags-convert){f"; is it {inside[0]}?" if inside else ""}')


def remedy(path: Path, error: str) -> str:
    """Returns advice on a bag that cannot be read, given the message of rosbags."""
    folder = path if path.is_dir() else path.parent
    damaged = sorted(file for file in folder.glob('*.mcap') if file == path or path.is_dir())
    for part, advice in REMEDIES:
        if part in error:
            return advice.format(folder=folder)
    if damaged:
        mended = damaged[0].with_name(f'{damaged[0].stem}_recovered.mcap')
        return (f'if its recorder was killed: mcap recover {damaged[0]} -o {mended}, and play that '
                'file')
    if 'yaml' in error.lower() or 'metadata' in error.lower():
        return f'ros2 bag reindex {folder} writes its {METADATA} again'
    return ('if it is damaged: sqlite3 OLD.db3 .recover | sqlite3 NEW.db3, and play the new file; '
            f'ros2 bag reindex {folder} where {METADATA} is wrong')


def message_class(type_name: str) -> type:
    """Returns the class of 'package/msg/Name'; raises DatasetError when it is not installed."""
    package, _, name = type_name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise DatasetError(f'message type {type_name} is not installed here') from error


FIXED_TOPICS = ('/tf', '/tf_static', '/clock')


class BagPlayer:
    """Publishes the topics of one bag, without those whose message type is not installed here."""

    def __init__(self, node: Node, config: ReplayConfig) -> None:
        """Raises DatasetError for a bag that cannot be read or that has no topic to play."""
        self._bag, self._config = Bag(config.bag), config
        self._publishers: dict[str, Publisher] = {}
        self._image_publishers: list[Publisher] = []
        for topic in self._bag.topics:
            try:
                kind = message_class(topic.type_name)
            except DatasetError as error:
                node.get_logger().warning(f'{topic.name} is left out: {error}')
                continue
            if config.clock and topic.name == '/clock':
                continue
            # Reliable, for every subscriber; 100 deep, because a bag may hold many publishers of
            # /tf_static and bursts of /tf.
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

    def has_listener(self) -> bool:
        """Returns whether anybody subscribes to an image, or to any topic of a bag without images.
        """
        return any(publisher.get_subscription_count() > 0
                   for publisher in self._image_publishers or self._publishers.values())

    def steps(self) -> Iterator[tuple[float, Callable[[], None]]]:
        """Yields the seconds since the start at which each message is due, and what publishes it.
        """
        start_ns = None
        for topic, stamp_ns, raw in self._bag.messages():
            start_ns = stamp_ns if start_ns is None else start_ns
            yield ((stamp_ns - start_ns) * 1e-9 / self._config.speed,
                   partial(self._publish, topic, stamp_ns, raw))

    def _publish(self, topic: str, stamp_ns: int, raw: bytes) -> None:
        """Publishes a serialised message, and before it its time where a clock is asked for."""
        if self._clock is not None:
            self._clock.publish(Clock(clock=ns_to_stamp(stamp_ns)))
        if topic in self._publishers:
            self._publishers[topic].publish(bytes(raw))

    def _renamed(self, topic: str) -> str:
        if topic in FIXED_TOPICS or not self._config.topic_prefix:
            return topic
        return '/' + self._config.topic_prefix.strip('/') + '/' + topic.lstrip('/')
