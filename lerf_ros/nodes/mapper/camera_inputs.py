# SPDX-License-Identifier: Apache-2.0
"""The cameras of a mapper: subscriptions, images that wait, and which frames become keyframes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.config import KeyframeConfig
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.selection import BLURRED, BUDGET, EMPTY, NOT_MOVED, KeyframeSelector
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import stamp_to_ns
from lerf_ros.nodes.common.diagnostics import InputMonitor, input_monitor, subscribe_monitored
from lerf_ros.nodes.common.node_config import CameraInput, MapperNodeConfig
from lerf_ros.nodes.common.topics import CAMERA_INFO_QOS, IMAGE_DEPTH, profile
from lerf_ros.nodes.mapper.frame_assembler import FrameAssembler
from lerf_ros.nodes.mapper.refusals import Refusals

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:    # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

# Without reliability: as a declared parameter it would keep its value, but it follows publishers.
DECLARED = tuple(kind for kind in qos_overrides.SHOWN if kind != QoSPolicyKind.RELIABILITY)
REFUSALS = {
    BLURRED: 'an image is blurred compared with those before it: move slower, shorten the '
             'exposure, or lower keyframes.sharpness_ratio',
    BUDGET: 'the map holds as many keyframes as keyframes.max_count allows: raise it to map on, '
            'or set keyframes.when_full to forget',
    EMPTY: 'an image is all of one shade: is the lens covered (lens cap), or does the camera not '
           'expose? keyframes.least_contrast says what counts',
}


class ImageSubscription:
    """Subscribes to images; with reliability `auto`, `follow` adapts it to the publishers."""

    def __init__(self, node: Node, monitor: InputMonitor, kind: type, topic: str,
                 callback: Callable[[Image | CompressedImage], None], reliability: str) -> None:
        """monitor: counts the messages. reliability: `auto`, `reliable` or `best_effort`."""
        self._node, self._kind, self._topic = node, kind, topic
        self._monitor, self._callback = monitor, callback
        self._auto = reliability == 'auto' and not qos_overrides.is_given(
            node, topic, 'subscription', QoSPolicyKind.RELIABILITY)
        self.reliable = reliability != 'best_effort'
        self._subscription: Subscription | None = None
        self._subscribe()
        monitor.qos = self.qos

    def follow(self) -> None:
        """Subscribes again when the publishers' reliability requires it; call it now and then."""
        if not self._auto:
            return
        offers = {info.qos_profile.reliability
                  for info in self._node.get_publishers_info_by_topic(self._topic)}
        reliable = ReliabilityPolicy.BEST_EFFORT not in offers
        if offers and reliable != self.reliable:
            self.reliable = reliable
            self.close()
            self._subscribe()

    def close(self) -> None:
        """Ends the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def qos(self) -> QoSProfile:
        """Returns what the subscription asks for now."""
        if self._subscription is None:
            return profile(IMAGE_DEPTH, self.reliable)
        return self._subscription.qos_profile

    def _subscribe(self) -> None:
        self._subscription = qos_overrides.subscribe(
            self._node, self._kind, self._topic, self._take, profile(IMAGE_DEPTH, self.reliable),
            declared=DECLARED,
            # rclpy would log a warning; `follow` adapts, and the diagnosis says what does not fit.
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=lambda event: None))

    def _take(self, msg: Image | CompressedImage) -> None:
        self._monitor.seen()
        self._callback(msg)


class CameraInputs:
    """Receives the images of all cameras and yields keyframes; counts images and refusals."""

    def __init__(self, node: Node, settings: MapperNodeConfig, keyframes: KeyframeConfig,
                 lookup_pose: Callable[[str, int], np.ndarray], refusals: Refusals,
                 newest_between: Callable[[str, str], np.ndarray | None]) -> None:
        """lookup_pose, newest_between: as in FrameAssembler.

        Raises FrameError when a mask file cannot be read.
        """
        self._node, self._settings, self._keyframes = node, settings, keyframes
        self.received, self.newest_stamp_ns, self.restarts = 0, 0, 0
        self.unmoved = 0        # images since the last keyframe for which the camera had not moved
        self.paused = False     # images are dropped
        self.images: list[ImageSubscription] = []
        self.monitors: list[InputMonitor] = []
        self._infos: list[Subscription] = []
        self._selectors: list[KeyframeSelector] = []
        self._cameras = settings.cameras()
        self._assemblers = [
            FrameAssembler(settings, lookup_pose, refusals, camera=camera,
                           on_time_went_back=partial(self._time_went_back, camera.image_topic),
                           newest_between=newest_between)
            for camera in self._cameras]
        self.forget()

    def open(self, refusals: Refusals) -> None:
        """Subscribes, with all counts at zero."""
        self.received, self.newest_stamp_ns, self.restarts = 0, 0, 0
        for number, (camera, assembler) in enumerate(
                zip(self._cameras, self._assemblers, strict=True)):
            assembler.refusals = refusals
            self._subscribe(camera, assembler, f' {number + 1}' if len(self._cameras) > 1 else '')

    def close(self) -> None:
        """Ends the subscriptions and forgets the images that wait."""
        for subscription in self.images:
            subscription.close()
        for info in self._infos:
            self._node.destroy_subscription(info)
        self.images, self._infos, self.monitors = [], [], []
        for assembler in self._assemblers:
            assembler.clear()

    def forget(self) -> None:
        """Forgets the keyframes that were chosen so far."""
        self._selectors = [KeyframeSelector(self._keyframes) for _ in self._cameras]

    def clear(self) -> None:
        """Forgets the images that wait, because the clock was set back."""
        for assembler in self._assemblers:
            assembler.clear()
        for selector in self._selectors:
            selector.restart()

    def chosen(self) -> Iterator[Frame]:
        """Yields the new keyframes among the frames that are complete by now."""
        for assembler, selector in zip(self._assemblers, self._selectors, strict=True):
            for frame in assembler.resolve():
                decision = selector.consider(frame)
                if decision.accepted:
                    self.unmoved = 0
                    yield frame
                elif decision.reason == NOT_MOVED:      # neither used nor refused
                    self.unmoved += 1
                else:
                    assembler.refusals.refuse(decision.reason, REFUSALS[decision.reason])

    def follow(self) -> None:
        """Adapts the image subscriptions to the reliability of their publishers."""
        for subscription in self.images:
            subscription.follow()

    def _subscribe(self, camera: CameraInput, assembler: FrameAssembler, suffix: str) -> None:
        s = self._settings
        # The parameters of further cameras are lists, such as extra_image_topics.
        first = camera is self._cameras[0]
        parameter = '{}' if first else 'extra_{}s'
        compressed, packed = s.image_transport == 'compressed', s.depth_transport != 'raw'
        inputs = (
            ('images', CompressedImage if compressed else Image, camera.image_topic,
             '/compressed' * compressed, partial(self._on_image, assembler), 'image_topic'),
            ('depth', CompressedImage if packed else Image, camera.depth_topic,
             f'/{s.depth_transport}' * packed, assembler.depth.add, 'depth_topic'),
            ('masks', Image, camera.mask_topic, '', assembler.masks.add, 'mask_topic'))
        for name, kind, topic, transport, take, setting in inputs:
            if topic:
                monitor = self._monitor(name + suffix, kind, topic + transport,
                                        parameter.format(setting))
                self.images.append(ImageSubscription(
                    self._node, monitor, kind, topic + transport, take, s.image_reliability))
        topic = camera.camera_info_topic
        monitor = self._monitor('camera_info' + suffix, CameraInfo, topic,
                                parameter.format('camera_info_topic'))
        self._infos.append(subscribe_monitored(
            self._node, monitor, CameraInfo, topic, assembler.infos.add, CAMERA_INFO_QOS))

    def _monitor(self, name: str, kind: type, topic: str, parameter: str) -> InputMonitor:
        monitor = input_monitor(self._node, name, kind, topic, parameter, CAMERA_INFO_QOS)
        self.monitors.append(monitor)
        return monitor

    def _on_image(self, assembler: FrameAssembler, msg: Image | CompressedImage) -> None:
        if self.paused:
            return
        self.received += 1
        self.newest_stamp_ns = stamp_to_ns(msg.header.stamp)
        assembler.add_image(msg)

    def _time_went_back(self, topic: str) -> None:
        self.restarts += 1
        self._node.get_logger().warning(
            f'time went back: the newest image on {topic!r} is more than 5 s older than one '
            'before (a bag that starts again, a clock that was set): what waited is forgotten')
        for camera, selector in zip(self._cameras, self._selectors, strict=True):
            if camera.image_topic == topic:
                selector.restart()
