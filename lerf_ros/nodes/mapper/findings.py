# SPDX-License-Identifier: Apache-2.0
"""Why nothing arrives, in words: from what the graph of ROS says and from what has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.diagnostics import InputWatch, diagnostics
from lerf_ros.nodes.mapper.camera_inputs import CameraInputs
from lerf_ros.nodes.mapper.refusals import Refusals

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


RECENT_S = 10.0     # refusals of so long ago are still the present state


class Findings:
    """Keeps the latest look at the inputs; publishes /diagnostics."""

    def __init__(self, node: Node, tf_timeout: float) -> None:
        self._node, self._tf_timeout = node, tf_timeout
        self._publisher = qos_overrides.publisher(
            node, DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.faults: dict[str, str] = {}    # by topic
        self.others: list[str] = []

    def look(self, inputs: CameraInputs | None, poses: Any, watches: Sequence[InputWatch],
             refusals: Refusals, more: list[str]) -> None:
        """Asks the graph who publishes what is watched; `more` are findings made elsewhere."""
        self.faults, self.others = {}, []
        if inputs is None or not inputs.watches:
            return
        types = dict(self._node.get_topic_names_and_types())
        for watch in watches:
            offers = self._node.get_publishers_info_by_topic(watch.topic)
            if fault := diagnose_topic(watch, offers, types):
                self.faults[watch.topic] = fault
        self.others = [*more, *refusals.recent(RECENT_S).values()]
        if stale := stale_poses(inputs.newest_stamp_ns, poses.newest_ns, self._tf_timeout):
            self.others.append(stale)
        if inputs.restarts:
            self.others.append(f'time went back {inputs.restarts} times since activation (a bag '
                               'that starts again, or a clock that was set)')

    def write(self, msg: FieldStatus, process: Any, refusals: Refusals) -> None:
        """Adds what was found to a report; `process` is a MapperStatus or None."""
        msg.diagnoses = [*dict.fromkeys([*self.faults.values(), *self.others])]
        counts = refusals.counts.most_common()
        msg.refusal_reasons = [reason for reason, _ in counts]
        msg.refusal_counts = [count for _, count in counts]
        if process is not None:
            msg.keyframes_forgotten = process.forgotten
            msg.weak_areas = [Point(x=x, y=y, z=z) for x, y, z in process.weak_areas]

    def publish(self, msg: FieldStatus, watches: Sequence[InputWatch]) -> None:
        """Sends /diagnostics that go with a report."""
        now_ns = self._node.get_clock().now().nanoseconds
        name = self._node.get_fully_qualified_name().lstrip('/')
        self._publisher.publish(diagnostics(name, msg, self.faults, watches, now_ns))
