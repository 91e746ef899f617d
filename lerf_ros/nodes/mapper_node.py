# SPDX-License-Identifier: Apache-2.0
"""Takes posed images from ROS topics into a map; the training itself runs in a child process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.timer import Timer

from lerf_ros.config import LerfConfig
from lerf_ros.errors import LerfError, StillLoadingError
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.pose_check import PoseCheck
from lerf_ros.mapping.messages import Command, FollowJump, MoveKeyframes, SetClock, StartSession
from lerf_ros.mapping.supervisor import MapperSupervisor, wait_for_leaving
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.diagnostics import InputMonitor
from lerf_ros.nodes.common.lifecycle import ManagedNode, started
from lerf_ros.nodes.common.node_config import MapperNodeConfig, map_directory, map_root
from lerf_ros.nodes.common.parameters import LiveParameters, declare_all, setting_types
from lerf_ros.nodes.common.running import run_node
from lerf_ros.nodes.mapper.camera_inputs import CameraInputs
from lerf_ros.nodes.mapper.diagnosis import InputDiagnosis
from lerf_ros.nodes.mapper.map_commands import MapCommands
from lerf_ros.nodes.mapper.pose_updates import PoseUpdates
from lerf_ros.nodes.mapper.refusals import Refusals
from lerf_ros.nodes.mapper.status import ImageCounts, status_message
from lerf_ros.nodes.tf.pose_source import PoseSource

RESOLVE_PERIOD_S = 0.05     # between checks whether waiting images have their pose by now
FOLLOW_PERIOD_S = 1.0       # between checks of who publishes what
MIN_CLOCK_BACK = Duration(seconds=-1.0)     # a smaller step back is jitter
POLL_S = 0.05
# How long a transition and the end of the node wait for the mapping process to end. A process that
# still writes its last snapshot continues on its own; its successor waits for it.
LEAVE_TIMEOUT_S, SAVE_TIMEOUT_S = 1.0, 30.0


def why_fixed(name: str) -> str:
    """Returns why a parameter cannot change while the mapper node runs."""
    if name.startswith(('query.', 'grasp.')):
        return 'mapper_node has stored it with the map: set it on query_node, which answers'
    if name in setting_types(LerfConfig()):
        return ('the map is made with it from its beginning: start mapper_node again with the new '
                'value')
    return 'mapper_node reads it when it starts: start it again with the new value'


class MapperNode(ManagedNode):
    """Subscribes to the cameras, selects keyframes and hands them to the mapping process."""

    settings: MapperNodeConfig

    def __init__(self, process_factory: Callable[..., MapperSupervisor] = MapperSupervisor,
                 **arguments: object) -> None:
        """arguments: those of rclpy.node.Node.

        Raises ConfigError for a wrong or unknown parameter.
        """
        super().__init__('mapper_node', **arguments)
        self._process_factory = process_factory
        self.settings, self.config = declare_all(self, MapperNodeConfig(), LerfConfig(),
                                                 read_only=False)
        self.live = LiveParameters(self, (self.settings, self.config), why_fixed,
                                   lambda values: None)
        self.directory = map_directory(self.settings.map_directory, self.get_namespace())
        self.process: MapperSupervisor | None = None
        self.paused = False
        self.refusals = Refusals(self.get_logger().warning)
        self.counts = ImageCounts()
        self.inputs: CameraInputs | None = None
        self.pose_check = PoseCheck()
        self._poses: PoseSource | None = None
        self.pose_updates: PoseUpdates | None = None
        self._timers_of_work: list[Timer] = []
        self._status = qos_overrides.publisher(
            self, FieldStatus, topics.STATUS, topics.STATUS_QOS)
        self.create_timer(self.settings.status_period, self.publish_status)
        self.diagnosis = InputDiagnosis(self, self.settings.tf_timeout)
        self.create_timer(FOLLOW_PERIOD_S, self.diagnose_inputs)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=MIN_CLOCK_BACK, on_clock_change=True),
            post_callback=self.clock_jumped)
        self._commands = MapCommands(self, map_root(self.settings.map_root, self.directory))

    def configure(self) -> None:
        """Starts the mapping process, paused, and follows the poses."""
        if self._poses is None:
            self._poses = PoseSource(self, self.settings,
                                     lambda jump: self._send(FollowJump(jump)),
                                     lambda: self._send(StartSession()))
        self.inputs = CameraInputs(self, self.settings, self.config.keyframes, self._poses.lookup,
                                   self.refusals, self._poses.newest_between)
        if self.process is None:    # one that still loads after an earlier attempt is kept
            self.process = self._process_factory(
                self.config, self.directory, self.settings.map_frame, self.settings.metric,
                self.settings.restart_limit)
            self.process.start()
            self.process.pause(True)
            if topic := self.settings.pose_updates_topic:
                self.pose_updates = PoseUpdates(self, topic, self.settings.map_frame,
                                                lambda poses: self._send(MoveKeyframes(poses)))
        self._wait_for_models(self.process)
        self.get_logger().info(f'the map is written to {self.directory}')

    def _wait_for_models(self, process: MapperSupervisor) -> None:
        """Waits until the process has loaded its encoder, before which it can take no image.

        Raises StillLoadingError after load_timeout, LerfError when the process failed.
        """
        limit_s, reported_s = self.settings.load_timeout, 0.0
        end = time.monotonic() + limit_s
        while (status := process.status()).state == 'loading':
            if time.monotonic() > end:
                raise StillLoadingError(
                    f'the models were not loaded within {limit_s:g} s and load on: configure '
                    'again, or raise load_timeout (the first time on a machine takes longest)')
            # This is the executor's thread, so its timers wait too.
            if time.monotonic() - reported_s > self.settings.status_period:
                reported_s = time.monotonic()
                self.publish_status()
            time.sleep(POLL_S)
        if status.state == 'failed':
            self.release()
            raise LerfError(f'the mapper process failed: {status.message}')

    def activate(self) -> None:
        """Subscribes to the images and resumes training."""
        assert self.inputs is not None
        self.refusals = Refusals(self.get_logger().warning)
        self.counts, self.pose_check = ImageCounts(), PoseCheck()
        self.inputs.open(self.refusals)
        self._timers_of_work = [self.create_timer(RESOLVE_PERIOD_S, self.take_frames),
                                self.create_timer(FOLLOW_PERIOD_S, self.inputs.follow)]
        self.pause(False)

    def deactivate(self) -> None:
        """Ends the subscriptions to images and pauses training; the map is kept."""
        assert self.process is not None
        self._unsubscribe()
        self.process.pause(True)

    def release(self) -> None:
        """Stops the mapping process, which writes a last snapshot."""
        self._unsubscribe()
        if self._poses is not None:
            self._poses.close()
            self._poses = None
        if self.pose_updates is not None:
            self.pose_updates.close()
            self.pose_updates = None
        if self.process is not None:
            process, self.process = self.process, None
            process.stop(LEAVE_TIMEOUT_S)

    def wait_for_processes(self) -> None:
        """Waits for the last snapshot, which would be lost with this process."""
        wait_for_leaving(SAVE_TIMEOUT_S)

    def pause(self, paused: bool) -> None:
        """Drops images and pauses training, or resumes both."""
        assert self.inputs is not None and self.process is not None
        self.paused = self.inputs.paused = paused
        self.process.pause(paused)

    def forget_frames(self) -> None:
        """Forgets which keyframes were selected, because the map was reset."""
        if self.inputs is not None:
            self.inputs.clear()
            self.inputs.forget()

    def clock_jumped(self, jump: object) -> None:
        """Forgets all stamps so far, because the clock (use_sim_time) was set back."""
        if self.inputs is None or self._poses is None:
            return
        self.inputs.clear()
        self.inputs.restarts += 1
        self._poses.restart()
        self.get_logger().warning('the clock was set back (a bag that starts again, a simulator '
                                  'that was reset): images and transforms that waited are '
                                  'forgotten, the map is kept')

    def _send(self, command: Command) -> None:
        if self.process is not None:
            self.process.send(command)

    def take_frames(self) -> None:
        """Hands new keyframes to the mapping process."""
        assert self.inputs is not None and self.process is not None
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
        """Collects frames, and judges the poses once there are enough."""
        if self.pose_check.add(frame):
            # In a thread, because it takes a second or more.
            threading.Thread(target=self._judge_poses, args=(self.pose_check,), name='pose_check',
                             daemon=True).start()

    def _judge_poses(self, check: PoseCheck) -> None:
        """Logs whether the poses fit the images; the diagnosis repeats a doubt from then on."""
        fit = check.measure()
        if doubt := fit.doubt(self.config.check):
            self.get_logger().warning(doubt)
        else:
            self.get_logger().info(str(fit))

    def diagnose_inputs(self) -> None:
        """Diagnoses the inputs and publishes /diagnostics, once a second and in every state."""
        faults = [*filter(None, [self.pose_check.fit.doubt(self.config.check)])]
        if self.pose_updates is not None and self.pose_updates.fault:
            faults.append(self.pose_updates.fault)
        if self._poses is not None:
            self._poses.check_publishers()
            faults += self._poses.faults()
        monitors = self._monitors()
        self.diagnosis.update(self.inputs, self._poses, monitors, self.refusals, faults)
        self.diagnosis.publish(self._report(), monitors)

    def _monitors(self) -> list[InputMonitor]:
        """Returns the monitors of all inputs that are subscribed to now."""
        if self.inputs is None or self._poses is None:
            return []
        updates = [self.pose_updates.monitor] if self.pose_updates is not None else []
        return [*self.inputs.monitors, *self._poses.monitors, *updates]

    def publish_status(self) -> None:
        """Reports on lerf/status in every state; tells the process the time of a simulation."""
        if self.get_clock().ros_time_is_active:
            self._send(SetClock(self.get_clock().now().nanoseconds))
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
        self.diagnosis.fill(msg, process, self.refusals)
        return msg

    def _unsubscribe(self) -> None:
        for timer in self._timers_of_work:
            self.destroy_timer(timer)
        self._timers_of_work = []
        if self.inputs is not None:
            self.inputs.close()


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node and returns its exit code."""
    return run_node(lambda: started(MapperNode()), 'mapper_node', args)


if __name__ == '__main__':
    raise SystemExit(main())
