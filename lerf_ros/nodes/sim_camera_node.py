# SPDX-License-Identifier: Apache-2.0
"""A simulated RGB-D camera on a robot: images, camera_info, depth and TF of a table or of rooms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import (
    ns_to_stamp,
    stamped_transform,
    to_camera_info,
    to_image,
)
from lerf_ros.nodes.common.parameters import declare
from lerf_ros.nodes.common.running import TaskNode, run_node
from lerf_ros.nodes.common.topics import TF_QOS, TF_STATIC_QOS, profile
from lerf_ros.nodes.demo.config import (
    CAMERA_INFO_TOPIC,
    DEPTH_TOPIC,
    IMAGE_TOPIC,
    OPTICAL_FRAME,
    SimCameraConfig,
)
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.robot import T_LINK_OPTICAL, SimulatedRobot
from lerf_ros.simulation.sensor import AutoExposure, expose, noisy_image
from lerf_ros.simulation.stage import TABLE, StopAndGo, stage
from lerf_ros.simulation.trajectory import eased

# Reliable: a best-effort publisher loses images of this size and reaches no reliable subscriber.
IMAGE_QOS = profile(10)
# After the first subscription appears, the rest of its process may still be connecting.
SETTLE_S = 1.0
# A subscriber of the images may not want the depth.
DEPTH_PATIENCE_S = 3.0
MAX_BACKLOG_NS = 5 * 10**9      # of transforms; beyond it the clock has jumped


class RobotTf:
    """Publishes map -> odom -> base_link -> camera_link on /tf and the optical frame on /tf_static.

    Localisation, odometry and joints each have their own clock: their stamps are a third of a
    period apart, so that a listener must interpolate each of them.
    """

    def __init__(self, node: Node, robot: SimulatedRobot, config: SimCameraConfig,
                 path_time: Callable[[int], float]) -> None:
        """path_time: maps nanoseconds of the node's clock to seconds on the path."""
        self._clock, self._path_time = node.get_clock(), path_time
        self._latency_ns = round(config.tf_latency * 1e9)
        self._period_ns = round(1e9 / config.tf_rate)
        self._next_ns = 0
        prefix = config.frame_prefix
        odom, base, link = (prefix + name for name in ('odom', 'base_link', 'camera_link'))
        self._edges = ((config.map_frame, odom, robot.T_map_odom),
                       (odom, base, robot.T_odom_base),
                       (base, link, robot.T_base_camera_link))
        self._publisher = qos_overrides.publisher(node, TFMessage, '/tf', TF_QOS)
        self._static = qos_overrides.publisher(node, TFMessage, '/tf_static', TF_STATIC_QOS)
        self._static.publish(TFMessage(transforms=[stamped_transform(
            T_LINK_OPTICAL, link, prefix + OPTICAL_FRAME, self._clock.now().nanoseconds)]))
        node.create_timer(1 / config.tf_rate, self._publish)

    def _publish(self) -> None:
        """Publishes all samples that are due, so that a slow rendering leaves no gap."""
        newest_ns = self._clock.now().nanoseconds - self._latency_ns
        if abs(newest_ns - self._next_ns) > MAX_BACKLOG_NS:
            self._next_ns = newest_ns   # the first time, or after the clock has jumped
        while self._next_ns <= newest_ns:
            transforms = []
            for number, (parent, child, T) in enumerate(self._edges):
                stamp_ns = self._next_ns - number * self._period_ns // len(self._edges)
                transforms.append(stamped_transform(
                    T(self._path_time(stamp_ns)), parent, child, stamp_ns))
            self._publisher.publish(TFMessage(transforms=transforms))
            self._next_ns += self._period_ns


