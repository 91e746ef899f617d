# SPDX-License-Identifier: Apache-2.0
"""Reads a rosbag2 (sqlite3 or mcap) as raw messages, ready to be published again."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lerf_ros.errors import DatasetError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


@dataclass(frozen=True)
class BagTopic:
    """A recorded topic; latched: late subscribers get the last message (transient local)."""

    name: str
    type_name: str
    latched: bool


class Bag:
    """A rosbag2 folder that can be played any number of times."""

    def __init__(self, path: str | Path):
        """Raises DatasetError when rosbags is missing, or the bag is, or it cannot be read."""
        try:
            from rosbags.rosbag2 import Reader
        except ImportError as error:
            raise DatasetError('reading bags needs rosbags: pip install rosbags') from error
        self._path, self._reader = Path(path).expanduser(), Reader
        if not (self._path / 'metadata.yaml').is_file():
            raise DatasetError(f'{self._path} is not a rosbag2: a folder with a metadata.yaml is '
                               'expected (of a ROS 1 bag: rosbags-convert)')
        try:
            with Reader(self._path) as reader:
                self.topics = tuple(
                    BagTopic(c.topic, c.msgtype, c.topic.endswith('/tf_static') or any(
                        profile.durability.name == 'TRANSIENT_LOCAL'
                        for profile in getattr(c.ext, 'offered_qos_profiles', ())))
                    for c in reader.connections)
                self.duration_s, self.count = reader.duration * 1e-9, reader.message_count
        except Exception as error:   # rosbags raises whatever its YAML, sqlite and mcap parts do
            raise DatasetError(f'bag {self._path} cannot be read: {error}') from error

    def messages(self) -> Iterator[tuple[str, int, bytes]]:
        """Topic, time of recording in nanoseconds and serialised message (CDR), in order."""
        with self._reader(self._path) as reader:
            for connection, stamp_ns, raw in reader.messages():
                yield connection.topic, stamp_ns, raw


def message_class(type_name: str) -> type:
    """The Python class of 'package/msg/Name'; raises DatasetError when it is not installed."""
    package, _, name = type_name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise DatasetError(f'message type {type_name} is not installed here') from error
