# SPDX-License-Identifier: Apache-2.0
"""Grasps of synthetic shapes: across the narrow side, through centres, never into anything."""

import numpy as np
import pytest

from lerf_ros.config import GraspConfig
from lerf_ros.errors import ConfigError
from lerf_ros.grasping.contacts import FingerFit, score_proposals
from lerf_ros.grasping.planner import (
    NO_CLEARANCE,
    TOO_FEW_POINTS,
    TOO_WIDE,
    plan_grasps,
    tcp_to_gripper,
)
from lerf_ros.grasping.proposals import Proposals
from lerf_ros.grasping.surface import LocalSurface

STEP = 0.004   # metres between points, as of a map of a table


def plane(size, center, normal_axis, sign):
    """Points and normals of a rectangle with two sides `size`, at right angles to an axis."""
    axes = [k for k in range(3) if k != normal_axis]
    u, v = (np.arange(-s / 2, s / 2 + 1e-9, STEP) for s in size)
    points = np.zeros((len(u) * len(v), 3))
    points[:, axes] = np.stack(np.meshgrid(u, v), -1).reshape(-1, 2)
    normals = np.zeros_like(points)
    normals[:, normal_axis] = sign
    return points + center, normals


def box(size, bottom=(0, 0, 0), sides=(-1, 1)):
    """The surface of a box that stands on `bottom`, without its underside."""
    sx, sy, sz = size
    middle = np.add(bottom, (0, 0, sz / 2))
    parts = [plane((sx, sy), middle + [0, 0, sz / 2], 2, 1)]
    for sign in sides:
        parts.append(plane((sy, sz), middle + [sign * sx / 2, 0, 0], 0, sign))
        parts.append(plane((sx, sz), middle + [0, sign * sy / 2, 0], 1, sign))
    return tuple(np.concatenate(a) for a in zip(*parts))


def table(size=0.6, hole=None):
    """A table top at z = 0 with a hole where something stands on it."""
    points, normals = plane((size, size), (0, 0, 0), 2, 1)
    keep = np.ones(len(points), bool) if hole is None else \
        (np.abs(points[:, :2]) > np.asarray(hole) / 2 - 1e-9).any(1)
    return points[keep], normals[keep]


def joined(*shapes):
    """Points, normals, and the indices of the first shape."""
    points, normals = (np.concatenate(a) for a in zip(*shapes))
    return points, normals, np.arange(len(shapes[0][0]))


def plan(points, normals, members, relevancy=None, **settings):
    """Grasps with a relevancy of 1 on the members and 0 elsewhere."""
    if relevancy is None:
        relevancy = np.zeros(len(points))
        relevancy[members] = 1.0
    return plan_grasps(points, normals, members, relevancy, GraspConfig(**settings))


def hand_boxes(grasp, config):
    """Fingers, hand, and all of it on its way, as (low, high) in the grasp frame."""
    w, d, back = config.finger_width / 2, config.finger_depth, config.pregrasp
    inner, hx, hy = grasp.opening_width / 2, config.hand_box[0] / 2, config.hand_box[1] / 2
    outer = inner + config.finger_thickness
    return [((-w, inner, -d - back), (w, outer, 0)), ((-w, -outer, -d - back), (w, -inner, 0)),
            ((-hx, -hy, -d - config.hand_box[2] - back), (hx, hy, -d))]


def assert_free(grasps, points):
    """No point is in a finger or in the hand, nor where they pass."""
    for grasp in grasps:
        T = grasp.T_world_grasp
        local = (points - T[:3, 3]) @ T[:3, :3]
        for low, high in hand_boxes(grasp, GraspConfig()):
            assert not ((local > low) & (local < high)).all(1).any()


def test_a_box_is_gripped_across_its_narrow_side():
    shape = box((0.12, 0.05, 0.06))
    points, normals, members = joined(shape, table(hole=(0.12, 0.05)))
    result = plan(points, normals, members)
    assert result.grasps and result.reason == ''
    for grasp in result.grasps:
        assert abs(grasp.T_world_grasp[1, 1]) > np.cos(np.radians(27))   # +y of the hand
        assert 0.05 < grasp.opening_width <= 0.08
    best = result.grasps[0]
    assert best.opening_width <= 0.05 + 2 * GraspConfig().spare_opening + 0.003
    assert abs(best.T_world_grasp[1, 3]) < 0.004
    assert_free(result.grasps, points)


