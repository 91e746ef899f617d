# SPDX-License-Identifier: Apache-2.0
"""Takes posed images from ROS topics into a map; the training itself runs in a child process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.config import LerfConfig
from lerf_ros.errors import LerfError
from lerf_ros.keyframes.frame import Frame
from lerf_ros.keyframes.selection import BLURRED, BUDGET, NOT_MOVED, KeyframeSelector
from lerf_ros.mapper_process import MapperProcess
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes import topics
from lerf_ros.nodes.conversions import stamp_to_ns
from lerf_ros.nodes.frame_assembler import FrameAssembler
from lerf_ros.nodes.image_subscription import ImageSubscription
from lerf_ros.nodes.lifecycle import ManagedNode, started
from lerf_ros.nodes.node_config import MapperNodeConfig, map_directory
from lerf_ros.nodes.parameters import declare_all
from lerf_ros.nodes.pose_source import PoseSource
from lerf_ros.nodes.refusals import Refusals
from lerf_ros.nodes.running import run_node
from lerf_ros.nodes.status_message import Counts, status_message

RESOLVE_PERIOD_S = 0.05     # between looks whether waiting images have their pose by now
FOLLOW_PERIOD_S = 1.0       # between looks at the reliability of the image publishers
# How long the process may take to end: with a last snapshot to write, or with nothing to save.
SAVE_S, ABANDON_S = 30.0, 5.0


class MapperNode(ManagedNode):
    """Subscribes, chooses keyframes and hands them to the mapper process."""

    def __init__(self, process_factory: Callable[..., Any] = MapperProcess,
                 **arguments: Any) -> None:
        """Raises ConfigError for a parameter that is wrong or does not exist."""
        super().__init__('mapper_node', **arguments)
        self._process_factory = process_factory
        self.settings, self.config = declare_all(self, MapperNodeConfig(), LerfConfig())
        self.directory = map_directory(self.settings.map_directory, self.get_namespace())
        self.process: Any = None
        self.refusals = Refusals(self.get_logger().warning)
        self.counts = Counts()
        self._images: list[ImageSubscription] = []
        self._infos: Any = None
        self._poses: PoseSource | None = None
        self._timers_of_work: list[Timer] = []
        self._status = self.create_publisher(FieldStatus, topics.STATUS, topics.STATUS_QOS)
        self.create_timer(self.settings.status_period, self.publish_status)

    def configure(self) -> None:
        """Starts the mapper process, paused, and follows the poses."""
        self._assembler = FrameAssembler(self.settings, self._lookup_pose, self.refusals)
        self._selector = KeyframeSelector(self.config.keyframes)
        self._poses = PoseSource(self, self.settings)
        self.process = self._process_factory(
            self.config, self.directory, self.settings.map_frame, self.settings.metric)
        self.process.start()
        self.process.pause(True)
        self._wait_for_models()
        self.get_logger().info(f'the map is written to {self.directory}')

    def _wait_for_models(self) -> None:
        """Returns when the process has loaded its encoder; no image is taken before it can be."""
        end = time.monotonic() + self.settings.load_timeout
        while (status := self.process.status()).state == 'loading':
            if time.monotonic() > end:
                raise LerfError(f'the models were not loaded within {self.settings.load_timeout} '
                                's: look at the log above, or raise load_timeout')
            time.sleep(0.1)
        if status.state == 'failed':
            raise LerfError(f'the mapper process failed: {status.message}')

    def activate(self) -> None:
        """Subscribes to the images and lets the training go on."""
        self.refusals = self._assembler.refusals = Refusals(self.get_logger().warning)
        self.counts = Counts()
        self._subscribe()
        self._timers_of_work = [self.create_timer(RESOLVE_PERIOD_S, self.take_frames),
                                self.create_timer(FOLLOW_PERIOD_S, self.follow_publishers)]
        self.process.pause(False)

    def deactivate(self) -> None:
        """Ends the subscriptions to images and pauses the training; the map is kept."""
        self._unsubscribe()
        self._assembler.clear()
        self.process.pause(True)

    def release(self) -> None:
        """Stops the mapper process, which writes a last snapshot."""
        self._unsubscribe()
        if self._poses is not None:
            self._poses.close()
            self._poses = None
        if self.process is not None:
            process, self.process = self.process, None
            process.stop(SAVE_S if process.status().steps else ABANDON_S)

    def on_image(self, msg: Image | CompressedImage) -> None:
        """A colour image; its pose usually arrives later."""
        self.counts.received += 1
        self.counts.newest_stamp_ns = stamp_to_ns(msg.header.stamp)
        self._assembler.add_image(msg)

    def take_frames(self) -> None:
        """Hands those images on whose pose, camera and depth are there by now."""
        for frame in self._assembler.resolve():
            self._consider(frame)

    def follow_publishers(self) -> None:
        """Adapts the image subscriptions to the reliability of their publishers."""
        for subscription in self._images:
            subscription.follow()

    def publish_status(self) -> None:
        """Reports on lerf/status, in every state of the node."""
        now_ns = self.get_clock().now().nanoseconds
        process = self.process.status() if self.process else None
        self._status.publish(status_message(
            process, self.process is None or self.process.alive, self.active, self.counts,
            self.refusals, self.settings, now_ns))

    def _consider(self, frame: Frame) -> None:
        decision = self._selector.consider(frame)
        if decision.accepted:
            if self.process.add(frame):
                self.counts.used += 1
            else:
                self.refusals.refuse('mapper busy', 'keyframes arrive faster than they can be '
                                     'learned: move slower, or raise keyframes.min_translation '
                                     'and keyframes.min_rotation')
        elif decision.reason != NOT_MOVED:  # standing still is neither use nor refusal
            self.refusals.refuse(decision.reason, REFUSED[decision.reason])

    def _lookup_pose(self, camera_frame: str, stamp_ns: int) -> Any:
        assert self._poses is not None
        return self._poses.lookup(camera_frame, stamp_ns)

    def _subscribe(self) -> None:
        s, assembler = self.settings, self._assembler
        compressed = s.image_transport == 'compressed'
        self._infos = self.create_subscription(CameraInfo, s.camera_info_topic,
                                               assembler.add_camera_info, topics.CAMERA_INFO_QOS)
        inputs = [(CompressedImage if compressed else Image,
                   s.image_topic + '/compressed' * compressed, self.on_image),
                  (Image, s.depth_topic, assembler.add_depth),
                  (Image, s.mask_topic, assembler.add_mask)]
        self._images = [ImageSubscription(self, kind, topic, callback, s.image_reliability)
                        for kind, topic, callback in inputs if topic]

    def _unsubscribe(self) -> None:
        for timer in self._timers_of_work:
            self.destroy_timer(timer)
        for subscription in self._images:
            subscription.close()
        if self._infos is not None:
            self.destroy_subscription(self._infos)
        self._images, self._timers_of_work, self._infos = [], [], None


REFUSED = {
    BLURRED: 'an image is blurred compared with those before it: move slower, shorten the '
             'exposure, or lower keyframes.sharpness_ratio',
    BUDGET: 'the map holds as many keyframes as keyframes.max_count allows: raise it to map on',
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node; returns its exit code."""
    return run_node(lambda: started(MapperNode()), 'mapper_node', args)


if __name__ == '__main__':
    raise SystemExit(main())
