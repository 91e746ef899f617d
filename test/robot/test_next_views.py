# SPDX-License-Identifier: Apache-2.0
"""Looks at what a map has not seen, in a room of which one side was not seen."""

from dataclasses import replace

import numpy as np
import pytest
from rooms import CAMERA, RADIUS, known_space, wall_between

from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.geometry.region import Region
from lerf_ros.index.resolution import Resolution
from lerf_ros.robot import next_views as module
from lerf_ros.robot.sight import SightLines
from lerf_ros.robot.stand_off import NOT_METRIC


def region(x, size=1.0):
    T = np.eye(4)
    T[:3, 3] = x, 0.0, 0.6
    return Region(T, np.full(3, size))


def test_what_counts_as_unseen_is_what_observed_misses():
    coverage = known_space(unseen_side=True).coverage
    assert coverage.observed(region(-1.5)) == 1.0 and len(coverage.unseen(region(-1.5))) == 0
    assert coverage.observed(region(1.8)) < 0.6
    missing = coverage.unseen(region(1.8))
    voxel = 4 * RADIUS / len(coverage.free)
    assert len(missing) > 3 and (np.abs(missing - (1.8, 0.0, 0.6)) <= 0.5 + voxel).all()


def test_the_first_view_shows_most_of_the_unseen_side():
    space = known_space(unseen_side=True)
    found = space.next_views(region(1.8))
    assert found.reason == '' and 0 < len(found.views) <= space.config.views
    first = found.views[0]
    assert first.gain > 0.5 and first.reachable is True
    assert first.gain == max(view.gain for view in found.views)
    assert sum(view.gain for view in found.views) <= 1 + 1e-9
    # The middle of what it shows is in its picture, in front of it.
    local = transform_points(invert_pose(first.T_world_camera), first.target[None])
    pixel = CAMERA.project(local)[0]
    assert local[0, 2] > 0 and (pixel > 0).all() and (pixel < (CAMERA.width, CAMERA.height)).all()
    R = first.T_world_camera[:3, :3]
    assert np.allclose(R.T @ R, np.eye(3)) and np.linalg.det(R) == pytest.approx(1)
    assert R[2, 1] < 0 and R[2, 0] == 0        # upright, with a level horizon


def test_views_stand_where_a_base_has_room():
    space = known_space(unseen_side=True)
    fits = space.floor.fits(0.35)
    for view in space.next_views(region(1.8)).views:
        at, _ = space.floor.cells(view.T_world_camera[None, :3, 3])
        assert fits[tuple(at[0])]
        assert view.T_world_camera[2, 3] == pytest.approx(1.2, abs=0.01)


def test_which_views_can_be_reached_is_known():
    space = known_space(unseen_side=True, extra=wall_between(2.0, -0.6))
    for x, reachable in ((-1.6, False), (0.1, True)):
        T_world_base = np.eye(4)
        T_world_base[:2, 3] = x, 1.2
        views = space.next_views(region(1.8), T_world_base).views
        assert views and {view.reachable for view in views} == {reachable}


def test_views_that_cannot_be_reached_come_last_however_much_they_show():
    space = known_space(unseen_side=True)
    missing = module.Missing(np.array([[1.5, y, 0.5] for y in np.linspace(-0.5, 0.5, 9)]
                                      + [[-1.5, 0.0, 0.5]]), np.full(10, 3.0))
    places = module.Places(np.array([[0.0, 0.0, 1.2], [-2.4, 1.5, 1.2]]), np.array([False, True]),
                           True)
    sight = SightLines(np.zeros((0, 3)), 0.08)
    views = module.next_views(missing, places, sight, CAMERA,
                              replace(space.config, view_range=3.0)).views
    assert [view.reachable for view in views][:2] == [True, False]
    assert views[0].gain < views[1].gain


def test_without_a_floor_a_look_is_taken_from_space_that_was_seen():
    space = known_space(unseen_side=True, with_floor=False)
    found = space.next_views(region(1.8))
    assert found.views and {view.reachable for view in found.views} == {None}
    eyes = np.array([view.T_world_camera[:3, 3] for view in found.views])
    assert space.coverage.seen_through(eyes).all()


def test_what_is_too_coarse_is_looked_at_from_close_by():
    space = known_space()
    places = np.array([[0.3, 0.3, 0.76], [-0.3, 0.3, 0.76]], np.float32)
    space = replace(space, resolution=Resolution(places, np.array([0.5, 0.001], np.float32),
                                                 np.zeros(3)))
    found = space.next_views(region(0.0))
    assert found.missing == 1 and found.views[0].gain == 1.0
    assert np.linalg.norm(found.views[0].T_world_camera[:3, 3] - places[0]) <= 0.4 * 3.0


def test_why_there_is_nothing_to_look_at_is_said():
    space = known_space()
    assert space.next_views(region(-1.5)).reason == module.NOTHING_MISSING
    assert replace(space, coverage=None).next_views().reason == module.NO_COVERAGE
    assert replace(space, metric=False).next_views().reason == NOT_METRIC
    blind = known_space(seen=False, with_floor=False).next_views(region(1.8))
    assert blind.views == () and module.NO_PLACE in blind.reason and blind.missing > 0
