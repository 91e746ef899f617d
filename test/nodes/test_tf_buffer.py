# SPDX-License-Identifier: Apache-2.0
"""The frame tree: interpolation, composition and the errors of tf2."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from scipy.spatial.transform import Rotation

from lerf_ros.geometry.camera import invert_pose
from lerf_ros.nodes.common.conversions import matrix_to_transform, ns_to_stamp, transform_to_matrix
from lerf_ros.nodes.tf.lookup import known_frames
from lerf_ros.nodes.tf.python_buffer import Buffer, TransformException

pytestmark = pytest.mark.ros
SECOND = 10**9


def pose(x=0.0, y=0.0, z=0.0, turn_z=0.0):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0, 0, turn_z]).as_matrix()
    T[:3, 3] = x, y, z
    return T


def stamped(parent, child, T, stamp_ns=0):
    msg = TransformStamped(child_frame_id=child, transform=matrix_to_transform(T))
    msg.header.frame_id, msg.header.stamp = parent, ns_to_stamp(stamp_ns)
    return msg


def look_up(buffer, target, source, stamp_ns):
    return transform_to_matrix(
        buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns)).transform)


@pytest.fixture
def buffer():
    """map -> base moves along x by 1 m a second and turns by 0.2 rad; base -> camera is fixed."""
    buffer = Buffer()
    for t in range(3):
        buffer.set_transform(stamped('map', 'base', pose(x=t, turn_z=0.2 * t), t * SECOND), 'test')
    buffer.set_transform_static(stamped('base', 'camera', pose(z=1.0)), 'test')
    return buffer


def test_half_way_in_time_is_half_way_in_position_and_angle(buffer):
    np.testing.assert_allclose(look_up(buffer, 'map', 'camera', SECOND // 2),
                               pose(x=0.5, z=1.0, turn_z=0.1), atol=1e-12)


def test_at_a_stamp_the_transform_is_exact(buffer):
    np.testing.assert_allclose(look_up(buffer, 'map', 'base', 2 * SECOND), pose(2.0, turn_z=0.4),
                               atol=1e-12)


def test_swapping_the_frames_inverts(buffer):
    forward = look_up(buffer, 'map', 'camera', SECOND)
    np.testing.assert_allclose(look_up(buffer, 'camera', 'map', SECOND), invert_pose(forward),
                               atol=1e-12)


def test_siblings_meet_in_their_common_parent(buffer):
    buffer.set_transform_static(stamped('base', 'arm', pose(y=2.0)), 'test')
    np.testing.assert_allclose(look_up(buffer, 'arm', 'camera', SECOND), pose(y=-2.0, z=1.0),
                               atol=1e-12)


def test_out_of_order_transforms_are_sorted():
    buffer = Buffer()
    for t in (2, 0, 1):
        buffer.set_transform(stamped('map', 'base', pose(x=t**2), t * SECOND), 'test')
    assert look_up(buffer, 'map', 'base', SECOND * 3 // 2)[0, 3] == pytest.approx(2.5)


@pytest.mark.parametrize(('source', 'stamp_ns', 'message'), [
    ('camera', 3 * SECOND, 'extrapolation into the future'),
    ('camera', -1, 'extrapolation into the past'),
    ('lens', SECOND, "'lens' does not exist")])
def test_what_is_not_known_is_an_error_and_never_a_guess(buffer, source, stamp_ns, message):
    with pytest.raises(TransformException, match=message):
        buffer._lookup('map', source, stamp_ns)


def test_unconnected_trees_and_loops(buffer):
    buffer.set_transform_static(stamped('world', 'table', pose()), 'test')
    with pytest.raises(TransformException, match='not connected'):
        look_up(buffer, 'map', 'table', SECOND)
    buffer.set_transform_static(stamped('table', 'world', pose()), 'test')
    with pytest.raises(TransformException, match='loop'):
        look_up(buffer, 'map', 'table', SECOND)


def test_old_transforms_are_forgotten():
    buffer = Buffer(cache_time=Duration(seconds=1))
    for t in range(4):
        buffer.set_transform(stamped('map', 'base', pose(x=t), t * SECOND), 'test')
    with pytest.raises(TransformException, match='past'):
        look_up(buffer, 'map', 'base', SECOND)
    assert look_up(buffer, 'map', 'base', 2 * SECOND)[0, 3] == 2.0


def test_integer_nanoseconds_find_the_newest_transform():
    stamp = 1_700_000_000_123_456_789
    buffer = Buffer()
    buffer.set_transform(stamped('map', 'base', pose(x=1.0), stamp), 'test')
    assert look_up(buffer, 'map', 'base', stamp)[0, 3] == 1.0


def test_known_frames(buffer):
    assert known_frames(buffer) == ['base', 'camera', 'map']
    assert known_frames(Buffer()) == []


def test_time_zero_is_the_newest_time_at_which_all_is_known(buffer):
    np.testing.assert_allclose(look_up(buffer, 'map', 'camera', 0), pose(2.0, z=1.0, turn_z=0.4),
                               atol=1e-12)
    for t in range(2):      # known for one second less
        buffer.set_transform(stamped('base', 'arm', pose(y=t), t * SECOND), 'test')
    np.testing.assert_allclose(look_up(buffer, 'map', 'arm', 0),
                               pose(1.0, turn_z=0.2) @ pose(y=1.0), atol=1e-12)
    np.testing.assert_allclose(look_up(buffer, 'base', 'camera', 0), pose(z=1.0), atol=1e-12)