class SimCameraNode(TaskNode):
    """Renders the views along the path live; then publishes only TF until it is stopped."""

    def __init__(self, **arguments: object) -> None:
        """arguments: those of rclpy.node.Node. Raises ConfigError for a wrong parameter."""
        super().__init__('sim_camera_node', **arguments)
        config = self._config = declare(self, SimCameraConfig())
        self._start_ns: int | None = None
        self._rng = np.random.default_rng([config.seed, 11])
        self._exposure = AutoExposure() if config.auto_exposure else None
        self._gain: float | None = None
        self._camera = PinholeCamera(config.width, config.height, config.fx, config.fx,
                                     config.width / 2, config.height / 2)
        self._stage = stage(config.world, config.seed, config.places, config.duration, config.speed)
        self._ride = StopAndGo(1 / config.rate)
        self._renderer = SceneRenderer(self._stage.scene)
        robot = SimulatedRobot(self._stage.path, config.seed, config.error_translation,
                               config.error_rotation)
        self._images = qos_overrides.publisher(self, Image, IMAGE_TOPIC, IMAGE_QOS)
        self._infos = qos_overrides.publisher(
            self, CameraInfo, CAMERA_INFO_TOPIC, IMAGE_QOS)
        self._depths = qos_overrides.publisher(
            self, Image, DEPTH_TOPIC, IMAGE_QOS) if config.depth else None
        self._tf = RobotTf(self, robot, config, self.path_time)
        names = ', '.join(thing.name for thing in self._stage.scene.objects)
        self.get_logger().info(f'{config.world} {config.seed}: {names}')
        self.start_task(self._capture)

    def path_time(self, time_ns: int) -> float:
        """Returns the seconds on the path at a time of the node's clock.

        A camera that is carried starts and ends at rest; one that is driven stops for each image.
        """
        if self._config.world != TABLE:
            return self._ride.path_time(time_ns)
        if self._start_ns is None:
            return 0.0
        return eased((time_ns - self._start_ns) * 1e-9, self._stage.duration_s)

    def _capture(self) -> None:
        """Waits for a subscriber, then renders and publishes at the configured rate."""
        if not self._wait_for_subscriber():
            return
        started = time.monotonic()
        count = self._carry() if self._config.world == TABLE else self._drive()
        if count:
            self.get_logger().info(
                f'capture complete: {count} images in {time.monotonic() - started:.0f} s; '
                'transforms are published on')

    def _drive(self) -> int:
        """Renders an image at each stop; returns how many, 0 where the node was stopped."""
        clock, count = self.get_clock(), int(self._stage.duration_s * self._config.rate) + 1
        for _ in range(count):
            self._publish_view(clock.now().nanoseconds)
            self._ride.go(clock.now().nanoseconds)
            if self.stopping.wait(1 / self._config.rate):
                return 0
        return count

    def _carry(self) -> int:
        """Renders at the configured rate; returns how many, 0 where the node was stopped."""
        clock, config = self.get_clock(), self._config
        self._start_ns = clock.now().nanoseconds
        started, due_s, count = time.monotonic(), 0.0, 0
        while due_s <= self._stage.duration_s:
            if self.stopping.wait(max(0.0, due_s - (time.monotonic() - started))):
                return 0
            self._publish_view(clock.now().nanoseconds)
            count += 1
            # A machine that is too slow renders fewer images instead of ever older ones.
            due_s = max(due_s + 1 / config.rate, time.monotonic() - started)
        return count

    def _wait_for_subscriber(self) -> bool:
        """Returns whether a subscriber came before the node was stopped."""
        if not self._config.wait_for_subscriber:
            return not self.stopping.is_set()
        self.get_logger().info(f'waiting for a subscriber of {self._images.topic_name}')
        return (self.wait_for(self._images.get_subscription_count)
                and (self._depths is None
                     or self.wait_for(self._depths.get_subscription_count, DEPTH_PATIENCE_S))
                and not self.stopping.wait(SETTLE_S))

    def _publish_view(self, stamp_ns: int) -> None:
        """Renders the view at a stamp and publishes its messages, all with that stamp."""
        config = self._config
        view = self._renderer.render(self._camera, self._stage.path(self.path_time(stamp_ns)))
        header = Header(stamp=ns_to_stamp(stamp_ns), frame_id=config.frame_prefix + OPTICAL_FRAME)
        exposed, self._gain = expose(view.image, self._gain, self._exposure, 1 / config.rate)
        image = to_image(noisy_image(exposed, config.image_noise, self._rng), 'rgb8', header)
        depth_m = self._stage.measured(view.depth_m, config.depth_noise, self._rng)
        age_s = (self.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self.stopping.wait(max(0.0, config.latency - age_s))
        self._infos.publish(to_camera_info(self._camera, header))
        if self._depths is not None:
            self._depths.publish(to_image(
                encode_depth(depth_m, config.depth_encoding), config.depth_encoding, header))
        self._images.publish(image)


def encode_depth(depth_m: np.ndarray, encoding: str) -> np.ndarray:
    """Returns depth (H, W) float32 metres in the numbers of an encoding; 0 stays unknown."""
    depth_m = np.where(np.isfinite(depth_m), depth_m, 0).astype(np.float32)
    if encoding == '32FC1':
        return depth_m
    return np.clip(np.rint(depth_m * 1000), 0, 65535).astype(np.uint16)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node and returns its exit code."""
    return run_node(SimCameraNode, 'sim_camera_node', args)


if __name__ == '__main__':
    raise SystemExit(main())
