# SPDX-License-Identifier: Apache-2.0
"""Where the camera was when an image was taken: from TF, a pose topic or odometry."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import numpy as np
from geometry_msgs.msg import Pose, PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.time import Time
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import FrameError
from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import ns_to_stamp, stamp_to_ns, transform_to_matrix
from lerf_ros.nodes.common.diagnostics import InputMonitor, input_monitor, subscribe_monitored
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.common.stamps import StampMonitor
from lerf_ros.nodes.common.topics import (
    POSE_QOS,
    TF_FAST_QOS,
    TF_QOS,
    TF_STATIC_QOS,
    publisher_name,
)
from lerf_ros.nodes.tf.conflicts import ConflictDetector
from lerf_ros.nodes.tf.jumps import JumpDetector
from lerf_ros.nodes.tf.lookup import Buffer, TransformException, known_frames

Message = TypeVar('Message')
# Poses of a topic enter the buffer as this frame, which no publisher of TF uses.
TOPIC_CAMERA = 'lerf_camera_of_pose_topic'
AUTHORITY = 'lerf_ros'      # tf2 names it in its warnings


class PoseSource:
    """Keeps the motion of the last seconds and answers for a stamp.

    With pose_source `tf` it follows /tf and /tf_static. With `pose` it takes the messages of a
    topic as the optical frame. With `odometry` it takes the robot's base from a topic and the mount
    of the camera from /tf_static.
    """

    def __init__(self, node: Node, config: MapperNodeConfig,
                 on_jump: Callable[[PoseJump], None] = lambda jump: None,
                 on_session: Callable[[], None] = lambda: None) -> None:
        """on_jump: called when the localisation corrected itself. on_session: when it starts."""
        self._node, self._config, self._on_jump = node, config, on_jump
        self._on_session, self._sessions = on_session, 0
        self._conflicts = ConflictDetector()
        self._publishers: frozenset[bytes] = frozenset()    # of /tf, in this session
        self._jumps = JumpDetector(config.map_frame, config.odom_frame,
                                   config.tf_jumps == 'spread')
        self._jumped_ns = 0     # poses up to this stamp precede the last jump
        self._buffer, self._stamps = Buffer(), StampMonitor()
        self._static: dict[str, TransformStamped] = {}      # child frame -> the newest
        self.newest_ns = 0      # the newest stamp of a moving transform
        self._recent: deque[tuple[object, ...]] = deque(maxlen=500)
        self._subscriptions: list[Subscription] = []
        self.monitors: list[InputMonitor] = []
        if config.pose_source != 'pose':
            self._subscriptions.append(qos_overrides.subscribe(
                node, TFMessage, '/tf_static', self.add_static, TF_STATIC_QOS))
        if config.pose_source == 'tf':
            self._subscribe(TFMessage, '/tf', self.add_moving, 'pose_source', TF_QOS)
            self._subscriptions.append(qos_overrides.subscribe(
                node, TFMessage, '/tf', self._take_fast, TF_FAST_QOS, 'fast'))
        elif config.pose_source == 'pose':
            self._subscribe(PoseStamped, config.pose_topic, self.add_pose, 'pose_topic', POSE_QOS)
        else:
            self._subscribe(Odometry, config.pose_topic, self.add_odometry, 'pose_topic', POSE_QOS)

    def lookup(self, camera_frame: str, stamp_ns: int) -> np.ndarray:
        """Returns T_map_camera (4, 4) at a stamp.

        Raises FrameError, which says what is known and what to do, when there is no pose (yet).
        """
        frame = TOPIC_CAMERA if self._config.pose_source == 'pose' else camera_frame
        if fault := self._conflicts.fault(frame):
            raise FrameError(self._conflict_text(fault))
        if stamp_ns <= self._jumped_ns:
            raise FrameError(f'the image is from before {self._config.odom_frame!r} jumped in '
                             f'{self._config.map_frame!r}, and came after that: its pose is wrong')
        try:
            msg = self._buffer.lookup_transform(
                self._config.map_frame, frame, Time(nanoseconds=stamp_ns))
        except TransformException as error:
            raise FrameError(self._unknown_text(camera_frame, error)) from error
        return transform_to_matrix(msg.transform)

    def newest_between(self, parent: str, child: str) -> np.ndarray | None:
        """Returns the newest T_parent_child (4, 4); None where TF does not know it."""
        try:
            msg = self._buffer.lookup_transform(parent, child, Time())
        except TransformException:
            return None
        return transform_to_matrix(msg.transform)

    def frames(self) -> list[str]:
        """Returns all known frames, sorted."""
        return [f for f in known_frames(self._buffer) if f != TOPIC_CAMERA]

    def faults(self) -> list[str]:
        """Returns what is contradictory in the transforms, in words."""
        return [self._conflict_text(fault) for fault in self._conflicts.faults()]

    def check_publishers(self) -> None:
        """Ends the session of the localisation when the publishers of /tf have changed.

        Call it now and then.
        """
        if self._publishers and self._publishers != self._tf_publishers():
            self._jumps.restart()
            self._publishers = frozenset()

    def restart(self) -> None:
        """Forgets all motion, because time went back; keeps static transforms."""
        self._buffer, self._stamps, self.newest_ns = Buffer(), StampMonitor(), 0
        self._recent.clear()
        self._jumps.restart()
        self._publishers = frozenset()
        self._jumped_ns = 0
        for transform in self._static.values():
            self._buffer.set_transform_static(transform, AUTHORITY)

    def close(self) -> None:
        """Ends the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def add_moving(self, msg: TFMessage) -> None:
        """Takes a message of /tf."""
        for transform in msg.transforms:
            stamp = transform.header.stamp
            at = transform.transform.translation
            key = (transform.header.frame_id, transform.child_frame_id, stamp.sec, stamp.nanosec,
                   at.x, at.y, at.z)
            if key not in self._recent:     # tf2 warns of every transform that it gets twice
                self._recent.append(key)
                if self._add(transform) and self._config.tf_jumps != 'ignore':
                    self._follow_jumps(transform)

    def add_static(self, msg: TFMessage) -> None:
        """Takes a message of /tf_static."""
        for transform in msg.transforms:
            self._add(transform, static=True)

    def add_pose(self, msg: PoseStamped) -> None:
        """Takes the pose of the optical frame in the map frame."""
        self._add(as_transform(msg.header, TOPIC_CAMERA, msg.pose))

    def add_odometry(self, msg: Odometry) -> None:
        """Takes the pose of the robot's base in the map frame."""
        self._add(as_transform(msg.header, msg.child_frame_id, msg.pose.pose))

    def _subscribe(self, kind: type[Message], topic: str, callback: Callable[[Message], None],
                   parameter: str, qos: QoSProfile) -> None:
        monitor = input_monitor(self._node, 'poses', kind, topic, parameter, qos)
        self.monitors.append(monitor)
        self._subscriptions.append(
            subscribe_monitored(self._node, monitor, kind, topic, callback, qos))

    def _take_fast(self, msg: TFMessage) -> None:
        self.monitors[0].seen()     # one monitor for both subscriptions of /tf
        self.add_moving(msg)

    def _add(self, msg: TransformStamped, static: bool = False) -> bool:
        """Adds a transform to the buffer; returns whether it is valid."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if not static and self._stamps.went_back(msg.child_frame_id, stamp_ns):
            self._node.get_logger().warning(
                f'time went back: the newest transform of {msg.child_frame_id!r} is more than 5 s '
                'older than one before; transforms of the time before are forgotten',
                throttle_duration_sec=5.0)
            self._conflicts.time_went_back(msg.child_frame_id)
            self.restart()
        add = self._buffer.set_transform_static if static else self._buffer.set_transform
        try:
            add(msg, AUTHORITY)
            if static:
                self._static[msg.child_frame_id] = msg
                self._conflicts.add_static(msg.header.frame_id, msg.child_frame_id)
            else:
                self._conflicts.add(msg)
                self.newest_ns = max(self.newest_ns, stamp_ns)
        except FrameError as error:     # tf2 itself drops such transforms with a log line
            self._node.get_logger().warning(
                f'transform of {msg.child_frame_id!r} dropped: {error}', throttle_duration_sec=5.0)
            return False
        return True

    def _follow_jumps(self, msg: TransformStamped) -> None:
        jump = self._jumps.add(msg)
        if self._jumps.sessions != self._sessions:
            self._sessions = self._jumps.sessions
            self._publishers = self._tf_publishers()
            self._on_session()
        if jump is not None:
            # The new transform holds from just after the old one: nothing is interpolated between.
            at_once = deepcopy(msg)
            at_once.header.stamp = ns_to_stamp(jump.before_ns + 1)
            self._buffer.set_transform(at_once, AUTHORITY)
            self._jumped_ns = jump.before_ns
        confirmed = self._jumps.confirmed(self.newest_ns)
        if confirmed is not None and self._session_continues():
            self._report_jump(confirmed)

    def _session_continues(self) -> bool:
        """Returns whether the localisation has no rival and is the same as before the jump."""
        if self._conflicts.fault(self._config.odom_frame):
            return False
        self.check_publishers()
        return bool(self._publishers)

    def _report_jump(self, jump: PoseJump) -> None:
        metres, degrees = self._jumps.size
        self._node.get_logger().warning(
            f'{self._config.odom_frame!r} jumped in {self._config.map_frame!r} by {metres:.2f} m '
            f'and {degrees:.1f} degrees: the keyframes before it follow, unless their depth '
            f'speaks against it (tf_jumps: {self._config.tf_jumps}; lerf/undo_move puts them back)',
            throttle_duration_sec=1.0)
        self._on_jump(jump)

    def _tf_publishers(self) -> frozenset[bytes]:
        return frozenset(bytes(info.endpoint_gid)
                         for info in self._node.get_publishers_info_by_topic('/tf'))

    def _conflict_text(self, fault: str) -> str:
        topic = '/tf' if self._config.pose_source == 'tf' else self._config.pose_topic
        names = sorted({publisher_name(info) for info in
                        self._node.get_publishers_info_by_topic(topic)})
        fault = fault.replace(repr(TOPIC_CAMERA), 'the camera')
        return (f'{fault}: two nodes publish it on {topic!r} and contradict each other (there '
                f'publish: {", ".join(names) or "none now"}). Stop one of them; until then no '
                'image is used and no keyframe follows a jump')

    def _unknown_text(self, camera_frame: str, error: TransformException) -> str:
        config = self._config
        frames = self.frames()
        topics = '/tf' if config.pose_source == 'tf' else repr(config.pose_topic)
        if not frames:
            return (f'no pose of the camera: nothing arrived on {topics}; start the publisher of '
                    'the camera pose, or set pose_source and pose_topic')
        frame = '' if config.pose_source == 'pose' else f' of {camera_frame!r}'
        return (f'no pose{frame} in {config.map_frame!r} when the image was taken ({error}). '
                f'Frames on {topics}: {", ".join(frames)}. Set map_frame and camera_frame to '
                'frames of this list, or raise tf_timeout if poses come later than '
                f'{config.tf_timeout:g} s')


def as_transform(header: Header, child_frame: str, pose: Pose) -> TransformStamped:
    """Returns the transform message of a pose in a header's frame."""
    msg = TransformStamped(header=header, child_frame_id=child_frame)
    p, translation = pose.position, msg.transform.translation
    translation.x, translation.y, translation.z = p.x, p.y, p.z
    msg.transform.rotation = pose.orientation
    return msg
