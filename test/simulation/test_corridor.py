# SPDX-License-Identifier: Apache-2.0
"""The hall with a row of tables: what stands in it, what the robot sees, what its depth lacks."""

import numpy as np
import pytest

from lerf_ros.errors import LerfError
from lerf_ros.simulation.corridor import (
    LANE,
    SPACING,
    corridor,
    drive_length,
    driving_path,
    hall_size,
)
from lerf_ros.simulation.room import TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import label_names, part_labels
from lerf_ros.simulation.sensor import StereoDepth, sensor_camera


def test_twelve_tables_hold_all_kinds_and_four_hold_nine_each():
    for tables, each in ((12, 3), (4, 9)):
        scene = corridor(0, tables)
        assert len({thing.query for thing in scene.objects}) == tables * each == 36
        for k, thing in enumerate(scene.objects):
            middle = np.array([SPACING * (k // each), 0.0])
            assert thing.box_min[2] == pytest.approx(TABLE_HEIGHT)
            assert (np.abs([thing.box_min[:2] - middle, thing.box_max[:2] - middle])
                    <= np.asarray(TABLE_SIZE) / 2).all(), thing.name


def test_a_seed_draws_the_same_hall_again_and_another_seed_another():
    one, again, other = (np.concatenate([thing.box_min for thing in corridor(seed, 3).objects])
                         for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_more_tables_than_kinds_are_refused():
    with pytest.raises(LerfError, match='37 tables: 1 to 36'):
        corridor(0, 37)


def test_each_part_has_the_name_of_what_it_is():
    scene = corridor(0, 2)
    names, labels = label_names(scene), part_labels(scene)
    assert names[len(scene.objects):] == ('floor', 'wall', 'table')
    in_room = [names[label] for label in labels[len(labels) - len(scene.room):]]
    assert in_room == ['floor', 'wall', 'table', 'table', 'table', 'table']


def test_the_robot_drives_along_both_sides_without_a_jump():
    path, length = driving_path(0, 3), drive_length(3)
    ways = np.arange(0, length, 0.05)
    eyes = np.stack([path(way)[:3, 3] for way in ways])
    assert np.linalg.norm(np.diff(eyes, axis=0), axis=1) == pytest.approx(0.05, abs=1e-3)
    assert eyes[0] == pytest.approx([0, -LANE, 1.35])
    assert path(length)[:3, 3] == pytest.approx([0, LANE, 1.35])
    assert eyes[:, 0].max() == pytest.approx(2 * SPACING + LANE, abs=0.01)
    assert np.abs(eyes[:, 1]).max() < hall_size(3)[1] / 2
    # Its head looks down at the row, wherever it is.
    assert all(path(way)[2, 2] < -0.25 for way in ways)


def test_stereo_depth_is_less_exact_far_away_and_ends_beside_edges():
    true = np.full((40, 60), 4.0)
    true[:, :30] = 1.0          # a thing before a wall
    true[0] = 9.0               # out of reach
    measured = StereoDepth().measure(true, np.random.default_rng(0))
    assert not measured[0].any() and not measured[1:, 30].any()
    near, far = measured[1:, :30] - 1.0, measured[1:, 31:] - 4.0
    assert near.std() == pytest.approx(0.0015, rel=0.1)
    assert far.std() == pytest.approx(16 * 0.0015, rel=0.1)


def test_the_renderer_sees_tables_objects_and_the_hall():
    pytest.importorskip('open3d', reason='the simulated camera needs open3d')
    from lerf_ros.simulation.renderer import SceneRenderer
    scene, path = corridor(3, 2), driving_path(3, 2)
    renderer = SceneRenderer(scene)
    views = [renderer.render(sensor_camera(80, 60), path(way))
             for way in np.linspace(0, drive_length(2), 12)]
    shown = np.unique(np.concatenate([view.labels.ravel() for view in views]))
    assert list(shown) == list(range(len(label_names(scene))))      # all objects, and the hall
    assert all(40 < view.image.mean() < 215 for view in views)      # neither dark nor blown out
