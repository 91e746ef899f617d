# SPDX-License-Identifier: Apache-2.0
"""Publishes a capture on disk as the topics of a camera."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.frame import Frame
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import ns_to_stamp, to_camera_info, to_image
from lerf_ros.nodes.common.topics import TF_QOS, profile
from lerf_ros.nodes.demo.config import (
    CAMERA_INFO_TOPIC,
    DEPTH_TOPIC,
    IMAGE_TOPIC,
    MASK_TOPIC,
    ReplayConfig,
)
from lerf_ros.nodes.demo.robot_tf import stamped

IMAGE_QOS = profile(10)


class FolderPlayer:
    """Images, camera_info, depth, mask and map -> camera of one folder."""

    def __init__(self, node: Node, config: ReplayConfig):
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

    def heard(self) -> bool:
        """Whether anybody subscribes to the images."""
        return self._images.get_subscription_count() > 0

    def steps(self) -> Iterator[tuple[float, Frame]]:
        """Each frame with its time from the start, in seconds."""
        for number in range(len(self._folder.frames)):
            yield number / self._config.rate, self._folder.frames[number]

    def publish(self, frame: Frame) -> None:
        """Publishes one frame as if it were taken now; its pose comes first."""
        now_ns, config = self._clock.now().nanoseconds, self._config
        self._tf.publish(TFMessage(transforms=[
            stamped(frame.T_world_camera, config.map_frame, config.camera_frame, now_ns)]))
        header = Header(stamp=ns_to_stamp(now_ns), frame_id=config.camera_frame)
        self._infos.publish(to_camera_info(frame.camera, header))
        if self._depths is not None and frame.depth_m is not None:
            depth_m = np.nan_to_num(frame.depth_m).astype(np.float32)
            self._depths.publish(to_image(depth_m, '32FC1', header))
        if self._masks is not None:
            valid = np.ones(frame.image.shape[:2], bool) if frame.valid is None else frame.valid
            self._masks.publish(to_image(valid.astype(np.uint8) * np.uint8(255), 'mono8', header))
        self._images.publish(to_image(frame.image, 'rgb8', header))