def test_grasps_of_a_sphere_go_through_its_centre():
    k = np.arange(3000) + 0.5
    polar, turn = np.arccos(1 - 2 * k / 3000), np.pi * (1 + 5 ** 0.5) * k
    normals = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar),
                        np.cos(polar)], 1)
    ball = (0.03 * normals + [0, 0, 0.03], normals)
    points, normals, members = joined(ball, table(hole=(0.02, 0.02)))
    result = plan(points, normals, members)
    assert len(result.grasps) >= 5
    for grasp in result.grasps:
        T = grasp.T_world_grasp
        to_center = T[:3, :3].T @ ([0, 0, 0.03] - T[:3, 3])
        # Between the contacts, and no farther from the closing line than friction allows.
        assert abs(to_center[1]) < 0.004
        assert abs(to_center[0]) < 0.03 * np.sin(np.arctan(0.5)) + 0.01
    assert_free(result.grasps, points)


def test_what_is_wider_than_the_gripper_opens_is_too_wide():
    points, normals, members = joined(box((0.15, 0.12, 0.1)), table(hole=(0.15, 0.12)))
    assert plan(points, normals, members).reason == TOO_WIDE
    assert plan(points, normals, members, max_opening=0.14).grasps


@pytest.mark.parametrize('beyond, first, last', [
    (-5, True, True), (5, False, True), (15, False, False)])
