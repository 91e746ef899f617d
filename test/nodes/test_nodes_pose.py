# SPDX-License-Identifier: Apache-2.0
"""The camera pose from TF, from a pose topic and from odometry with a mounted camera."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('tf2_msgs', reason='tf2_msgs is not built')

import rclpy
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common.conversions import ns_to_stamp
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.tf.pose_source import PoseSource

pytestmark = pytest.mark.ros
SECOND = 10**9


@pytest.fixture
def make():
    context = rclpy.Context()
    context.init()
    node = Node('poses', context=context, start_parameter_services=False)
    yield lambda **settings: PoseSource(node, MapperNodeConfig(**settings))
    node.destroy_node()
    context.try_shutdown()


def transform(parent, child, stamp_ns=0, x=0.0, z=0.0, w=1.0):
    msg = TransformStamped(child_frame_id=child)
    msg.header.frame_id, msg.header.stamp = parent, ns_to_stamp(stamp_ns)
    msg.transform.translation.x, msg.transform.translation.z = x, z
    msg.transform.rotation.w = w
    return TFMessage(transforms=[msg])


def test_tf_composes_moving_and_static_transforms(make):
    source = make()
    for t in (1, 2):
        source.add_moving(transform('map', 'base', t * SECOND, x=float(t)))
    source.add_static(transform('base', 'lens', z=0.5))
    np.testing.assert_allclose(source.lookup('lens', 3 * SECOND // 2)[:3, 3], [1.5, 0, 0.5])


def test_a_pose_topic_is_interpolated_between_its_messages(make):
    source = make(pose_source='pose')
    for t in (1, 2):
        msg = PoseStamped()
        msg.header.frame_id, msg.header.stamp = 'map', ns_to_stamp(t * SECOND)
        msg.pose.position.x, msg.pose.orientation.w = float(t), 1.0
        source.add_pose(msg)
    # The frame of the images plays no part: the topic speaks of their camera.
    assert source.lookup('whatever', SECOND * 5 // 4)[0, 3] == pytest.approx(1.25)
    with pytest.raises(FrameError, match="no pose in 'map'.*future.*Frames on 'camera/pose': map"):
        source.lookup('whatever', 3 * SECOND)


def test_odometry_carries_the_camera_on_its_mount(make):
    source = make(pose_source='odometry', pose_topic='odom', map_frame='odom')
    source.add_static(transform('base', 'lens', z=0.5))
    msg = Odometry(child_frame_id='base')
    msg.header.frame_id, msg.header.stamp = 'odom', ns_to_stamp(SECOND)
    msg.pose.pose.position.x, msg.pose.pose.orientation.w = 3.0, 1.0
    source.add_odometry(msg)
    np.testing.assert_allclose(source.lookup('lens', SECOND)[:3, 3], [3, 0, 0.5])


def test_without_any_transform_the_error_says_what_to_start(make):
    with pytest.raises(FrameError, match='nothing arrived on /tf; start the publisher'):
        make().lookup('lens', SECOND)


def test_a_missing_frame_is_named_beside_those_there_are(make):
    source = make()
    source.add_moving(transform('odom', 'base', SECOND))
    with pytest.raises(FrameError, match=r"'lens'.*base, odom\. Set map_frame and camera_frame"):
        source.lookup('lens', SECOND)


def test_a_transform_without_rotation_is_dropped(make):
    source = make()
    source.add_moving(transform('map', 'lens', SECOND, w=0.0))
    with pytest.raises(FrameError, match='nothing arrived'):
        source.lookup('lens', SECOND)
