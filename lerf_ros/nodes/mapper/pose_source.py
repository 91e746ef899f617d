# SPDX-License-Identifier: Apache-2.0
"""Where the camera was when an image was taken: from TF, a pose topic or odometry."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import FrameError
from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import ns_to_stamp, stamp_to_ns, transform_to_matrix
from lerf_ros.nodes.common.diagnostics import InputWatch, type_name
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.common.time_watch import TimeWatch
from lerf_ros.nodes.common.topics import POSE_QOS, TF_FAST_QOS, TF_QOS, TF_STATIC_QOS
from lerf_ros.nodes.common.transforms import Buffer, TransformException, known_frames
from lerf_ros.nodes.mapper.findings import publisher_name
from lerf_ros.nodes.mapper.tf_jumps import JumpWatch
from lerf_ros.nodes.mapper.tf_rivals import RivalWatch

# Poses of a topic go into the buffer as this frame, which no TF publisher uses.
TOPIC_CAMERA = 'lerf_camera_of_pose_topic'


class PoseSource:
    """Keeps the last seconds of motion and answers for a stamp.

    `tf` follows /tf and /tf_static. `pose` takes the messages of one topic as the optical frame.
    `odometry` takes the base from one topic and the mount of the camera from /tf_static.
    """

    def __init__(self, node: Node, config: MapperNodeConfig,
                 jumped: Callable[[PoseJump], None] = lambda jump: None,
                 started: Callable[[], None] = lambda: None) -> None:
        """jumped: told when the localisation has corrected itself at once; started: when it starts.
        """
        self._node, self._config, self._jumped = node, config, jumped
        self._started, self._sessions = started, 0
        self._rivals = RivalWatch()
        self._publishers: frozenset[bytes] = frozenset()    # of /tf, while the session runs
        self._jumps = JumpWatch(config.map_frame, config.odom_frame, config.tf_jumps == 'spread')
        self._jumped_ns = 0     # poses up to this stamp are those of before the last jump
        self._buffer, self._time = Buffer(), TimeWatch()
        self._static: dict[str, TransformStamped] = {}      # child frame -> the newest
        self.newest_ns = 0      # the newest stamp of a moving transform
        self._recent: deque[tuple[object, ...]] = deque(maxlen=500)
        self._subscriptions: list[Any] = []
        self.watches: list[InputWatch] = []
        if config.pose_source != 'pose':
            self._subscribe(TFMessage, '/tf_static', self.add_static, TF_STATIC_QOS)
        if config.pose_source == 'tf':
            self._subscribe(TFMessage, '/tf', self.add_moving, TF_QOS)
            self._subscribe(TFMessage, '/tf', self.add_moving, TF_FAST_QOS)
        elif config.pose_source == 'pose':
            self._subscribe(PoseStamped, config.pose_topic, self.add_pose, POSE_QOS)
        else:
            self._subscribe(Odometry, config.pose_topic, self.add_odometry, POSE_QOS)

    def lookup(self, camera_frame: str, stamp_ns: int) -> np.ndarray:
        """T_map_camera (4, 4) at the stamp.

        Raises FrameError, which says what is known and what to do, when there is no pose (yet).
        """
        source = TOPIC_CAMERA if self._config.pose_source == 'pose' else camera_frame
        if rivals := self._rivals.fault(source):
            raise FrameError(self._contested(rivals))
        if stamp_ns <= self._jumped_ns:
            raise FrameError(f'the image is from before {self._config.odom_frame!r} jumped in '
                             f'{self._config.map_frame!r}, and came after that: its pose is wrong')
        try:
            msg = self._buffer.lookup_transform(
                self._config.map_frame, source, Time(nanoseconds=stamp_ns))
        except TransformException as error:
            raise FrameError(self._explain(camera_frame, error)) from error
        return transform_to_matrix(msg.transform)

    def between(self, parent: str, child: str, stamp_ns: int) -> np.ndarray | None:
        """T_parent_child (4, 4) at the stamp, the newest known for stamp 0; None if unknown."""
        try:
            msg = self._buffer.lookup_transform(parent, child, Time(nanoseconds=stamp_ns))
        except TransformException:
            return None
        return transform_to_matrix(msg.transform)

    def frames(self) -> list[str]:
        """All frames that are known, sorted."""
        return [f for f in known_frames(self._buffer) if f != TOPIC_CAMERA]

    def faults(self) -> list[str]:
        """What contradicts itself in the transforms, in words."""
        return [self._contested(text) for text in self._rivals.faults()]

    def look_at_publishers(self) -> None:
        """Call it now and then: where others publish on /tf, another localisation may have begun.
        """
        if self._publishers and self._publishers != self._tf_publishers():
            self._jumps.restart()
            self._publishers = frozenset()

    def _tf_publishers(self) -> frozenset[bytes]:
        return frozenset(bytes(info.endpoint_gid)
                         for info in self._node.get_publishers_info_by_topic('/tf'))

    def _contested(self, text: str) -> str:
        topic = '/tf' if self._config.pose_source == 'tf' else self._config.pose_topic
        names = sorted({publisher_name(info) for info in
                        self._node.get_publishers_info_by_topic(topic)})
        text = text.replace(repr(TOPIC_CAMERA), 'the camera')
        return (f'{text}: two nodes publish it on {topic!r} and contradict each other (there '
                f'publish: {", ".join(names) or "none now"}). Stop one of them; until then no '
                'image is used and no keyframe follows a jump')

    def restart(self) -> None:
        """Time has gone back: forgets all motion; what is static holds on."""
        self._buffer, self._time, self.newest_ns = Buffer(), TimeWatch(), 0
        self._recent.clear()
        self._jumps.restart()
        self._publishers = frozenset()
        self._jumped_ns = 0
        for transform in self._static.values():
            self._buffer.set_transform_static(transform, 'lerf_ros')

    def close(self) -> None:
        """Ends the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def add_moving(self, msg: TFMessage) -> None:
        """Takes in a message of /tf."""
        for transform in msg.transforms:
            stamp = transform.header.stamp
            at = transform.transform.translation
            key = (transform.header.frame_id, transform.child_frame_id, stamp.sec, stamp.nanosec,
                   at.x, at.y, at.z)
            if key not in self._recent:     # tf2 warns of every transform that comes twice
                self._recent.append(key)
                if self._add(transform) and self._config.tf_jumps != 'ignore':
                    self._look_for_jump(transform)

    def add_static(self, msg: TFMessage) -> None:
        """Takes in a message of /tf_static."""
        for transform in msg.transforms:
            self._add(transform, static=True)

    def add_pose(self, msg: PoseStamped) -> None:
        """Takes in the pose of the optical frame in the map frame."""
        self._add(as_transform(msg.header, TOPIC_CAMERA, msg.pose))

    def add_odometry(self, msg: Odometry) -> None:
        """Takes in the pose of the robot's base in the map frame."""
        self._add(as_transform(msg.header, msg.child_frame_id, msg.pose.pose))

    def _look_for_jump(self, msg: TransformStamped) -> None:
        jump = self._jumps.look(msg)
        if self._jumps.sessions != self._sessions:
            self._sessions = self._jumps.sessions
            self._publishers = self._tf_publishers()
            self._started()
        if jump is not None:
            # In between nothing is to be interpolated: the new transform holds from the old one on.
            at_once = deepcopy(msg)
            at_once.header.stamp = ns_to_stamp(jump.before_ns + 1)
            self._buffer.set_transform(at_once, 'lerf_ros')
            self._jumped_ns = jump.before_ns
        settled = self._jumps.settled(self.newest_ns)
        if settled is not None and self._goes_on():
            self._follow(settled)

    def _goes_on(self) -> bool:
        """Whether the localisation is alone, and the same as before a jump."""
        if self._rivals.fault(self._config.odom_frame):
            return False
        self.look_at_publishers()
        return bool(self._publishers)

    def _follow(self, jump: PoseJump) -> None:
        metres, degrees = self._jumps.size
        self._node.get_logger().warning(
            f'{self._config.odom_frame!r} jumped in {self._config.map_frame!r} by {metres:.2f} m '
            f'and {degrees:.1f} degrees: the keyframes before it follow, unless their depth '
            f'speaks against it (tf_jumps: {self._config.tf_jumps}; lerf/undo_move puts them back)',
            throttle_duration_sec=1.0)
        self._jumped(jump)

    def _add(self, msg: TransformStamped, static: bool = False) -> bool:
        """Whether the transform says something."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if not static and self._time.went_back(msg.child_frame_id, stamp_ns):
            self._node.get_logger().warning(
                f'time went back: the newest transform of {msg.child_frame_id!r} is more than 5 s '
                'older than one before; transforms of the time before are forgotten',
                throttle_duration_sec=5.0)
            self._rivals.time_went_back(msg.child_frame_id)
            self.restart()
        add = self._buffer.set_transform_static if static else self._buffer.set_transform
        try:
            add(msg, 'lerf_ros')
            if static:
                self._static[msg.child_frame_id] = msg
                self._rivals.hold(msg.header.frame_id, msg.child_frame_id)
            else:
                self._rivals.look(msg)
                self.newest_ns = max(self.newest_ns, stamp_ns)
        except FrameError as error:     # tf2 itself drops such transforms with a log line
            self._node.get_logger().warning(
                f'transform of {msg.child_frame_id!r} dropped: {error}', throttle_duration_sec=5.0)
            return False
        return True

    def _subscribe(self, kind: type, topic: str, callback, qos) -> None:
        name = self._node.resolve_topic_name(topic)
        watch = next((w for w in self.watches if w.topic == name), None)
        # /tf is subscribed to twice and watched once; nobody has to publish /tf_static.
        if watch is None and topic != '/tf_static':
            parameter = 'pose_source' if topic == '/tf' else 'pose_topic'
            watch = InputWatch('poses', name, parameter, type_name(kind), lambda: qos)
            self.watches.append(watch)

        def take(msg: Any) -> None:
            if watch is not None:
                watch.seen()
            callback(msg)
        # Two listen to /tf; each has parameters of its own.
        self._subscriptions.append(qos_overrides.subscribe(
            self._node, kind, topic, take, qos, 'fast' if qos is TF_FAST_QOS else None))
        if watch is not None and watch.topic == name and qos is not TF_FAST_QOS:
            watch.qos = partial(getattr, self._subscriptions[-1], 'qos_profile')

    def _explain(self, camera_frame: str, error: TransformException) -> str:
        config = self._config
        frames = self.frames()
        topics = '/tf' if config.pose_source == 'tf' else repr(config.pose_topic)
        if not frames:
            return (f'no pose of the camera: nothing arrived on {topics}; start the publisher of '
                    'the camera pose, or set pose_source and pose_topic')
        source = '' if config.pose_source == 'pose' else f' of {camera_frame!r}'
        return (f'no pose{source} in {config.map_frame!r} when the image was taken ({error}). '
                f'Frames on {topics}: {", ".join(frames)}. Set map_frame and camera_frame to '
                'frames of this list, or raise tf_timeout if poses come later than '
                f'{config.tf_timeout:g} s')


def as_transform(header, child_frame: str, pose) -> TransformStamped:
    """The transform message of a pose in a header's frame."""
    msg = TransformStamped(header=header, child_frame_id=child_frame)
    p, translation = pose.position, msg.transform.translation
    translation.x, translation.y, translation.z = p.x, p.y, p.z
    msg.transform.rotation = pose.orientation
    return msg