def test_in_the_last_round_normals_may_be_blurred_by_ten_degrees(beyond, first, last):
    points, normals = box((0.1, 0.05, 0.06))
    lean = np.arctan(GraspConfig().friction) + np.radians(beyond)
    side = np.abs(normals[:, 1]) > 0.5
    normals[side] = normals[side] * np.cos(lean) + [0, 0, np.sin(lean)]
    ones = np.ones(len(points))
    scene = LocalSurface(points, normals, ones > 0, ones, np.array([0, 0, 0.03]))
    down = np.array([[[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]])      # closes along y
    tries = Proposals(down, np.array([[0, 0, 0.05]]), np.array([0.02]))
    fit = FingerFit(np.array([-0.025]), np.array([0.025]), np.array([0.03]))
    for blind, held in ((False, first), (True, last)):
        assert score_proposals(scene, tries, fit, GraspConfig(), blind).holds.tolist() == [held]


def test_beside_a_wall_no_grasp_touches_it():
    shape, wall = box((0.1, 0.04, 0.08)), plane((0.4, 0.3), (0, 0.03, 0.15), 1, -1)
    points, normals, members = joined(shape, table(hole=(0.1, 0.04)), wall)
    result = plan(points, normals, members)     # 1 cm is left for a finger of 1.2 cm
    assert_free(result.grasps, points)
    for grasp in result.grasps:
        assert abs(grasp.T_world_grasp[1, 1]) < 0.9   # not across, where the wall is


def test_between_two_walls_there_is_no_clearance():
    shape = box((0.04, 0.04, 0.06))
    walls = [plane((0.4, 0.4), (0, s * 0.026, 0.15), 1, -s) for s in (-1, 1)]
    walls += [plane((0.4, 0.4), (s * 0.026, 0, 0.15), 0, -s) for s in (-1, 1)]
    points, normals, members = joined(shape, table(), *walls)
    result = plan(points, normals, members)
    assert result.reason == NO_CLEARANCE and not result.grasps


def test_the_table_is_never_penetrated():
    points, normals, members = joined(box((0.08, 0.03, 0.02)), table(hole=(0.08, 0.03)))
    result = plan(points, normals, members)
    assert result.grasps
    assert_free(result.grasps, points)
    for grasp in result.grasps:
        T, c = grasp.T_world_grasp, GraspConfig()
        outer = grasp.opening_width / 2 + c.finger_thickness
        tips = [[x, y, 0] for x in (-c.finger_width / 2, c.finger_width / 2)
                for y in (-outer, outer)]
        assert (tips @ T[:3, :3].T + T[:3, 3])[:, 2].min() > 0


def test_the_relevant_part_is_gripped():
    head, handle = box((0.06, 0.06, 0.06)), box((0.2, 0.025, 0.025), bottom=(0.13, 0, 0.015))
    points, normals, members = joined(tuple(np.concatenate(a) for a in zip(head, handle)),
                                      table(hole=(0.06, 0.06)))
    relevancy = np.where(points[:, 0] > 0.035, 0.9, 0.5) * (np.arange(len(points)) < len(members))
    best = plan(points, normals, members, relevancy).grasps[0]
    assert best.T_world_grasp[0, 3] > 0.035
    other = plan(points, normals, members, relevancy[members].max() + 0.0 * relevancy).grasps[0]
    assert other.score <= 1 and best.semantic_score > 0.95


def test_a_box_of_which_one_side_was_never_seen_is_gripped_across():
    shape = box((0.12, 0.05, 0.06), sides=(1,))        # its far sides are missing
    points, normals, members = joined(shape, table(hole=(0.12, 0.05)))
    best = plan(points, normals, members, approach='top_down').grasps[0]
    assert abs(best.T_world_grasp[1, 1]) > 0.99
    assert abs(best.T_world_grasp[1, 3]) < 0.006       # between the edges of its top


@pytest.mark.parametrize(('approach', 'low', 'high'),
                         [('top_down', 0.0, 1.0), ('side', 69.0, 91.0), ('any', 0.0, 81.0)])
def test_the_hand_comes_from_where_it_may(approach, low, high):
    points, normals, members = joined(box((0.04, 0.04, 0.2)), table(hole=(0.04, 0.04)))
    result = plan(points, normals, members, approach=approach)
    assert result.grasps
    for grasp in result.grasps:
        tilt = np.degrees(np.arccos(np.clip(-grasp.T_world_grasp[2, 2], -1, 1)))
        assert low <= tilt <= high


def test_poses_are_consistent():
    points, normals, members = joined(box((0.04, 0.04, 0.1)), table(hole=(0.04, 0.04)))
    turned = (0.01, 0.0, -0.1, 0.0, 0.0, 1.0, 1.0)    # a quarter turn about z, not normalised
    for grasp in plan(points + [5, -7, 0.7], normals, members, tcp_to_gripper=turned).grasps:
        T = grasp.T_world_grasp
        np.testing.assert_allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-9)
        assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
        back = np.linalg.inv(T) @ grasp.T_world_pregrasp
        np.testing.assert_allclose(back[:3, 3], (0, 0, -0.1), atol=1e-9)
        gripper = np.linalg.inv(T) @ grasp.T_world_gripper
        np.testing.assert_allclose(gripper[:3, 3], (0.01, 0, -0.1), atol=1e-9)
        np.testing.assert_allclose(gripper[:3, :2], [[0, -1], [1, 0], [0, 0]], atol=1e-9)
        assert np.linalg.norm(T[:2, 3] - [5, -7]) < 0.05


def test_ranked_different_and_the_same_again():
    points, normals, members = joined(box((0.12, 0.05, 0.06)), table(hole=(0.12, 0.05)))
    first, again = (plan(points, normals, members).grasps for _ in range(2))
    scores = [g.score for g in first]
    assert scores == sorted(scores, reverse=True)
    assert scores == [g.score for g in again]
    assert len(first) <= GraspConfig().max_candidates
    places = {tuple(np.round(g.T_world_grasp, 6).ravel()) for g in first}
    assert len(places) == len(first)


def test_few_points_are_said():
    points, normals, members = joined(box((0.04, 0.04, 0.1)), table())
    assert plan(points, normals, members[:5]).reason == TOO_FEW_POINTS


def test_a_gripper_frame_without_a_rotation_is_refused():
    with pytest.raises(ConfigError, match='quaternion'):
        GraspConfig(tcp_to_gripper=(0, 0, 0, 0, 0, 0, 0))
    np.testing.assert_allclose(tcp_to_gripper(GraspConfig())[:3, 3], (0, 0, -0.1034))
