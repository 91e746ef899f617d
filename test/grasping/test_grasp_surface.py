# SPDX-License-Identifier: Apache-2.0
"""What a map's noise leaves of surfaces, and that grasps do not depend on it."""

import numpy as np
import pytest
from test_grasping import box, joined, plan, table

from lerf_ros.grasping.surface import find_support, smoothed


def test_what_bears_a_thing_is_the_level_of_the_points_round_it():
    points, normals, members = joined(box((0.1, 0.1, 0.05)), table(hole=(0.1, 0.1)))
    member = np.isin(np.arange(len(points)), members)
    points[~member, 2] += np.random.default_rng(1).normal(0, 0.002, (~member).sum())
    found = find_support(points + [0, 0, 0.7], normals, member)
    assert found.height == pytest.approx(0.7, abs=2e-4)
    assert found.noise == pytest.approx(2.5 * 0.002, rel=0.1)


def test_where_nothing_is_seen_of_it_the_thing_ends_at_its_lowest_points():
    points, normals = box((0.1, 0.1, 0.05), bottom=(0, 0, 1.0))
    found = find_support(points, normals, np.ones(len(points), bool))
    assert found.height == pytest.approx(1.0, abs=0.004)
    assert found.noise == 0


def test_noise_goes_and_edges_stay():
    rng = np.random.default_rng(2)
    true, normals = box((0.1, 0.1, 0.05))
    noise = rng.normal(0, 0.002, len(true))
    moved, turned = smoothed(true + noise[:, None] * normals, normals)
    left = ((moved - true) * normals).sum(1)
    assert np.std(left) < 0.5 * np.std(noise)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1)
    # Points of one side do not move along the normals of the next.
    assert ((turned * normals).sum(1) > 1 - 1e-9).all()


def test_a_low_thing_is_gripped_on_a_table_of_noisy_points():
    points, normals, members = joined(box((0.1, 0.04, 0.025)), table(hole=(0.1, 0.04)))
    rng = np.random.default_rng(3)
    points += rng.normal(0, 0.002, len(points))[:, None] * normals
    result = plan(points, normals, members)
    assert result.grasps
    best = result.grasps[0].T_world_grasp
    assert 0 < best[2, 3] < 0.025 and abs(best[1, 1]) > np.cos(np.radians(20))


def test_the_rim_of_what_goes_on_below_is_no_edge():
    """Of a box wider than the gripper: one finger beside it and one above it hold nothing."""
    points, normals, members = joined(box((0.15, 0.12, 0.1)), table(hole=(0.15, 0.12)))
    assert not plan(points, normals, members, samples=4000).grasps
