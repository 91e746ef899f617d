# SPDX-License-Identifier: Apache-2.0
"""Space is divided into submaps; they open, close, come back, and answer as one map."""

from dataclasses import replace

import numpy as np
import pytest
from test_end_to_end import SMALL
from tiny_world import CUBES, ColorEncoder, orbit, photograph

from lerf_ros.config.submaps import SubmapConfig
from lerf_ros.errors import ConfigError, ForeignFolderError, MapUnreadableError
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.query.answer import Hit
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.submaps import SubmapFolder
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.submap_query import SubmapQuery, joined

LATTICE = SubmapLattice((1.0, 0.0, 0.0), 1.2, 0.25)      # middles 1.8 apart
APART = 4.0                                              # metres from one place to the other
HERE = [photograph(T, i) for i, T in enumerate(orbit(10))]


def there(frames):
    """The same cubes and cameras at another place of the world."""
    T = np.eye(4)
    T[0, 3] = APART
    return [replace(frame, T_world_camera=T @ frame.T_world_camera, stamp_ns=frame.stamp_ns + 100)
            for frame in frames]


def mapper_on(folder, **settings):
    return SubmapMapper(SMALL, SubmapConfig(**settings), folder, ColorEncoder(), metric=True)


def line(low, high, count=101):
    """Points (N, 3) along x."""
    return np.linspace([low, 0, 0], [high, 0, 0], count)


def test_neighbours_overlap_by_a_quarter_of_their_edge():
    here, beside = LATTICE.scene((0, 0, 0)), LATTICE.scene((1, 0, 0))
    assert (here.center, here.radius) == ((1.0, 0.0, 0.0), 1.2)
    assert beside.center == (2.8, 0.0, 0.0)
    both = LATTICE.inside([(0, 0, 0), (1, 0, 0)], line(-0.4, 4.2, 461)).all(0)
    assert both.sum() * 0.01 == pytest.approx(0.6, abs=0.02)        # 2.2 - 1.6


def test_a_cube_is_opened_when_what_is_seen_leaves_those_that_are_open():
    cells = [(0, 0, 0)]
    assert LATTICE.next_cell([], line(0.5, 1.5), 0.3) == (0, 0, 0)
    assert LATTICE.next_cell(cells, line(1.2, 2.4), 0.3) is None        # a sixth beyond 2.2
    assert LATTICE.next_cell(cells, line(1.6, 2.8), 0.3) == (1, 0, 0)   # a half
    assert LATTICE.next_cell([*cells, (1, 0, 0)], line(1.6, 2.8), 0.3) is None
    with pytest.raises(ValueError, match='no point'):
        LATTICE.next_cell(cells, np.zeros((0, 3)), 0.3)


def test_the_folder_says_which_cubes_there_are(tmp_path):
    folder = SubmapFolder(tmp_path / 'building')
    assert folder.read() is None
    folder.write(LATTICE, [(0, 0, 0), (1, 0, -2)])
    assert folder.read() == (LATTICE, [(0, 0, 0), (1, 0, -2)])
    (tmp_path / 'building' / 'submaps.json').write_text('{"format": 1')
    with pytest.raises(MapUnreadableError, match='submaps.json cannot be read'):
        folder.read()
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'chapter.tex').write_text('mine')
    with pytest.raises(ForeignFolderError, match='chapter.tex'):
        SubmapFolder(tmp_path / 'thesis').write(LATTICE, [(0, 0, 0)])


@pytest.fixture(scope='module')
def building(tmp_path_factory):
    """Two places, mapped one after the other by a mapper that keeps one submap in memory."""
    folder = tmp_path_factory.mktemp('building')
    mapper = mapper_on(folder, most_active=1)
    mapper.learn([*HERE, *there(HERE)], steps=25)
    return folder, mapper


def test_each_place_has_a_submap_and_each_keyframe_is_in_one(building):
    folder, mapper = building
    assert len(mapper.cells) == 2 and len(mapper.active) == 1
    for number, frames in enumerate((HERE, there(HERE))):
        files = MapDirectory(mapper.folder.path_of(number)).keyframes
        assert [files.pose(i)[0] for i in files.indices()] == [f.stamp_ns for f in frames]


def test_no_submap_is_trained_less_than_another(building):
    folder, mapper = building
    steps = [MapDirectory(mapper.folder.path_of(k)).newest().info['steps'] for k in range(2)]
    assert steps[0] == pytest.approx(250, abs=10) == steps[1]


def test_one_question_goes_to_all_submaps(building):
    query = SubmapQuery(building[0], encoder=ColorEncoder())
    assert query.refresh() and not query.refresh()
    for name, (low, high) in CUBES.items():
        hits = query.ask(request(name)).hits
        middle = (np.array(low) + np.array(high)) / 2
        off = np.array([[np.linalg.norm(hit.position - middle - [shift, 0, 0]) for hit in hits]
                        for shift in (0.0, APART)])
        assert off.min(1).max() < 0.15, (name, off)     # both cubes have a hit,
        # After 250 steps crumbs may lie beside a cube, but nothing lies between the places.
        assert off.min(0).max() < APART / 4, (name, off)
        assert len(query.ask(replace(request(name), max_hits=1)).hits) == 1
    missing = query.ask(request('purple'))
    assert not missing.found and len(missing.phrases) == 1
    assert len(missing.points_world) == len(missing.relevancy) == len(missing.colors)


def test_a_closed_submap_goes_on_where_it_stopped(building, tmp_path):
    folder, _ = building
    again = mapper_on(folder, most_active=1)        # as after kill -9: nothing in memory
    again.add_frame(replace(HERE[0], stamp_ns=999))
    mapper, = again.active.values()
    assert mapper.steps == pytest.approx(250, abs=10) and len(mapper.learned) == 11
    assert mapper.directory.path == again.folder.path_of(0)


def test_a_folder_of_other_cubes_is_refused(building):
    with pytest.raises(ConfigError, match='submaps of radius 1.2'):
        mapper_on(building[0], radius=2.0)


def test_an_image_without_depth_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='need depth'):
        mapper_on(tmp_path / 'new').add_frame(replace(HERE[0], depth_m=None))
    assert not (tmp_path / 'new').exists()


def request(text):
    from lerf_ros.query.request import QueryRequest
    return QueryRequest(text, plan_grasps=False)


def test_what_two_submaps_found_at_one_place_is_one_hit():
    def hit(x, relevancy):
        return Hit(np.array([x, 0.0, 0.0]), np.eye(3), np.full(3, 0.2), relevancy, 0.1, 50, 9)
    hits = joined([(0.9, hit(0.05, 0.9)), (0.2, hit(0.0, 0.8)), (0.5, hit(0.3, 0.7))])
    assert [(h.position[0], h.relevancy) for h in hits] == [(0.0, 0.9), (0.3, 0.7)]
