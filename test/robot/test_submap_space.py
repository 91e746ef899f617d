# SPDX-License-Identifier: Apache-2.0
"""Stand-off poses, next views and things of a map of submaps, as of one room."""

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import CUBES, WordEncoder, cube_index, write_map
from rooms import MUG, known_space, mug_hit

from lerf_ros.agents.tools import MapTools
from lerf_ros.cli import main
from lerf_ros.commands.train import check_submaps
from lerf_ros.config.robot import RobotConfig
from lerf_ros.errors import ConfigError
from lerf_ros.geometry.rigid import rigid_transform
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.query.answer import transform_hit
from lerf_ros.query.mapped_space import MappedSpace, joined_space
from lerf_ros.robot.known_space import KnownSpace
from lerf_ros.storage.merged_maps import merge_maps
from lerf_ros.storage.submaps import SubmapPlace, SubmapSet
from lerf_ros.submap_query import SubmapQuery

# Beside the room of rooms.py lies another one like it, turned by a quarter: 4 m from middle to
# middle, so that their cubes of 2 m meet and their floors overlap by 1 m.
T_BESIDE = rigid_transform([4.0, 0.0, 0.0, 0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
CUBE = SubmapLattice((0.0, 0.0, 0.0), 2.0, 0.25)


def mapped(room):
    """The same as a map tells it."""
    return MappedSpace(room.index, room.coverage, room.resolution, room.T_world_cameras,
                       room.camera, room.query, room.metric)


def two_rooms(**settings):
    one = known_space(**settings)
    cubes = replace(SubmapSet.begin(CUBE), places=(
        SubmapPlace((0, 0, 0)), SubmapPlace((0, 0, 0), T_BESIDE)))
    joined = joined_space(cubes, {0: mapped(one), 1: mapped(one)}, np.array([2.0, 0.0, 0.0]))
    return KnownSpace.on(joined, one.config)


def test_floors_of_two_submaps_are_one_and_tables_two():
    space = two_rooms()
    assert space.floor.height == pytest.approx(0.0, abs=0.01)
    at, inside = space.floor.cells(np.array([[2.0, 1.2, 0.0], [4.0, 0.0, 0.0], [5.5, 0.5, 0.0]]))
    assert inside.all()
    assert [bool(space.floor.free[tuple(k)]) for k in at] == [True, False, True]
    index = space.index
    # The thing at x = 2.2 lies in the cube of the other room, which shows none there.
    assert len(index.planes) == 3 and np.unique(index.segments).tolist() == [0, 1, 2, 3, 5, 6]
    beside = index.points_world[index.segments == 2].mean(0)        # the table of the other room
    np.testing.assert_allclose(beside, [4.0, 0.0, 0.74], atol=0.02)


def test_a_base_drives_from_one_submap_to_a_thing_in_the_other():
    base = np.eye(4)
    base[:3, 3] = 0.0, -1.5, 0.0
    hit = transform_hit(mug_hit(), T_BESIDE)
    np.testing.assert_allclose(hit.position, [4.0, 0.1, MUG[0][2]], atol=1e-9)
    found = two_rooms().stand_off(hit, base)
    assert found.reason == '' and found.doubt == ''
    off = found.T_world_base[:2, 3] - [4.0, 0.0]
    assert 0.7 <= np.abs(off).max() <= 1.6 and 2.0 < found.way < 6.0


def test_next_views_look_at_what_one_of_the_submaps_did_not_see():
    """The other room was not seen beyond x = 1 in its frame, which is beyond y = 1 in the map."""
    all_seen, half = known_space(), known_space(unseen_side=True)
    cubes = replace(SubmapSet.begin(CUBE), places=(
        SubmapPlace((0, 0, 0)), SubmapPlace((0, 0, 0), T_BESIDE)))
    joined = joined_space(cubes, {0: mapped(all_seen), 1: mapped(half)},
                          np.array([2.0, 0.0, 0.0]))
    unseen = joined.coverage.unseen()
    unseen = unseen[unseen[:, 2] > 0.1]         # above the floor
    assert len(unseen) and np.mean(unseen[:, 0] > 2.0) > 0.9
    assert np.mean(unseen[unseen[:, 0] > 2.0][:, 1] > 0.8) > 0.9
    views = KnownSpace.on(joined, all_seen.config).next_views().views
    assert views and views[0].target[0] > 2.0 and views[0].target[1] > 0.8


@pytest.fixture(scope='module')
def merged(tmp_path_factory):
    """A mug, a plate and a ball; the plate is in both of the maps that were merged."""
    folder = tmp_path_factory.mktemp('maps')
    a = write_map(folder / 'a', cube_index({k: CUBES[k] for k in ('mug', 'plate')}))
    b = write_map(folder / 'b', cube_index({k: CUBES[k] for k in ('plate', 'ball')}))
    merge_maps(a, b, np.eye(4), folder / 'c')
    return folder / 'c'


def test_each_thing_of_overlapping_submaps_is_listed_once(merged):
    query = SubmapQuery(merged, encoder=WordEncoder())
    query.refresh()
    items = query.inventory(list(CUBES))
    things = {item.hit.label: item.hit.position for item in items if not item.surface}
    assert len(items) == 4 and sum(item.surface for item in items) == 1
    assert len({item.segment for item in items}) == 4
    for word, (center, _) in CUBES.items():
        np.testing.assert_allclose(things[word], center, atol=5e-3)


def test_agents_ask_submaps_as_they_ask_one_map(merged):
    query = SubmapQuery(merged, encoder=WordEncoder())
    tools = MapTools(query, RobotConfig())
    assert tools.inventory(list(CUBES))['things'] == 3
    told = tools.query('ball')
    assert told['hits'][0]['position'] == [0.0, 0.5, 0.03]
    assert told['stand_off']['possible'] is False       # no floor lies under its only camera
    assert tools.next_views()['reason']
    around = np.zeros(3)
    assert query.mapped_space(around) is query.mapped_space(around)


def test_the_surface_of_submaps_is_exported_as_one(merged, tmp_path, capsys):
    assert main(['export', str(merged), '--out', str(tmp_path / 'out')]) == 0
    said = capsys.readouterr().out
    query = SubmapQuery(merged, encoder=WordEncoder())
    query.refresh()
    count = len(query.surface()[0])
    assert f'{count} points in metres' in said and '2 submaps' in said
    assert f'element vertex {count}' in (tmp_path / 'out' / 'map.ply').read_bytes()[:200].decode()


def test_what_takes_one_frame_says_so_at_the_door(merged, tmp_path, capsys):
    assert main(['calibrate', '--simulated', '1', '--map', str(merged)]) == 2
    assert 'works on a map of one frame: name one of them, such as' in capsys.readouterr().err
    assert main(['export', str(merged), '--format', 'openlex3d', '--out', str(tmp_path)]) == 2
    assert 'works on a map of one frame' in capsys.readouterr().err


@pytest.mark.parametrize(('time_s', 'count', 'words'), [
    (60.0, 1, 'give --steps instead of --time'), (None, 2, 'torchrun trains one scene frame')])
def test_training_by_time_or_in_a_group_refuses_submaps(monkeypatch, time_s, count, words):
    monkeypatch.setattr('lerf_ros.training.devices.processes', lambda: count)
    with pytest.raises(ConfigError, match=words):
        check_submaps(Namespace(time=time_s, workers=0, ray=''), submaps=True)
    check_submaps(Namespace(time=time_s, workers=0, ray=''), submaps=False)
