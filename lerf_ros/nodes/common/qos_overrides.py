# SPDX-License-Identifier: Apache-2.0
"""Publishers and subscriptions whose QoS parameters may override: `qos_overrides./topic...`.

The parameters are those of the design that rclcpp and rclpy share:
`qos_overrides./topic.subscription.reliability`, with the topic as it is after remapping. rclpy
ignores those that no publisher or subscription asks for; here they are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from lerf_ros.errors import ConfigError

PREFIX = 'qos_overrides.'
# Declared in any case, so that `ros2 param list` shows them; others where they are given.
SHOWN = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
         QoSPolicyKind.DURABILITY)
POLICIES = {kind.name.lower(): kind for kind in QoSPolicyKind if kind.name != 'INVALID'}


def subscribe(node: Node, kind: type, topic: str, callback: Callable[[Any], None],
              qos: QoSProfile, identity: str | None = None,
              fixed: Iterable[QoSPolicyKind] = SHOWN, **more: Any) -> Any:
    """A subscription with the QoS given, or what parameters say instead.

    identity: tells two subscriptions of one topic apart. fixed: policies whose default stays the
    same when the node subscribes anew. Raises ConfigError for an override that is no value.
    """
    return _made(node, topic, 'subscription', identity, fixed, lambda options: (
        node.create_subscription(kind, topic, callback, copy(qos),
                                 qos_overriding_options=options, **more)))


def publisher(node: Node, kind: type, topic: str, qos: QoSProfile) -> Any:
    """A publisher with the QoS given, or what parameters say instead.

    Raises ConfigError for an override that is no value.
    """
    return _made(node, topic, 'publisher', None, SHOWN, lambda options: node.create_publisher(
        kind, topic, copy(qos), qos_overriding_options=options))


def is_given(node: Node, topic: str, entity: str, policy: QoSPolicyKind) -> bool:
    """Whether a parameter overrides a policy of a topic's publisher or subscription."""
    return policy in _given(node, _stem(node, topic, entity, None))


def unused(node: Node) -> list[str]:
    """Overrides that were given and that nothing of this node has asked for."""
    return sorted(name for name in node._parameter_overrides
                  if name.startswith(PREFIX) and not node.has_parameter(name))


def _made(node: Node, topic: str, entity: str, identity: str | None,
          fixed: Iterable[QoSPolicyKind], make: Callable[[QoSOverridingOptions], Any]) -> Any:
    stem = _stem(node, topic, entity, identity)
    kinds = dict.fromkeys([*fixed, *_given(node, stem)])
    try:
        return make(QoSOverridingOptions(list(kinds), entity_id=identity))
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
    """The policies that parameters of this name override; ConfigError for one that is none."""
    names = [name.removeprefix(stem) for name in node._parameter_overrides
             if name.startswith(stem)]
    for name in names:
        if name not in POLICIES:
            raise ConfigError(f'{stem}{name}: there is no QoS policy {name!r}, only '
                              f'{", ".join(POLICIES)}')
    return [POLICIES[name] for name in names]
