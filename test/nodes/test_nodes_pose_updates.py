# SPDX-License-Identifier: Apache-2.0
"""Better poses of keyframes over Fast DDS, to a process that only notes them."""

import math

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from rclpy.node import Node
from ros_bench import FakeProcess, overrides, spin_until

from lerf_ros.errors import ConfigError
from lerf_ros.mapping.messages import MoveKeyframes
from lerf_ros.nodes.common.conversions import ns_to_stamp
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.mapper_node import MapperNode

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
TOPIC = 'slam/path'
# Beyond the whole numbers of a double: a stamp must not go through one.
STAMPS = (1_700_000_000_123_456_789, 1_700_000_000_123_456_790)
HALF = math.sqrt(0.5)


@pytest.fixture
def bench(tmp_path, nodes):
    """A mapper node that follows pose updates, and a publisher of them that it has found."""
    mapper = MapperNode(FakeProcess, parameter_overrides=overrides(
        map_directory=str(tmp_path), pose_updates_topic=TOPIC))
    slam = Node('slam')
    nodes += [mapper, slam]
    paths = slam.create_publisher(Path, TOPIC, 5)
    assert mapper.start_alone(), mapper.failure
    assert spin_until((mapper, slam), paths.get_subscription_count)
    return mapper, slam, paths


def pose(stamp_ns, x, q=(0.0, 0.0, 0.0, 1.0), frame_id=''):
    msg = PoseStamped()
    msg.header.stamp, msg.header.frame_id = ns_to_stamp(stamp_ns), frame_id
    msg.pose.position.x = x
    o = msg.pose.orientation
    o.x, o.y, o.z, o.w = q
    return msg


def path(*poses, frame_id='map'):
    msg = Path(poses=list(poses))
    msg.header.frame_id = frame_id
    return msg


def moves(mapper):
    return [call.poses for call in mapper.process.calls if isinstance(call, MoveKeyframes)]


def test_poses_arrive_at_the_process_by_stamp(bench):
    mapper, slam, paths = bench
    quarter_about_z = (0.0, 0.0, HALF, HALF)
    paths.publish(path(pose(STAMPS[0], 1.5), pose(STAMPS[1], -2.0, quarter_about_z, 'map')))
    assert spin_until((mapper, slam), lambda: moves(mapper))
    (poses,) = moves(mapper)
    assert sorted(poses) == list(STAMPS)
    np.testing.assert_allclose(
        poses[STAMPS[0]], [[1, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(
        poses[STAMPS[1]], [[0, -1, 0, -2], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-12)
    assert mapper.pose_updates.fault == ''


@pytest.mark.parametrize(('spoilt', 'named'), [
    (path(pose(STAMPS[0], 1.0), frame_id='odom'), "'odom'"),
    (path(pose(STAMPS[0], 1.0, frame_id='base')), "'base', 'map'"),
    (path(pose(STAMPS[0], 1.0), frame_id=''), 'no frame')])
def test_another_frame_is_refused_in_words(bench, spoilt, named):
    mapper, slam, paths = bench
    paths.publish(spoilt)
    assert spin_until((mapper, slam), lambda: mapper.pose_updates.refused == 1)
    assert not moves(mapper)
    assert f'in {named} and not in' in mapper.pose_updates.fault
    mapper.diagnose_inputs()
    assert mapper.pose_updates.fault in mapper.diagnosis.others
    paths.publish(path(pose(STAMPS[0], 1.0)))
    assert spin_until((mapper, slam), lambda: moves(mapper))
    assert mapper.pose_updates.fault == ''


def test_poses_that_say_nothing_are_left_out_and_counted(bench):
    mapper, slam, paths = bench
    paths.publish(path(pose(1, math.nan), pose(2, 0.5), pose(3, 0.0, (0.0, 0.0, 0.0, 0.0))))
    assert spin_until((mapper, slam), lambda: moves(mapper))
    assert [list(poses) for poses in moves(mapper)] == [[2]]
    assert mapper.pose_updates.left_out == 2 and '2 so far' in mapper.pose_updates.fault


def test_no_topic_is_followed_after_release_or_without_its_name(bench):
    mapper, slam, paths = bench
    mapper.deactivate()
    mapper.release()
    assert mapper.pose_updates is None
    assert spin_until((mapper, slam), lambda: not paths.get_subscription_count())


def test_several_cameras_would_share_stamps():
    with pytest.raises(ConfigError, match='pose_updates_topic speaks of one camera'):
        MapperNodeConfig(pose_updates_topic=TOPIC, extra_image_topics=('b',),
                         extra_camera_info_topics=('c',))
