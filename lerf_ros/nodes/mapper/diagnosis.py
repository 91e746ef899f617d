# SPDX-License-Identifier: Apache-2.0
"""Why nothing arrives, in words: from the ROS graph and from what has arrived."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from lerf_ros.mapping.messages import MapperStatus
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.diagnostics import InputMonitor, mapper_diagnostics
from lerf_ros.nodes.common.topics import publisher_name
from lerf_ros.nodes.mapper.camera_inputs import CameraInputs
from lerf_ros.nodes.mapper.refusals import Refusals
from lerf_ros.nodes.tf.pose_source import PoseSource

PATIENCE_S = 5.0        # discovery and the repetition of lost messages take up to 3 s each
SILENT_S = 5.0          # without a message, an input that once arrived is silent
RECENT_S = 10.0         # refusals are diagnoses for so long
MAX_NAMES = 5
NUMBER = re.compile(r'\d+(\.\d+)?')


def diagnose_topic(monitor: InputMonitor, offers: Sequence[TopicEndpointInfo],
                   topics: Mapping[str, Iterable[str]]) -> str:
    """Returns what is wrong with an input and what to do; '' when nothing is, or it is too early.

    offers: the endpoints that publish on the topic. topics: the types of all topics, by name.
    """
    now = monitor.clock_s()
    monitor.publishers(bool(offers))
    if now - monitor.since_s < PATIENCE_S:
        return ''
    wrong = [offer for offer in offers if offer.topic_type != monitor.type_name]
    fitting = [offer for offer in offers if offer.topic_type == monitor.type_name]
    if not offers:
        return _no_publisher_text(monitor, topics)
    if not fitting:
        return (f'{monitor.name}: {monitor.topic!r} carries {wrong[0].topic_type} and not '
                f'{monitor.type_name}: set {monitor.parameter} or the transport to what is '
                'published')
    mismatches = [text for offer in fitting if (text := qos_mismatch(monitor, offer))]
    if len(mismatches) == len(fitting) and monitor.age_s() > PATIENCE_S:
        return mismatches[0]
    if monitor.rare or now - monitor.publisher_since_s < PATIENCE_S or monitor.age_s() < SILENT_S:
        return ''
    return _silent_text(monitor, fitting[0])


def qos_mismatch(monitor: InputMonitor, offer: TopicEndpointInfo) -> str:
    """Returns which QoS policy prevents an offer from being received; '' when none does."""
    asked = monitor.qos()
    compatibility, reason = qos_check_compatible(offer.qos_profile, asked)
    if compatibility != QoSCompatibility.ERROR:
        return ''
    reason = reason.removeprefix('ERROR: ').strip('; ')
    or_else = ', or set image_reliability to auto or best_effort' \
        if monitor.type_name.startswith('sensor_msgs/') else ''
    return (f'{monitor.name}: QoS does not match on {monitor.topic!r}: {reason} (the publisher is '
            f'{publisher_name(offer)}, the subscription is ours): let the publisher offer it'
            f'{or_else}')


def _no_publisher_text(monitor: InputMonitor, topics: Mapping[str, Iterable[str]]) -> str:
    if monitor.count:
        return (f'{monitor.name}: the publisher of {monitor.topic!r} has gone after '
                f'{monitor.count} messages: start it again')
    others = sorted(name for name, types in topics.items()
                    if monitor.type_name in types and name != monitor.topic)
    shown = ', '.join(others[:MAX_NAMES]) + (', ...' if len(others) > MAX_NAMES else '')
    return (f'{monitor.name}: nobody publishes on {monitor.topic!r}: start the driver or set '
            f'{monitor.parameter}; topics of type {monitor.type_name} now: {shown or "none"}')


def _silent_text(monitor: InputMonitor, offer: TopicEndpointInfo) -> str:
    publisher = publisher_name(offer)
    since = monitor.clock_s() - max(monitor.publisher_since_s, monitor.last_s)
    if monitor.count:
        return (f'{monitor.name}: nothing has come on {monitor.topic!r} for {since:.0f} s, '
                f'although {publisher} is there: it is silent, paused or overloaded')
    return (f'{monitor.name}: {publisher} publishes on {monitor.topic!r}, but nothing has '
            f'arrived in {since:.0f} s. Either it sends nothing (ros2 topic hz {monitor.topic}), '
            'or its process and this one use different transports: FASTDDS_BUILTIN_TRANSPORTS='
            'LARGE_DATA must be set for all processes or for none, and containers must share '
            '/dev/shm (docs/ros.md)')


def stale_poses(newest_image_ns: int, newest_pose_ns: int, patience_s: float) -> str:
    """Returns in words whether images or poses have stopped; '' when neither has.

    newest_image_ns, newest_pose_ns: stamps in ns, 0 for none yet.
    """
    behind = (newest_image_ns - newest_pose_ns) * 1e-9
    if not newest_image_ns or not newest_pose_ns or abs(behind) < max(patience_s, 1.0):
        return ''
    if behind > 0:
        return (f'poses: the newest is {behind:.1f} s older than the newest image: localisation '
                'has stopped, or the clocks of camera and robot differ (use one time source)')
    return (f'poses: the newest is {-behind:.1f} s ahead of the newest image: the images are late '
            'or old, or the clocks of camera and robot differ (use one time source)')


class NewFaults:
    """Warns of each fault when it appears, and not again while it lasts."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """warn: logs a text."""
        self._warn, self._known = warn, frozenset[str]()

    def tell(self, faults: Iterable[str]) -> None:
        """Takes all faults of this moment; texts that differ in numbers alone are the same one."""
        now = {NUMBER.sub('#', text): text for text in faults}
        for kind in now.keys() - self._known:
            self._warn(now[kind])
        self._known = frozenset(now)


class InputDiagnosis:
    """Diagnoses the inputs of the mapper node; keeps the newest faults and publishes them."""

    def __init__(self, node: Node, tf_timeout_s: float) -> None:
        """tf_timeout_s: how long an image waits for its pose."""
        self._node, self._tf_timeout_s = node, tf_timeout_s
        self._publisher = qos_overrides.publisher(
            node, DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.faults: dict[str, str] = {}    # by topic
        self.others: list[str] = []
        self._new = NewFaults(node.get_logger().warning)

    def update(self, inputs: CameraInputs | None, poses: PoseSource | None,
               monitors: Sequence[InputMonitor], refusals: Refusals, others: list[str]) -> None:
        """Diagnoses all inputs anew. others: faults that were found elsewhere."""
        self.faults, self.others = {}, []
        if inputs is None or poses is None or not inputs.monitors:
            return
        types = dict(self._node.get_topic_names_and_types())
        for monitor in monitors:
            offers = self._node.get_publishers_info_by_topic(monitor.topic)
            if fault := diagnose_topic(monitor, offers, types):
                self.faults[monitor.topic] = fault
        self.others = [*others, *refusals.recent(RECENT_S).values()]
        if stale := stale_poses(inputs.newest_stamp_ns, poses.newest_ns,
                                 self._tf_timeout_s):
            self.others.append(stale)
        # The others are logged where they are found.
        self._new.tell(filter(None, [*self.faults.values(), *poses.faults(), stale]))
        if inputs.restarts:
            self.others.append(f'time went back {inputs.restarts} times since activation (a bag '
                               'that starts again, or a clock that was set)')

    def fill(self, msg: FieldStatus, process: MapperStatus | None, refusals: Refusals) -> None:
        """Writes faults, refusals and what the mapping process found weak into a report."""
        msg.diagnoses = [*dict.fromkeys([*self.faults.values(), *self.others])]
        counts = refusals.counts.most_common()
        msg.refusal_reasons = [reason for reason, _ in counts]
        msg.refusal_counts = [count for _, count in counts]
        if process is not None:
            msg.keyframes_forgotten = process.forgotten
            msg.weak_areas = [Point(x=x, y=y, z=z) for x, y, z in process.weak_areas]

    def publish(self, msg: FieldStatus, monitors: Sequence[InputMonitor]) -> None:
        """Publishes a report and the state of all inputs on /diagnostics."""
        now_ns = self._node.get_clock().now().nanoseconds
        name = self._node.get_fully_qualified_name().lstrip('/')
        self._publisher.publish(mapper_diagnostics(name, msg, self.faults, monitors, now_ns))
