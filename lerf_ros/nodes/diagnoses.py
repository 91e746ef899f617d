# SPDX-License-Identifier: Apache-2.0
"""Why nothing arrives, in words: from what the graph of ROS says and from what has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rclpy.qos import QoSCompatibility, qos_check_compatible

from lerf_ros.nodes.input_watch import InputWatch

PATIENCE_S = 5.0        # discovery takes up to 3 s, and so does the repetition of what was lost
SILENCE_S = 5.0         # an input that was there and is not any more
NAMES_SHOWN = 5


def diagnose_topic(watch: InputWatch, offers: Sequence[Any],
                   topics: Mapping[str, Iterable[str]]) -> str:
    """What is wrong with an input, and what to do; empty when it is well or may yet be.

    offers: the endpoints that publish on the topic. topics: types by name of all topics there are.
    """
    now = watch.clock_s()
    watch.publishers(bool(offers))
    if now - watch.since_s < PATIENCE_S:
        return ''
    wrong = [offer for offer in offers if offer.topic_type != watch.type_name]
    fitting = [offer for offer in offers if offer.topic_type == watch.type_name]
    if not offers:
        return _nobody(watch, topics)
    if not fitting:
        return (f'{watch.name}: {watch.topic!r} carries {wrong[0].topic_type} and not '
                f'{watch.type_name}: set {watch.parameter} or the transport to what is published')
    mismatches = [text for offer in fitting if (text := qos_mismatch(watch, offer))]
    if len(mismatches) == len(fitting) and watch.age_s() > PATIENCE_S:
        return mismatches[0]
    if watch.rare or now - watch.publisher_since_s < PATIENCE_S or watch.age_s() < SILENCE_S:
        return ''
    return _unheard(watch, fitting[0])


def qos_mismatch(watch: InputWatch, offer: Any) -> str:
    """Which side and which policy keep an offer from being received; empty when none does."""
    asked = watch.qos()
    compatibility, reason = qos_check_compatible(offer.qos_profile, asked)
    if compatibility != QoSCompatibility.ERROR:
        return ''
    reason = reason.removeprefix('ERROR: ').strip('; ')
    or_else = ', or set image_reliability to auto or best_effort' \
        if watch.type_name.startswith('sensor_msgs/') else ''
    return (f'{watch.name}: QoS does not match on {watch.topic!r}: {reason} (the publisher is '
            f'{publisher_name(offer)}, the subscription is ours): let the publisher offer it'
            f'{or_else}')


def publisher_name(offer: Any) -> str:
    """The full name of the node behind an endpoint."""
    return f'{offer.node_namespace.rstrip("/")}/{offer.node_name}'


def _nobody(watch: InputWatch, topics: Mapping[str, Iterable[str]]) -> str:
    if watch.count:
        return (f'{watch.name}: the publisher of {watch.topic!r} has gone after {watch.count} '
                'messages: start it again')
    others = sorted(name for name, types in topics.items()
                    if watch.type_name in types and name != watch.topic)
    shown = ', '.join(others[:NAMES_SHOWN]) + (', ...' if len(others) > NAMES_SHOWN else '')
    return (f'{watch.name}: nobody publishes on {watch.topic!r}: start the driver or set '
            f'{watch.parameter}; topics of type {watch.type_name} now: {shown or "none"}')


def _unheard(watch: InputWatch, offer: Any) -> str:
    since = watch.clock_s() - max(watch.publisher_since_s, watch.last_s)
    if watch.count:
        return (f'{watch.name}: nothing has come on {watch.topic!r} for {since:.0f} s, although '
                f'{publisher_name(offer)} is there: it is silent, paused or overloaded')
    return (f'{watch.name}: {publisher_name(offer)} publishes on {watch.topic!r}, but nothing has '
            f'arrived in {since:.0f} s. Either it sends nothing (ros2 topic hz {watch.topic}), or '
            'its process and this one use different transports: FASTDDS_BUILTIN_TRANSPORTS='
            'LARGE_DATA must be set for all processes or for none, and containers must share '
            '/dev/shm (docs/ros.md)')


def stale_poses(newest_image_ns: int, newest_pose_ns: int, patience_s: float) -> str:
    """Whether the poses have stopped while images go on; stamps in ns, 0 for none yet."""
    behind = (newest_image_ns - newest_pose_ns) * 1e-9
    if not newest_image_ns or not newest_pose_ns or abs(behind) < max(patience_s, 1.0):
        return ''
    if behind > 0:
        return (f'poses: the newest is {behind:.1f} s older than the newest image: localisation '
                'has stopped, or the clocks of camera and robot differ (use one time source)')
    return (f'poses: the newest is {-behind:.1f} s ahead of the newest image: the images are late '
            'or old, or the clocks of camera and robot differ (use one time source)')
