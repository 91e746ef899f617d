# SPDX-License-Identifier: Apache-2.0
"""RViz's view shows the map at hand: its points lie inside of what the camera of the view sees."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hand_made_map import write_map
from seen_by_rviz import seen

from lerf_ros.errors import ForeignFolderError, NoSnapshotError
from lerf_ros.show.rviz_view import (
    DEMO,
    View,
    configuration,
    map_view,
    write_configuration,
)
from lerf_ros.simulation.scene import TabletopScene

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(('center', 'size'), [((0, 0, 0), 1.0), ((120.0, -40.0, 3.0), 20.0),
                                              ((0.4, 0.2, -1.0), 0.05)])
def test_a_map_is_in_view_wherever_it_lies_and_however_large_it_is(center, size):
    points = np.array(center) + size * np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 3))
    view = View.of(points)
    assert seen(view, points).all()
    # And it fills the window: half as far away it would not fit.
    near = View(view.focus, view.distance / 2, view.spacing)
    assert not seen(near, points).all()


def test_a_background_far_away_does_not_move_the_view_from_the_things():
    """As on the demo's table: a third of the points are walls and floor of the room around it."""
    rng = np.random.default_rng(0)
    table = rng.uniform([-0.6, -0.6, 0.7], [0.6, 0.6, 0.9], (2000, 3))
    walls = rng.uniform(-1, 1, (1000, 3)) * (4.0, 4.0, 2.0) + (0.0, 0.0, 1.0)
    view = View.of(np.concatenate([table, walls]))
    assert seen(view, table).all() and view.distance < 5.0
    assert View.of(walls).distance > 9.0


def test_squares_leave_no_gaps():
    grid = np.stack(np.meshgrid(*[np.arange(20) * 0.02] * 2, [0.0]), -1).reshape(-1, 3)
    assert View.of(grid).spacing == pytest.approx(0.02)
    for display in configuration(View.of(grid))['Visualization Manager']['Displays']:
        if display['Class'].endswith('PointCloud2'):
            assert display['Size (m)'] == pytest.approx(0.024)


def test_the_shipped_view_shows_every_thing_on_the_table_of_the_demo():
    corners = np.concatenate([np.array([t.box_min, t.box_max]) for seed in range(3)
                              for t in TabletopScene.generate(seed).objects])
    assert seen(DEMO, corners).all()
    assert seen(DEMO, np.zeros((1, 3))).all()       # and the floor below it


def test_the_shipped_file_is_that_configuration():
    shipped = yaml.safe_load((ROOT / 'rviz' / 'lerf.rviz').read_text())
    assert shipped == configuration(DEMO), 'write it again: show/rviz_view.py'


def test_the_view_of_a_map_directory(tmp_path):
    with pytest.raises(NoSnapshotError, match='no snapshot yet'):
        map_view(tmp_path / 'none')
    view, frame_id = map_view(write_map(tmp_path / 'map'))
    assert frame_id == 'map' and view.focus[2] < 0.1
    write_configuration(tmp_path / 'a' / 'view.rviz', view, 'odom', '/robot_a')
    manager = yaml.safe_load((tmp_path / 'a' / 'view.rviz').read_text())['Visualization Manager']
    topics = {d['Topic']['Value'] for d in manager['Displays'] if 'Topic' in d}
    assert {'/robot_a/lerf/map', '/robot_a/lerf/markers'} <= topics
    assert manager['Global Options']['Fixed Frame'] == 'odom'
    assert manager['Views']['Current']['Distance'] == view.distance


def test_a_configuration_that_somebody_has_changed_stays(tmp_path):
    file = tmp_path / 'views' / 'lerf.rviz'
    write_configuration(file, DEMO)
    write_configuration(file, DEMO, 'odom')         # our own is replaced
    file.write_text(file.read_text() + '# mine')
    with pytest.raises(ForeignFolderError, match='was changed since'):
        write_configuration(file, DEMO)
    assert file.read_text().endswith('# mine')
