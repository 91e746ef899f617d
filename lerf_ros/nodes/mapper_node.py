# SPDX-License-Identifier: Apache-2.0
"""Takes posed images from ROS topics into a map; the training itself runs in a child process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.timer import Timer

from lerf_ros.config import LerfConfig
from lerf_ros.errors import LerfError, StillLoadingError
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.pose_check import PoseCheck
from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.mapping.messages import FollowJump, MoveKeyframes, SetClock, StartSession
from lerf_ros.mapping.supervisor import MapperSupervisor, wait_for_leaving
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.diagnostics import InputWatch
from lerf_ros.nodes.common.lifecycle import ManagedNode, started
from lerf_ros.nodes.common.live_parameters import LiveParameters
from lerf_ros.nodes.common.node_config import MapperNodeConfig, map_directory, map_root
from lerf_ros.nodes.common.parameters import declare_all, setting_types
from lerf_ros.nodes.common.running import run_node
from lerf_ros.nodes.mapper.camera_inputs import CameraInputs
from lerf_ros.nodes.mapper.findings import Findings
from lerf_ros.nodes.mapper.map_commands import MapCommands
from lerf_ros.nodes.mapper.pose_source import PoseSource
from lerf_ros.nodes.mapper.pose_updates import PoseUpdates
from lerf_ros.nodes.mapper.refusals import Refusals
from lerf_ros.nodes.mapper.status import Counts, status_message

RESOLVE_PERIOD_S = 0.05     # between looks whether waiting images have their pose by now
FOLLOW_PERIOD_S = 1.0       # between looks at who publishes what
CLOCK_BACK = Duration(seconds=-1.0)     # a clock that was set back, not one that trembles
# How long a transition waits for the mapping process to end, and the node itself in the end. A
# process that still writes its last snapshot goes on alone; the next one waits for it.
LEAVE_S, SAVE_S = 1.0, 30.0


def why_fixed(name: str) -> str:
    """Why a parameter cannot change while the mapper node runs."""
    if name.startswith(('query.', 'grasp.')):
        return 'mapper_node has stored it with the map: set it on query_node, which answers'
    if name in setting_types(LerfConfig()):
        return ('the map is made with it from its beginning: start mapper_node again with the new '
                'value')
    return 'mapper_node reads it when it starts: start it again with the new value'


class MapperNode(ManagedNode):
    """Subscribes, chooses keyframes and hands them to the mapper process."""

    def __init__(self, process_factory: Callable[..., Any] = MapperSupervisor,
                 **arguments: Any) -> None:
        """Raises ConfigError for a parameter that is wrong or does not exist."""
        super().__init__('mapper_node', **arguments)
        self._process_factory = process_factory
        self.settings, self.config = declare_all(self, MapperNodeConfig(), LerfConfig(),
                                                 read_only=False)
        self.live = LiveParameters(self, (self.settings, self.config), why_fixed,
                                   lambda values: None)
        self.directory = map_directory(self.settings.map_directory, self.get_namespace())
        self.process: Any = None
        self.paused = False
        self.refusals = Refusals(self.get_logger().warning)
        self.counts = Counts()
        self.inputs: CameraInputs | None = None
        self.pose_check = PoseCheck()
        self._poses: PoseSource | None = None
        self.pose_updates: PoseUpdates | None = None
        self._timers_of_work: list[Timer] = []
        self._status = qos_overrides.publisher(
            self, FieldStatus, topics.STATUS, topics.STATUS_QOS)
        self.create_timer(self.settings.status_period, self.publish_status)
        self.findings = Findings(self, self.settings.tf_timeout)
        self.create_timer(FOLLOW_PERIOD_S, self.look_at_inputs)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=CLOCK_BACK, on_clock_change=True),
            post_callback=self.clock_jumped)
        self._commands = MapCommands(self, map_root(self.settings.map_root, self.directory))

    def configure(self) -> None:
        """Starts the mapper process, paused, and follows the poses."""
        self.inputs = CameraInputs(self, self.settings, self.config.keyframes, self._lookup_pose,
                                   self.refusals, self._between)
        if self._poses is None:
            self._poses = PoseSource(self, self.settings, self.poses_jumped,
                                     self.localisation_started)
        if self.process is None:    # one that was loading when an attempt before ended goes on
            self.process = self._process_factory(
                self.config, self.directory, self.settings.map_frame, self.settings.metric,
                self.settings.restart_limit)
            self.process.start()
            self.process.pause(True)
            if topic := self.settings.pose_updates_topic:
                self.pose_updates = PoseUpdates(self, topic, self.settings.map_frame,
                                                self.keyframes_moved)
        self._wait_for_models()
        self.get_logger().info(f'the map is written to {self.directory}')

    def _wait_for_models(self) -> None:
        """Returns when the process has loaded its encoder; no image is taken before it can be."""
        limit_s, told = self.settings.load_timeout, 0.0
        end = time.monotonic() + limit_s
        while (status := self.process.status()).state == 'loading':
            if time.monotonic() > end:
                raise StillLoadingError(
                    f'the models were not loaded within {limit_s:g} s and load on: configure '
                    'again, or raise load_timeout (the first time on a machine takes longest)')
            # This is the executor's thread: its timers wait too.
            if time.monotonic() - told > self.settings.status_period:
                told = time.monotonic()
                self.publish_status()
            time.sleep(0.05)
        if status.state == 'failed':
            self.release()
            raise LerfError(f'the mapper process failed: {status.message}')

    def activate(self) -> None:
        """Subscribes to the images and lets the training go on."""
        assert self.inputs is not None
        self.refusals = Refusals(self.get_logger().warning)
        self.counts, self.pose_check = Counts(), PoseCheck()
        self.inputs.open(self.refusals)
        self._timers_of_work = [self.create_timer(RESOLVE_PERIOD_S, self.take_frames),
                                self.create_timer(FOLLOW_PERIOD_S, self.inputs.follow)]
        self.pause(False)

    def deactivate(self) -> None:
        """Ends the subscriptions to images and pauses the training; the map is kept."""
        self._unsubscribe()
        self.process.pause(True)

    def release(self) -> None:
        """Stops the mapper process, which writes a last snapshot."""
        self._unsubscribe()
        if self._poses is not None:
            self._poses.close()
            self._poses = None
        if self.pose_updates is not None:
            self.pose_updates.close()
            self.pose_updates = None
        if self.process is not None:
            process, self.process = self.process, None
            process.stop(LEAVE_S)

    def wait_for_others(self) -> None:
        """Waits for the last snapshot: it would end with this process."""
        wait_for_leaving(SAVE_S)

    def pause(self, paused: bool) -> None:
        """Drops images and lets the training rest, or goes on."""
        assert self.inputs is not None
        self.paused = self.inputs.paused = paused
        self.process.pause(paused)

    def forget_frames(self) -> None:
        """Keyframes that were chosen before do not count any more."""
        if self.inputs is not None:
            self.inputs.clear()
            self.inputs.forget()

    def clock_jumped(self, jump: Any) -> None:
        """The clock (use_sim_time) was set back: nothing from before fits what comes now."""
        if self.inputs is None or self._poses is None:
            return
        self.inputs.clear()
        self.inputs.restarts += 1
        self._poses.restart()
        self.get_logger().warning('the clock was set back (a bag that starts again, a simulator '
                                  'that was reset): images and transforms that waited are '
                                  'forgotten, the map is kept')

    def keyframes_moved(self, poses: dict[int, np.ndarray]) -> None:
        """Takes better poses (4, 4) of the optical frame by stamp (ns), as of a loop closure."""
        if self.process is not None:
            self.process.send(MoveKeyframes(poses))

    def poses_jumped(self, jump: PoseJump) -> None:
        """The localisation has corrected itself at once: earlier keyframes follow."""
        if self.process is not None:
            self.process.send(FollowJump(jump))

    def localisation_started(self) -> None:
        """What it says later of its own past is no news of keyframes from before."""
        if self.process is not None:
            self.process.send(StartSession())

    def take_frames(self) -> None:
        """Hands the keyframes on among those images that are complete by now."""
        assert self.inputs is not None
        for frame in self.inputs.chosen():
            self._check_poses(frame)
            lost = self.process.add(frame)
            self.counts.used += 1 - lost
            for _ in range(lost):
                self.refusals.refuse('mapper busy', 'keyframes arrive faster than they can be '
                                     'stored, and the oldest that waited was left out: move '
                                     'slower, or raise keyframes.min_translation and '
                                     'keyframes.min_rotation')

    def _check_poses(self, frame: Frame) -> None:
        """Says once, and in the findings from then on, when the poses look mixed up."""
        if self.pose_check.add(frame):
            # A second or more: images and poses go on meanwhile.
            threading.Thread(target=self._judge_poses, args=(self.pose_check,), name='pose_check',
                             daemon=True).start()

    def _judge_poses(self, check: PoseCheck) -> None:
        fit = check.judge()
        if doubt := fit.doubt(self.config.check):
            self.get_logger().warning(doubt)
        else:
            self.get_logger().info(str(fit))

    def look_at_inputs(self) -> None:
        """Once a second: what is wrong with the inputs, and /diagnostics, in every state."""
        more = [*filter(None, [self.pose_check.verdict.doubt(self.config.check)])]
        if self.pose_updates is not None and self.pose_updates.fault:
            more.append(self.pose_updates.fault)
        if self._poses is not None:
            self._poses.look_at_publishers()
            more += self._poses.faults()
        watches = self._watches()
        self.findings.look(self.inputs, self._poses, watches, self.refusals, more)
        self.findings.publish(self._report(), watches)

    def _watches(self) -> list[InputWatch]:
        """All inputs that are listened to now."""
        if self.inputs is None or self._poses is None:
            return []
        updates = [self.pose_updates.watch] if self.pose_updates is not None else []
        return [*self.inputs.watches, *self._poses.watches, *updates]

    def publish_status(self) -> None:
        """Reports on lerf/status, in every state of the node; tells the process a clock of its own.
        """
        if self.process is not None and self.get_clock().ros_time_is_active:
            self.process.send(SetClock(self.get_clock().now().nanoseconds))
        self._status.publish(self._report())

    def _report(self) -> FieldStatus:
        process = self.process.status() if self.process else None
        if self.inputs is not None:
            self.counts.received = self.inputs.received
            self.counts.newest_stamp_ns = self.inputs.newest_stamp_ns
            self.counts.unmoved = self.inputs.unmoved
        msg = status_message(
            process, self.process is None or self.process.alive,
            self.active and not self.paused, self.counts, self.refusals, self.settings,
            self.get_clock().now().nanoseconds)
        self.findings.write(msg, process, self.refusals)
        return msg

    def _lookup_pose(self, camera_frame: str, stamp_ns: int) -> Any:
        assert self._poses is not None
        return self._poses.lookup(camera_frame, stamp_ns)

    def _between(self, parent: str, child: str) -> Any:
        assert self._poses is not None
        return self._poses.between(parent, child, 0)

    def _unsubscribe(self) -> None:
        for timer in self._timers_of_work:
            self.destroy_timer(timer)
        self._timers_of_work = []
        if self.inputs is not None:
            self.inputs.close()


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node; returns its exit code."""
    return run_node(lambda: started(MapperNode()), 'mapper_node', args)


if __name__ == '__main__':
    raise SystemExit(main())
