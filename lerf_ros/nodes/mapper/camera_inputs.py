# SPDX-License-Identifier: Apache-2.0
"""All cameras of a mapper: their subscriptions, what waits, and which frames become keyframes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.config import KeyframeConfig
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.selection import BLURRED, BUDGET, EMPTY, NOT_MOVED, KeyframeSelector
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.conversions import stamp_to_ns
from lerf_ros.nodes.common.diagnostics import InputWatch, type_name
from lerf_ros.nodes.common.node_config import CameraInput, MapperNodeConfig
from lerf_ros.nodes.common.topics import IMAGE_DEPTH, profile
from lerf_ros.nodes.mapper.frame_assembler import FrameAssembler
from lerf_ros.nodes.mapper.refusals import Refusals

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:    # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

# Reliability changes with the publisher; a parameter that was declared once would hold it.
FIXED = tuple(kind for kind in qos_overrides.SHOWN if kind != QoSPolicyKind.RELIABILITY)


class ImageSubscription:
    """Subscribes with the reliability asked for; with `auto`, `follow` adapts it."""

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None],
                 reliability: str,
                 incompatible: Callable[[str], None] = lambda policy: None) -> None:
        """incompatible: told the policy of an offer that does not match."""
        self._node, self._kind, self._topic, self._callback = node, kind, topic, callback
        self._incompatible = incompatible
        self._auto = reliability == 'auto' and not qos_overrides.is_given(
            node, topic, 'subscription', QoSPolicyKind.RELIABILITY)
        self.reliable = reliability != 'best_effort'
        self._subscription: Any = None
        self._subscribe()

    def follow(self) -> None:
        """Subscribes anew when the publishers' reliability asks for it; call it now and then."""
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

    @property
    def qos(self) -> QoSProfile:
        """What the subscription asks for now."""
        if self._subscription is None:
            return profile(IMAGE_DEPTH, self.reliable)
        asked: QoSProfile = self._subscription.qos_profile
        return asked

    def _subscribe(self) -> None:
        self._subscription = qos_overrides.subscribe(
            self._node, self._kind, self._topic, self._callback,
            profile(IMAGE_DEPTH, self.reliable), fixed=FIXED,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=lambda event: self._incompatible(
                    event.last_policy_kind.name)))


REFUSED = {
    BLURRED: 'an image is blurred compared with those before it: move slower, shorten the '
             'exposure, or lower keyframes.sharpness_ratio',
    BUDGET: 'the map holds as many keyframes as keyframes.max_count allows: raise it to map on, '
            'or set keyframes.when_full to forget',
    EMPTY: 'an image is all of one shade: is the lens covered (lens cap), or does the camera not '
           'expose? keyframes.least_contrast says what counts',
}


