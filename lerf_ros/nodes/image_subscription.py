# SPDX-License-Identifier: Apache-2.0
"""A subscription to images whose reliability follows the publisher.

A reliable subscription never matches a best-effort camera, and a best-effort one loses most large
images at Fast DDS' default transports; so neither suits all cameras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy

from lerf_ros.nodes import qos_overrides
from lerf_ros.nodes.topics import IMAGE_DEPTH, profile

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
