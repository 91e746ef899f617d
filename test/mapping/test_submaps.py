# SPDX-License-Identifier: Apache-2.0
"""Space is divided into submaps; they open, close, come back, and answer as one map."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_end_to_end import SMALL
from tiny_world import CUBES, ColorEncoder, orbit, photograph

from lerf_ros.errors import (
    ConfigError,
    ForeignFolderError,
    MapUnreadableError,
    StorageError,
)
from lerf_ros.frames.frame import Keyframe
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.loaded_submaps import unsettled
from lerf_ros.mapping.cube_map import seen_in
from lerf_ros.mapping.reindex import reindex_submaps
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.query.answer import Hit, Presence
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.submap_answers import joined, numbers_among
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.submap_query import SubmapQuery

LATTICE = SubmapLattice((1.0, 0.0, 0.0), 1.2, 0.25)      # middles 1.8 apart
APART = 4.0                                              # metres from one place to the other
HERE = [photograph(T, i) for i, T in enumerate(orbit(10))]


def line(low, high, count=101):
    """Points (N, 3) along x."""
    return np.linspace([low, 0, 0], [high, 0, 0], count)


def there(frames):
    """The same cubes and cameras at another place of the world."""
    T = np.eye(4)
    T[0, 3] = APART
    return [replace(frame, T_world_camera=T @ frame.T_world_camera, stamp_ns=frame.stamp_ns + 100)
            for frame in frames]


def mapper_on(folder, **settings):
    config = SMALL.override({f'submaps.{name}': value for name, value in settings.items()})
    return SubmapMapper(config, folder, ColorEncoder(), 'map', True)


def test_points_of_a_submap_have_the_numbers_of_all_hits_together():
    near, far = (Hit(np.array([x, 0.0, 0.0]), np.eye(3), np.ones(3) * 0.1, 0.9, 0.1, 50, 9, 'mug')
                 for x in (0.0, 1.0))
    # It knows the far hit as its first, and one that is no hit of all together.
    other = replace(near, label='cup')
    own = SimpleNamespace(hits=(far, other), hit_numbers=np.array([0, 1, 2, 1], np.uint32))
    assert numbers_among(own, (near, far)).tolist() == [0, 2, 0, 2]


def test_neighbours_overlap_by_a_quarter_of_their_edge():
    here, beside = LATTICE.scene((0, 0, 0)), LATTICE.scene((1, 0, 0))
    assert (here.center, here.radius) == ((1.0, 0.0, 0.0), 1.2)
    assert beside.center == (2.8, 0.0, 0.0)
    both = (submaps((0, 0, 0), (1, 0, 0)).depths(line(-0.4, 4.2, 461)) <= 1.0).all(0)
    assert both.sum() * 0.01 == pytest.approx(0.6, abs=0.02)        # 2.2 - 1.6


def submaps(*cells):
    made = SubmapSet.begin(LATTICE)
    for cell in cells:
        made = made.with_cell(cell)
    return made


@pytest.mark.parametrize('there, seen, learning, cells', [
    ([], line(0.5, 1.5), [0], [(0, 0, 0)]),
    ([(0, 0, 0)], line(1.2, 2.4), [0], [(0, 0, 0)]),                    # a sixth beyond 2.2
    ([(0, 0, 0)], line(1.6, 2.8), [1], [(0, 0, 0), (1, 0, 0)]),         # a half
    ([(0, 0, 0), (1, 0, 0)], line(1.6, 2.8), [1], [(0, 0, 0), (1, 0, 0)])])
def test_a_submap_is_opened_when_what_is_seen_leaves_those_that_are_there(
        tmp_path, there, seen, learning, cells):
    mapper = mapper_on(tmp_path / 'new')
    mapper.submaps = submaps(*there)
    assert mapper._learning(mapper.submaps, seen) == learning
    assert mapper.submaps.cells == cells


def test_a_submap_learns_the_pixels_that_show_its_cube():
    frame = photograph(orbit(1)[0])     # from x = 1.1, z = 0.7, at the origin
    whole = seen_in(SceneFrame((0.0, 0.0, 0.0), 50.0), frame)
    near = seen_in(SceneFrame((0.0, 0.0, 0.0), 0.5), frame)
    behind = seen_in(SceneFrame((3.0, 0.0, 0.0), 0.5), frame)
    assert whole.all() and not behind.any()
    assert near[36, 48] and not near[0].any() and 0.2 < near.mean() < 0.9
    holes = np.where(np.indices(near.shape)[0] == 36, 0.0, frame.depth_m).astype(np.float32)
    assert seen_in(SceneFrame((0.0, 0.0, 0.0), 0.5), replace(frame, depth_m=holes))[36, 48]


def test_the_folder_says_which_cubes_there_are_and_where(tmp_path):
    folder, made = SubmapFolder(tmp_path / 'building'), submaps((0, 0, 0), (1, 0, -2))
    assert folder.read() is None
    T = np.eye(4)
    T[:3, 3] = 1.0, 2.0, 3.0
    folder.write(made.moved([np.eye(4), T]))
    read = folder.read()
    assert (read.lattice, read.cells, read.id) == (LATTICE, [(0, 0, 0), (1, 0, -2)], made.id)
    assert np.array_equal(read.T_map_submap(1), T) and np.array_equal(
        read.undone().T_map_submap(1), np.eye(4))
    assert read.middle(1) == pytest.approx([1.0 + 1.8 + 1.0, 2.0, -3.6 + 3.0])
    (tmp_path / 'building' / 'submaps.json').write_text('{"format": 2')
    with pytest.raises(MapUnreadableError, match='submaps.json cannot be read'):
        folder.read()


def test_a_submap_that_is_missing_moves_no_keyframe_of_another(tmp_path):
    """transforms.json places each keyframe by its own submap."""
    folder = SubmapFolder(tmp_path / 'map', metric=True)
    T = np.eye(4)
    T[:3, 3] = 5.0, 0.0, 0.0
    folder.write(submaps((0, 0, 0), (2, 0, 0)).moved([T, np.eye(4)]))
    directory = folder.directory(1)         # the first has gone
    directory.create({'frame_id': 'map', 'metric': True})
    directory.keyframes.add(Keyframe(7, HERE[0]))
    folder.write_transforms()
    (frame,) = json.loads((tmp_path / 'map' / 'transforms.json').read_text())['frames']
    assert frame['file_path'].startswith('submaps/0001/')
    np.testing.assert_allclose(np.array(frame['transform_matrix'])[:3, 3],
                               HERE[0].T_world_camera[:3, 3], atol=1e-9)


def test_a_full_disk_keeps_a_submap_in_memory_and_loses_no_keyframe(tmp_path, monkeypatch):
    mapper = mapper_on(tmp_path / 'map', most_active=1)
    mapper.learn([HERE[0]], steps=1)
    mapper.train_for(math.inf, mapper.steps + 1)

    def full(_):
        raise StorageError('no space is left')
    monkeypatch.setattr(SingleMap, 'snapshot', full)
    assert mapper.store(there(HERE)[0])
    assert list(mapper.active) == [0, 1] and mapper.stored == 2
    monkeypatch.undo()
    assert mapper.store(there(HERE)[1])
    assert list(mapper.active) == [1] and mapper.stored == 3


def test_nothing_foreign_becomes_or_goes_with_a_folder_of_submaps(tmp_path):
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'chapter.tex').write_text('mine')
    with pytest.raises(ForeignFolderError, match='chapter.tex'):
        mapper_on(tmp_path / 'thesis')
    mapper = mapper_on(tmp_path / 'map')
    mapper.learn([HERE[0]], steps=1)
    mine = [tmp_path / 'map' / 'notes.txt', mapper.folder.path_of(0) / 'images' / 'mine.png']
    for file in mine:
        file.write_text('mine')
    assert mapper.folder.strangers() == mine
    mapper.clear()
    assert [file.read_text() for file in mine] == ['mine', 'mine']
    assert mapper.folder.read().cells == [] and not mapper.folder.path_of(0).joinpath(
        'meta.json').exists()


@pytest.fixture(scope='module')
def building(tmp_path_factory):
    """Two places, mapped one after the other by a mapper that keeps one submap in memory."""
    folder = tmp_path_factory.mktemp('building')
    mapper = mapper_on(folder, most_active=1)
    mapper.learn([*HERE, *there(HERE)], steps=25)
    return folder, mapper


def test_each_place_has_a_submap_and_each_keyframe_is_in_one(building):
    folder, mapper = building
    assert mapper.count == 2 and len(mapper.active) == 1 and mapper.stored == 20
    for number, frames in enumerate((HERE, there(HERE))):
        files = MapDirectory(mapper.folder.path_of(number)).keyframes
        assert files.indices() == list(range(10 * number, 10 * number + 10))
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
    # 250 steps are too few to say that something is not there.
    assert missing.presence == Presence.NOT_OBSERVED and len(missing.phrases) == 1
    assert '2 of 2 submaps still learn' in missing.too_coarse
    assert len(missing.points_world) == len(missing.relevancy) == len(missing.colors)


def test_a_closed_submap_goes_on_where_it_stopped(building, tmp_path):
    folder = building[0]
    folder = shutil.copytree(folder, tmp_path / 'copy')
    again = mapper_on(folder, most_active=1)        # as after kill -9: nothing in memory
    again.restore()
    again.add_frame(replace(HERE[0], stamp_ns=999))
    mapper, = again.active.values()
    assert mapper.steps == pytest.approx(250, abs=10) and len(mapper.learned) == 11
    assert mapper.directory.path == again.folder.path_of(0)


def test_the_index_of_each_submap_is_built_anew_as_it_was(building, tmp_path):
    """Keyframes show a cube only in part, which is so when the index is built anew as well."""
    folder = SubmapFolder(shutil.copytree(building[0], tmp_path / 'copy'))
    before = [folder.directory(k).newest() for k in range(2)]
    assert reindex_submaps(folder, encoder=ColorEncoder()) == 2
    for k, old in enumerate(before):
        after = folder.directory(k).newest()
        assert after.number == old.number + 1
        assert after.info['points'] == pytest.approx(old.info['points'], rel=0.02)


def test_a_folder_of_other_cubes_is_refused(building):
    with pytest.raises(ConfigError, match='submaps of radius 1.5'):
        mapper_on(building[0], radius=2.0)


def test_an_image_without_depth_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='need depth'):
        mapper_on(tmp_path / 'new').add_frame(replace(HERE[0], depth_m=None))
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('steps, settled, said', [
    (300, True, ''), (299, True, '1 of 1 submaps still learn'), (900, False, '1 of 1 submaps')])
def test_nothing_is_absent_from_a_submap_that_still_learns(steps, settled, said):
    snapshot = SimpleNamespace(stored=SMALL, info={'steps': steps, 'settled': settled})
    assert SMALL.training.language_decay_steps == 300
    assert unsettled([snapshot]).startswith(said) and bool(unsettled([snapshot])) == bool(said)


def request(text):
    return QueryRequest(text, plan_grasps=False)


def test_what_two_submaps_found_at_one_place_is_one_hit():
    def hit(x, relevancy):
        return Hit(np.array([x, 0.0, 0.0]), np.eye(3), np.full(3, 0.2), relevancy, 0.1, 50, 9)

    def part(depth):
        return SimpleNamespace(depth=lambda of: depth)
    found = [(part(0.9), hit(0.05, 0.9)), (part(0.2), hit(0.0, 0.8)), (part(0.5), hit(0.3, 0.7))]
    hits = joined(found, 5)
    assert [(h.position[0], h.relevancy) for h in hits] == [(0.0, 0.9), (0.3, 0.7)]
    assert [h.position[0] for h in joined(found, 1)] == [0.0]
    outside = [found[0], (part(1.1), hit(0.0, 0.8))]    # its cube has the place not inside
    assert [h.position[0] for h in joined(outside, 5)] == [0.05]
