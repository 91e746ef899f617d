# SPDX-License-Identifier: Apache-2.0
"""A loop closure's jump is spread over the path that led to it, or carries all along."""

import math

import numpy as np
import pytest

from lerf_ros.frames.pose_jump import PoseJump, StampedPose, by_index, spread_error
from lerf_ros.geometry.camera import invert_pose


def at(x, y=0.0, yaw=0.0):
    T = np.eye(4)
    T[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    T[:2, 3] = x, y
    return T


def placed(poses):
    return [StampedPose(10 + i, i + 1, T) for i, T in enumerate(poses)]


def test_an_error_along_a_straight_path_is_spread_by_the_distance():
    """0, 1, 2 and 4 m along x, the end 1 m too far to the left: shares 0, 1/4, 1/2 and 1."""
    jump = PoseJump(at(0.0, -1.0), 0, 4)
    found = jump.corrected(placed([at(0), at(1), at(2), at(4)]))
    assert sorted(found) == [10, 11, 12, 13]
    for index, expected in zip(sorted(found), (0, -0.25, -0.5, -1.0), strict=True):
        assert found[index][1, 3] == pytest.approx(expected)
        np.testing.assert_allclose(found[index][:3, :3], np.eye(3))


def test_only_what_came_since_the_jump_before_and_before_this_one():
    jump = PoseJump(at(0.0, -1.0), since_ns=2, until_ns=4)
    found = jump.corrected(placed([at(x) for x in range(6)]))
    # Stamps 3 and 4, at 2 and 3 m: the first of them stays, the last moves as a whole.
    assert sorted(found) == [12, 13]
    np.testing.assert_allclose(found[12], at(2))
    np.testing.assert_allclose(found[13], at(3, -1))
    assert PoseJump(at(1.0), 9, 9).corrected(placed([at(0)])) == {}


def test_carry_moves_all_that_came_before():
    jump = PoseJump(at(1.0, 2.0, math.pi / 2), since_ns=2, until_ns=3, spread=False)
    found = jump.corrected(placed([at(x) for x in (0, 3, 5, 7)]))
    assert sorted(found) == [10, 11, 12]
    np.testing.assert_allclose(found[11], at(1.0, 5.0, math.pi / 2), atol=1e-12)


def drive(count, turn, length=0.2):
    """A path of steps of one length, each with a turn before it."""
    poses = [at(0.0)]
    for _ in range(count):
        poses.append(poses[-1] @ at(0.0, 0.0, turn) @ at(length))
    return np.stack(poses)


def test_a_gyro_that_drifts_is_put_right_on_the_whole_circle():
    """Truth is a closed circle; odometry turns 3 % too little. The jump closes it."""
    count = 72
    truth, odometry = drive(count, 2 * math.pi / count), drive(count, 1.94 * math.pi / count)
    np.testing.assert_allclose(truth[-1], np.eye(4), atol=1e-9)
    jump = truth[-1] @ invert_pose(odometry[-1])
    fixed = spread_error(odometry, jump)
    np.testing.assert_allclose(fixed[0], odometry[0])
    np.testing.assert_allclose(fixed[-1], truth[-1], atol=1e-9)

    def error(poses):
        return np.linalg.norm(poses[:, :3, 3] - truth[:, :3, 3], axis=1).max()

    carried = jump @ odometry
    assert error(odometry) > 0.2 and error(carried) > 0.2
    assert error(fixed) < 0.02
    turns = fixed[:, :3, :3].transpose(0, 2, 1) @ truth[:, :3, :3]
    assert np.degrees(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1))
                      ).max() < 0.5


def test_a_robot_that_only_turned_moves_as_a_whole():
    poses, jump = np.stack([at(1.0, 1.0, 0.1 * i) for i in range(3)]), at(0.5, 0.0, 0.3)
    np.testing.assert_allclose(spread_error(poses, jump), jump @ poses)
    np.testing.assert_allclose(spread_error(poses[:1], jump), jump @ poses[:1])


def test_poses_by_stamp_reach_every_keyframe_of_that_stamp():
    two = [StampedPose(0, 5, at(0)), StampedPose(1, 5, at(1)), StampedPose(2, 6, at(2))]
    assert sorted(by_index(two, {5: at(9), 7: at(8)})) == [0, 1]
