# SPDX-License-Identifier: Apache-2.0
"""Looks at all inputs once a second: what is wrong with them, in lerf/status and /diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point
from rclpy.node import Node

from lerf_ros.msg import FieldStatus
from lerf_ros.nodes import qos_overrides, topics
from lerf_ros.nodes.camera_inputs import CameraInputs
from lerf_ros.nodes.diagnoses import diagnose_topic, stale_poses
from lerf_ros.nodes.diagnostics_message import diagnostics
from lerf_ros.nodes.input_watch import InputWatch
from lerf_ros.nodes.refusals import Refusals

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
