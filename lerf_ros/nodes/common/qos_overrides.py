# SPDX-License-Identifier: Apache-2.0
"""Publishers and subscriptions whose QoS is overridden by parameters `qos_overrides./topic...`.

The parameters are those of rclcpp and rclpy, such as
`qos_overrides./topic.subscription.reliability`, with the topic as it is after remapping. rclpy
silently ignores parameters that match no publisher or subscription; `unused` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import TypeVar

from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from lerf_ros.errors import ConfigError

Message = TypeVar('Message')
Entity = TypeVar('Entity')
PREFIX = 'qos_overrides.'
# Always declared, so that `ros2 param list` shows them; other policies only where they are given.
SHOWN = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
         QoSPolicyKind.DURABILITY)
POLICIES = {kind.name.lower(): kind for kind in QoSPolicyKind if kind.name != 'INVALID'}


def subscribe(node: Node, kind: type[Message], topic: str, callback: Callable[[Message], None],
              qos: QoSProfile, identity: str | None = None,
              declared: Iterable[QoSPolicyKind] = SHOWN, **options: object) -> Subscription:
    """Returns a subscription with this QoS, or with what parameters say instead.

    identity: distinguishes two subscriptions of one topic. declared: the policies that become
    parameters even when they are not given; a declared one keeps its value when the node subscribes
    again. options: further ones of create_subscription. Raises ConfigError for an invalid override.
    """
    return _create(node, topic, 'subscription', identity, declared, lambda overriding: (
        node.create_subscription(kind, topic, callback, copy(qos),
                                 qos_overriding_options=overriding, **options)))


def publisher(node: Node, kind: type, topic: str, qos: QoSProfile) -> Publisher:
    """Returns a publisher with this QoS, or with what parameters say instead.

    Raises ConfigError for an invalid override.
    """
    return _create(node, topic, 'publisher', None, SHOWN, lambda overriding: node.create_publisher(
        kind, topic, copy(qos), qos_overriding_options=overriding))


def is_given(node: Node, topic: str, entity: str, policy: QoSPolicyKind) -> bool:
    """Returns whether a parameter overrides a policy of a topic's publisher or subscription."""
    return policy in _given(node, _stem(node, topic, entity, None))


def unused(node: Node) -> list[str]:
    """Returns the given overrides that match no publisher or subscription of this node."""
    return sorted(name for name in node._parameter_overrides
                  if name.startswith(PREFIX) and not node.has_parameter(name))


def _create(node: Node, topic: str, entity: str, identity: str | None,
            declared: Iterable[QoSPolicyKind],
            create: Callable[[QoSOverridingOptions], Entity]) -> Entity:
    stem = _stem(node, topic, entity, identity)
    kinds = dict.fromkeys([*declared, *_given(node, stem)])
    try:
        return create(QoSOverridingOptions(list(kinds), entity_id=identity))
    except InvalidParameterTypeException as error:
        raise ConfigError(str(error)) from error
    except RuntimeError as error:
        if 'QoS override' not in str(error):
            raise
        raise ConfigError(f'{stem}*: {error}') from error


def _stem(node: Node, topic: str, entity: str, identity: str | None) -> str:
    suffix = '' if identity is None else f'_{identity}'
    return f'{PREFIX}{node.resolve_topic_name(topic)}.{entity}{suffix}.'


def _given(node: Node, stem: str) -> list[QoSPolicyKind]:
    """Returns the policies that parameters with this prefix override.

    Raises ConfigError for a name that is no policy.
    """
    names = [name.removeprefix(stem) for name in node._parameter_overrides
             if name.startswith(stem)]
    for name in names:
        if name not in POLICIES:
            raise ConfigError(f'{stem}{name}: there is no QoS policy {name!r}, only '
                              f'{", ".join(POLICIES)}')
    return [POLICIES[name] for name in names]
