# SPDX-License-Identifier: Apache-2.0
"""Grasps bear the errors of a map: poses nearby, and sides that few points show."""

import numpy as np
import pytest
from test_grasping import box, joined, plan, table

from lerf_ros.config import GraspConfig
from lerf_ros.grasping.contacts import GraspScores, contact
from lerf_ros.grasping.planner import TOO_WIDE, expected
from lerf_ros.grasping.proposals import SHAKES, Proposals, shaken
from lerf_ros.grasping.surface import LocalSurface

DOWN = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])     # closes along y


def test_poses_nearby_are_as_far_as_the_errors_say():
    tries = Proposals(np.stack([DOWN, np.eye(3)]), np.array([[1.0, 2, 3], [0, 0, 0]]),
                      np.array([0.02, 0.03]))
    nearby = shaken(tries)
    assert len(nearby) == 2 * len(SHAKES)
    for k, original in enumerate((0, 1)):
        own = slice(k * len(SHAKES), (k + 1) * len(SHAKES))
        moved = np.linalg.norm(nearby.anchors[own] - tries.anchors[original], axis=1)
        np.testing.assert_allclose(moved, np.linalg.norm(SHAKES[:, 3:], axis=1), atol=1e-12)
        turn = np.einsum('sji,jk->sik', nearby.rotations[own], tries.rotations[original])
        angle = np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))
        np.testing.assert_allclose(angle, np.linalg.norm(SHAKES[:, :3], axis=1), atol=1e-7)
        assert (nearby.reaches[own] == tries.reaches[original]).all()
    np.testing.assert_allclose(SHAKES.sum(0), 0, atol=1e-12)     # they favour no direction


def test_a_grasp_that_an_error_undoes_is_worth_less():
    points, normals = box((0.1, 0.04, 0.06))
    ones = np.ones(len(points))
    scene = LocalSurface(points, normals, ones > 0, ones, np.array([0, 0, 0.03]))
    # In the middle, and at the end of the box, where 4 mm more miss it.
    tries = Proposals(np.stack([DOWN, DOWN]), np.array([[0, 0, 0.055], [0.057, 0, 0.055]]),
                      np.array([0.02, 0.02]))
    same = GraspScores(np.ones(2, bool), np.ones(2), np.full(2, 0.8))
    geometric = expected(scene, tries, same, GraspConfig(), blind=False).geometric
    assert geometric[0] > geometric[1] + 0.1


@pytest.mark.parametrize('points, shows', [(1, False), (2, True)])
def test_two_points_show_a_side(points, shows):
    lean, patch = np.ones((1, points)), np.ones((1, points), bool)
    assert contact(lean, 0 * lean, patch).tolist() == [1.0 if shows else 0.0]


def ball(radius, count=4000):
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), np.pi * (1 + 5 ** 0.5) * k
    normals = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar),
                        np.cos(polar)], 1)
    return radius * normals + [0, 0, radius], normals


@pytest.mark.parametrize('shape, hole', [(ball(0.095), (0.06, 0.06)),
                                         (box((0.2, 0.2, 0.012)), (0.2, 0.2))])
def test_a_large_ball_and_a_plate_are_too_wide(shape, hole):
    points, normals, members = joined(shape, table(hole=hole))
    result = plan(points, normals, members)
    assert not result.grasps and result.reason == TOO_WIDE
