# SPDX-License-Identifier: Apache-2.0
"""Two nodes that publish the same frame are named; what moves, however fast, is not."""

import math

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')

from geometry_msgs.msg import TransformStamped

from lerf_ros.nodes.common.conversions import matrix_to_transform, ns_to_stamp
from lerf_ros.nodes.tf.conflicts import ConflictDetector

pytestmark = pytest.mark.ros


def place(x=0.0, degrees=0.0):
    T = np.eye(4)
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    T[:2, :2], T[0, 3] = [[c, -s], [s, c]], x
    return T


def transform(i, T, parent='map', child='odom'):
    """The i-th of a stream at 10 Hz."""
    msg = TransformStamped(child_frame_id=child, transform=matrix_to_transform(T))
    msg.header.frame_id, msg.header.stamp = parent, ns_to_stamp(10**9 + i * 10**8)
    return msg


def watched(transforms):
    watch = ConflictDetector(lambda: 0.0)
    for msg in transforms:
        watch.add(msg)
    return watch


@pytest.mark.parametrize('pattern', ['ABABABAB', 'AAAABAAAABAAAABAAAA', 'AABAABAABAA'])
def test_two_places_by_turns_are_two_publishers(pattern):
    watch = watched(transform(i, place(1.5 * (p == 'B'), 20.0 * (p == 'B')))
                    for i, p in enumerate(pattern))
    (text,) = watch.faults()
    assert text == "'odom' leaps to and fro in 'map' by 1.50 m and 20.0 degrees"
    assert watch.fault('odom') == text and not watch.fault('map')


def test_two_that_both_move_are_two_all_the_same():
    """Both drive at 0.5 m/s, 3 m apart, one of them with stamps 30 ms behind."""
    watch = ConflictDetector(lambda: 0.0)
    for i in range(10):
        watch.add(transform(i, place(0.05 * i)))
        late = transform(i, place(3.0 + 0.05 * i))
        late.header.stamp = ns_to_stamp(10**9 + i * 10**8 - 30 * 10**6)
        watch.add(late)
    assert 'leaps to and fro' in watch.fault('odom')


def test_two_parents_by_turns():
    watch = watched(transform(i, place(), parent=('map', 'world')[i % 2]) for i in range(8))
    assert 'two parents by turns' in watch.fault('odom')


def test_a_fault_above_the_camera_is_one_of_the_camera():
    watch = watched(transform(i, place(2.0 * (i % 2))) for i in range(8))
    watch.add_static('base', 'lens')
    watch.add(transform(0, place(), 'odom', 'base'))
    assert watch.fault('lens') and not watch.fault('arm')


@pytest.mark.parametrize('poses', [
    [place(0.3 * i) for i in range(30)],                                # fast
    [place(0.0, 30.0 * math.sin(i)) for i in range(40)],                # swings widely
    [place(0.0, 6.0 * abs(i % 8 - 4)) for i in range(40)],              # turns around at once
    [place(1.0 * (i >= 10)) for i in range(30)],                        # one loop closure
    [place(1.0 * (10 <= i < 20)) for i in range(30)],                   # and one taken back
    [place(1.0 * (i == 10)) for i in range(30)],                        # one slip
    [place(0.02 * (i % 2)) for i in range(30)]])                        # noise
def test_what_moves_is_no_fault(poses):
    assert not watched(transform(i, T) for i, T in enumerate(poses)).faults()


def test_transforms_that_come_seconds_late_are_no_fault():
    order = [i for i in range(40) if i % 7] + [i for i in range(40) if not i % 7]
    assert not watched(transform(i, place(0.3 * i)) for i in order).faults()


def test_times_that_go_back_and_forth():
    now = [0.0]
    watch = ConflictDetector(lambda: now[0])
    watch.time_went_back('odom')        # a bag that starts again
    assert not watch.faults()
    watch.time_went_back('odom')
    watch.time_went_back('odom')
    assert 'goes back and forth' in watch.fault('odom')
    now[0] = 11.0
    assert not watch.faults()