class CameraInputs:
    """Images go in by topic, keyframes come out; counts what comes and what is refused."""

    def __init__(self, node: Node, settings: MapperNodeConfig, keyframes: KeyframeConfig,
                 lookup_pose: Callable[[str, int], np.ndarray], refusals: Refusals,
                 between: Callable[[str, str], np.ndarray | None] = lambda a, b: None) -> None:
        """lookup_pose, between: as FrameAssembler takes them.

        Raises FrameError when a mask file cannot be read.
        """
        self._node, self._settings, self._keyframes = node, settings, keyframes
        self.received, self.newest_stamp_ns, self.restarts = 0, 0, 0
        self.unmoved = 0        # images since the last keyframe for which the camera had not moved
        self.paused = False     # images are then dropped without a look
        self.images: list[ImageSubscription] = []
        self.watches: list[InputWatch] = []
        self._infos: list[Any] = []
        self._selectors: list[KeyframeSelector] = []
        self._cameras = settings.cameras()
        self._assemblers = [
            FrameAssembler(settings, lookup_pose, refusals, camera=camera, between=between,
                           time_went_back=partial(self._time_went_back, camera.image_topic))
            for camera in self._cameras]
        self.forget()

    def open(self, refusals: Refusals) -> None:
        """Subscribes; counts start at zero."""
        self.received, self.newest_stamp_ns, self.restarts = 0, 0, 0
        for number, (camera, assembler) in enumerate(
                zip(self._cameras, self._assemblers, strict=True)):
            assembler.refusals = refusals
            self._subscribe(camera, assembler, f' {number + 1}' if len(self._cameras) > 1 else '')

    def close(self) -> None:
        """Ends the subscriptions and forgets what waits."""
        for subscription in self.images:
            subscription.close()
        for info in self._infos:
            self._node.destroy_subscription(info)
        self.images, self._infos, self.watches = [], [], []
        for assembler in self._assemblers:
            assembler.clear()

    def forget(self) -> None:
        """Keyframes that were chosen before do not count any more."""
        self._selectors = [KeyframeSelector(self._keyframes) for _ in self._cameras]

    def clear(self) -> None:
        """Forgets what waits, as when the clock was set back."""
        for assembler in self._assemblers:
            assembler.clear()
        for selector in self._selectors:
            selector.restart()

    def chosen(self) -> Iterator[Frame]:
        """The new keyframes among those images whose pose, camera and depth are there by now."""
        for assembler, selector in zip(self._assemblers, self._selectors, strict=True):
            for frame in assembler.resolve():
                decision = selector.consider(frame)
                if decision.accepted:
                    self.unmoved = 0
                    yield frame
                    continue
                self.unmoved += decision.reason == NOT_MOVED
                if decision.reason != NOT_MOVED:  # standing still is neither use nor refusal
                    assembler.refusals.refuse(decision.reason, REFUSED[decision.reason])

    def follow(self) -> None:
        """Adapts the image subscriptions to the reliability of their publishers."""
        for subscription in self.images:
            subscription.follow()

    def _subscribe(self, camera: CameraInput, assembler: FrameAssembler, suffix: str) -> None:
        s, extra = self._settings, 'extra_' if camera is not self._cameras[0] else ''
        compressed, packed = s.image_transport == 'compressed', s.depth_transport != 'raw'
        inputs = (
            ('images', CompressedImage if compressed else Image, camera.image_topic,
             '/compressed' * compressed, partial(self._on_image, assembler), 'image_topic'),
            ('depth', CompressedImage if packed else Image, camera.depth_topic,
             f'/{s.depth_transport}' * packed, assembler.add_depth, 'depth_topic'),
            ('masks', Image, camera.mask_topic, '', assembler.add_mask, 'mask_topic'))
        for name, kind, topic, transport, take, parameter in inputs:
            if topic:
                full = self._node.resolve_topic_name(topic + transport)
                watch = self._watch(name + suffix, full, extra + parameter + 's' * bool(extra),
                                    kind)
                subscription = ImageSubscription(
                    self._node, kind, topic + transport, partial(_take, watch, take),
                    s.image_reliability, partial(setattr, watch, 'incompatible'))
                watch.qos = partial(getattr, subscription, 'qos')
                self.images.append(subscription)
        watch = self._watch(
            'camera_info' + suffix, self._node.resolve_topic_name(camera.camera_info_topic),
            f'{extra}camera_info_topic' + 's' * bool(extra), CameraInfo)
        self._infos.append(qos_overrides.subscribe(
            self._node, CameraInfo, camera.camera_info_topic,
            partial(_take, watch, assembler.add_camera_info), topics.CAMERA_INFO_QOS))
        watch.qos = partial(getattr, self._infos[-1], 'qos_profile')

    def _watch(self, name: str, topic: str, parameter: str, kind: type) -> InputWatch:
        watch = InputWatch(name, topic, parameter, type_name(kind), lambda: topics.CAMERA_INFO_QOS)
        self.watches.append(watch)
        return watch

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


def _take(watch: InputWatch, take: Callable[[Any], None], msg: Any) -> None:
    watch.seen()
    take(msg)
