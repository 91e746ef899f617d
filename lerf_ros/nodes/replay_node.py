# SPDX-License-Identifier: Apache-2.0
"""Plays a capture on disk or a rosbag2 as the topics of a camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import ConfigError, DatasetError
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.frame import Frame
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import (
    ns_to_stamp,
    stamped_transform,
    to_camera_info,
    to_image,
)
from lerf_ros.nodes.common.parameters import declare
from lerf_ros.nodes.common.running import EXIT_OK, TaskNode, run_node
from lerf_ros.nodes.common.topics import TF_QOS, profile
from lerf_ros.nodes.demo.bags import BagPlayer
from lerf_ros.nodes.demo.config import (
    CAMERA_INFO_TOPIC,
    DEPTH_TOPIC,
    IMAGE_TOPIC,
    MASK_TOPIC,
    ReplayConfig,
)

IMAGE_QOS = profile(10)
# The last messages must reach reliable subscribers before the publishers go.
LINGER_S = 2.0
# Between the end and the next start, so that a listener sees where one round ends.
LOOP_PAUSE_S = 0.5


class Player(Protocol):
    """Plays one source any number of times. description: what it is, for people."""

    description: str

    def has_listener(self) -> bool:
        """Returns whether anybody subscribes to the images."""

    def steps(self) -> Iterator[tuple[float, Callable[[], None]]]:
        """Yields the seconds since the start at which each message is due, and what publishes it.
        """


class FolderPlayer:
    """Publishes images, camera_info, depth, masks and the camera's pose of one capture."""

    def __init__(self, node: Node, config: ReplayConfig) -> None:
        """Raises DatasetError for a folder that cannot be read or holds no image."""
        self._clock, self._config = node.get_clock(), config
        self._folder = load_folder(config.folder, config.scale, config.mask_file or None,
                                   config.max_side)
        if not len(self._folder.frames):
            raise DatasetError(f'{config.folder} holds no images')
        for note in self._folder.notes:
            node.get_logger().warning(f'{config.folder}: {note}')
        first = self._folder.frames[0]
        self._images = qos_overrides.publisher(node, Image, IMAGE_TOPIC, IMAGE_QOS)
        self._infos = qos_overrides.publisher(node, CameraInfo, CAMERA_INFO_TOPIC, IMAGE_QOS)
        self._depths = qos_overrides.publisher(
            node, Image, DEPTH_TOPIC, IMAGE_QOS) if self._folder.has_depth else None
        self._masks = qos_overrides.publisher(
            node, Image, MASK_TOPIC, IMAGE_QOS) if self._folder.masked else None
        self._tf = qos_overrides.publisher(node, TFMessage, '/tf', TF_QOS)
        self.description = (f'{len(self._folder.frames)} images of '
                            f'{first.camera.width}x{first.camera.height}, '
                            f'depth: {"yes" if self._depths else "no"}, '
                            f'mask: {"yes" if self._masks else "no"}')

    def has_listener(self) -> bool:
        """Returns whether anybody subscribes to the images."""
        return self._images.get_subscription_count() > 0

    def steps(self) -> Iterator[tuple[float, Callable[[], None]]]:
        """Yields the seconds since the start at which each frame is due, and what publishes it."""
        for number in range(len(self._folder.frames)):
            yield number / self._config.rate, partial(self._publish, self._folder.frames[number])

    def _publish(self, frame: Frame) -> None:
        """Publishes a frame as if it were taken now, its pose first."""
        now_ns, config = self._clock.now().nanoseconds, self._config
        self._tf.publish(TFMessage(transforms=[stamped_transform(
            frame.T_world_camera, config.map_frame, config.camera_frame, now_ns)]))
        header = Header(stamp=ns_to_stamp(now_ns), frame_id=config.camera_frame)
        self._infos.publish(to_camera_info(frame.camera, header))
        if self._depths is not None and frame.depth_m is not None:
            depth_m = np.nan_to_num(frame.depth_m).astype(np.float32)
            self._depths.publish(to_image(depth_m, '32FC1', header))
        if self._masks is not None:
            valid = np.ones(frame.image.shape[:2], bool) if frame.valid is None else frame.valid
            self._masks.publish(to_image(valid.astype(np.uint8) * np.uint8(255), 'mono8', header))
        self._images.publish(to_image(frame.image, 'rgb8', header))


class ReplayNode(TaskNode):
    """Plays from its own thread; ends at the end of what it plays."""

    def __init__(self, **arguments: object) -> None:
        """arguments: those of rclpy.node.Node.

        Raises ConfigError for a wrong parameter, DatasetError for what cannot be played.
        """
        super().__init__('replay_node', **arguments)
        self._config = declare(self, ReplayConfig())
        if bool(self._config.folder) == bool(self._config.bag):
            raise ConfigError('give one of folder (with a transforms.json) and bag (a rosbag2): '
                              '--ros-args -p folder:=PATH')
        self._player: Player = FolderPlayer(self, self._config) if self._config.folder \
            else BagPlayer(self, self._config)
        self.get_logger().info(
            f'{self._config.folder or self._config.bag}: {self._player.description}')
        self.start_task(self._play)

    def _play(self) -> None:
        if self._config.wait_for_subscriber:
            self.get_logger().info('waiting for a subscriber of the images')
            if not self.wait_for(self._player.has_listener):
                return
        if self.stopping.wait(self._config.start_delay):
            return
        count = self._play_once()
        while self._config.loop and not self.stopping.wait(LOOP_PAUSE_S):
            count += self._play_once()
        if not self.stopping.is_set():
            self.get_logger().info(f'replay complete: {count} messages or images')
            self.stopping.wait(LINGER_S)
        self.finish(EXIT_OK)

    def _play_once(self) -> int:
        """Plays one round, slower than asked for where reading is slow; returns how much it played.
        """
        started, count = time.monotonic(), 0
        for due_s, publish in self._player.steps():
            if self.stopping.wait(max(0.0, due_s - (time.monotonic() - started))):
                break
            publish()
            count += 1
        return count


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node and returns its exit code, 2 for a folder or bag that cannot be played."""
    return run_node(ReplayNode, 'replay_node', args)


if __name__ == '__main__':
    raise SystemExit(main())
