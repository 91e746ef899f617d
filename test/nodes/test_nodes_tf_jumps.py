# SPDX-License-Identifier: Apache-2.0
"""odom jumps in map, over Fast DDS: earlier keyframes follow, later images have the new pose."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from ros_bench import Camera, FakeProcess, overrides, spin_until
from tf2_msgs.msg import TFMessage

from lerf_ros.mapping.messages import FollowJump, StartSession
from lerf_ros.nodes.common.conversions import ns_to_stamp
from lerf_ros.nodes.mapper_node import MapperNode

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
SECOND = 10**9
START = 100 * SECOND + 1


class Robot(Camera):
    """map -> odom -> lens; each edge is where the test puts it along x."""

    def edge(self, parent, child, stamp_ns, x):
        msg = TransformStamped(child_frame_id=child)
        msg.header.stamp, msg.header.frame_id = ns_to_stamp(stamp_ns), parent
        msg.transform.translation.x = x
        self.tf.publish(TFMessage(transforms=[msg]))

    def drive(self, stamp_ns, x, correction):
        """One moment: where the robot is by its odometry, and what the localisation adds."""
        self.edge('map', 'odom', stamp_ns, correction)
        self.edge('odom', 'lens', stamp_ns, x)

    def stay(self, stamp_ns, x, correction, count=2):
        """The same for some more moments, 0.1 s apart: a jump counts when it holds."""
        for i in range(1, count + 1):
            self.drive(stamp_ns + i * SECOND // 10, x, correction)


@pytest.fixture
def bench(tmp_path, nodes):
    def make(**settings):
        mapper = MapperNode(FakeProcess, parameter_overrides=overrides(
            map_directory=str(tmp_path), tf_timeout=0.5, **settings))
        robot = Robot(Node('robot'))
        nodes.extend((mapper, robot.node))
        assert mapper.start_alone(), mapper.failure
        assert spin_until(nodes, lambda: robot.matched() and robot.tf.get_subscription_count())
        robot.info()
        return mapper, robot, tuple(nodes)

    return make


def jumps(mapper):
    return [call.jump for call in mapper.process.calls if isinstance(call, FollowJump)]


def test_keyframes_of_before_follow_and_later_images_have_the_new_pose(bench):
    mapper, robot, nodes = bench()
    for second in range(3):
        robot.drive(START + second * SECOND, float(second), 0.0)
    for half in (1, 3):
        robot.image(START + half * SECOND // 2)
    assert spin_until(nodes, lambda: len(mapper.process.frames) == 2)
    robot.drive(START + 3 * SECOND, 3.0, -0.5)
    assert spin_until(nodes, lambda: mapper._poses._jumped_ns)
    assert not jumps(mapper)        # it may yet be taken back
    robot.stay(START + 3 * SECOND, 3.0, -0.5)
    assert spin_until(nodes, lambda: jumps(mapper))
    assert mapper.process.calls.count(StartSession()) == 1
    (jump,) = jumps(mapper)
    expected = np.eye(4)
    expected[0, 3] = -0.5
    np.testing.assert_allclose(jump.T_jump, expected)
    assert (jump.since_ns, jump.until_ns, jump.spread) == (
        START - 1, START + 2 * SECOND, True)
    # Between the two transforms nothing is mixed: 2.5 m by odometry, the correction as a whole.
    robot.image(START + 5 * SECOND // 2)
    assert spin_until(nodes, lambda: len(mapper.process.frames) == 3)
    assert mapper.process.frames[2].T_world_camera[0, 3] == pytest.approx(2.5 - 0.5)


def test_an_image_of_before_that_comes_after_the_jump_is_refused_by_name(bench):
    mapper, robot, nodes = bench()
    for second, correction in enumerate((0.0, 0.0, 0.0, -0.5)):
        robot.drive(START + second * SECOND, float(second), correction)
    robot.stay(START + 3 * SECOND, 3.0, -0.5)
    assert spin_until(nodes, lambda: jumps(mapper))
    robot.image(START + SECOND // 2)
    assert spin_until(nodes, lambda: mapper.refusals.counts['no pose'])
    assert "before 'odom' jumped in 'map'" in mapper.refusals.latest
    assert not mapper.process.frames


def test_the_next_jump_knows_of_the_one_before(bench):
    mapper, robot, nodes = bench(tf_jumps='carry')
    for second, correction in enumerate((0.0, 0.3, 0.3, 0.0)):
        robot.drive(START + second * SECOND, float(second), correction)
        robot.stay(START + second * SECOND, float(second), correction)
    assert spin_until(nodes, lambda: len(jumps(mapper)) == 2)
    first, second = jumps(mapper)
    last = SECOND // 5      # that stayed there
    assert (first.since_ns, first.until_ns) == (START - 1, START + last)
    assert (second.since_ns, second.until_ns) == (START + last, START + 2 * SECOND + last)
    assert not first.spread


@pytest.mark.parametrize(('settings', 'corrections'), [
    ({'tf_jumps': 'ignore'}, (0.0, 0.0, -0.5)),
    ({'odom_frame': 'other'}, (0.0, 0.0, -0.5)),
    ({}, (0.0, 0.05, 0.1)),         # small corrections are no jump: a localisation at work
    ({}, (0.0, 0.05, None, None, 0.3)),     # nor is what was corrected while transforms were lost
    ({}, (0.0, 0.0, *[None] * 11, 1.5))])   # a pause: another localisation may have started
def test_what_is_no_jump_moves_nothing(bench, settings, corrections):
    mapper, robot, nodes = bench(**settings)
    for second, correction in enumerate(corrections):
        if second == 2:
            robot.image(START + SECOND // 2)
            assert spin_until(nodes, lambda: mapper.process.frames)
        if correction is not None:
            robot.drive(START + second * SECOND, float(second), correction)
            robot.stay(START + second * SECOND, float(second), correction)
    last = START + second * SECOND + SECOND // 5
    assert spin_until(nodes, lambda: mapper._poses.newest_ns == last)
    assert not jumps(mapper)


def test_a_jump_that_is_taken_back_moves_nothing(bench):
    mapper, robot, nodes = bench()
    for second, correction in enumerate((0.0, 0.0, -0.5, 0.0, 0.0)):
        robot.drive(START + second * SECOND // 10, 0.0, correction)
    robot.stay(START + 4 * SECOND // 10, 0.0, 0.0, 20)
    assert spin_until(nodes, lambda: mapper._poses.newest_ns == START + 24 * SECOND // 10)
    assert not jumps(mapper)


def test_two_localisations_at_once_are_named_and_nothing_follows_them(bench):
    mapper, robot, nodes = bench()
    for i in range(40):
        robot.drive(START + i * SECOND // 10, 0.1 * i, 1.5 * (i % 2))
    robot.image(START + SECOND)
    assert spin_until(nodes, lambda: mapper.refusals.counts['no pose'])
    assert "'odom' leaps to and fro in 'map' by 1.50 m" in mapper.refusals.latest
    assert '/robot' in mapper.refusals.latest
    assert spin_until(nodes, lambda: any('leaps' in text for text in mapper.diagnosis.others))
    assert not jumps(mapper) and not mapper.process.frames


def test_a_jump_after_another_publisher_has_come_moves_nothing(bench):
    """A localisation that was started anew stands somewhere else: that is no correction."""
    mapper, robot, nodes = bench()
    for second in range(3):
        robot.drive(START + second * SECOND, float(second), 0.0)
    assert spin_until(nodes, lambda: StartSession() in mapper.process.calls)
    again = Robot(Node('again'))
    assert spin_until((*nodes, again.node), lambda: len(
        mapper.get_publishers_info_by_topic('/tf')) == 2)
    again.drive(START + 3 * SECOND, 3.0, -1.5)
    again.stay(START + 3 * SECOND, 3.0, -1.5, 30)
    assert spin_until((*nodes, again.node), lambda: mapper.process.calls.count(StartSession()) == 2)
    again.node.destroy_node()
    assert not jumps(mapper)
