# SPDX-License-Identifier: Apache-2.0
"""Where a base stands before a thing on a table, in a room made by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from rooms import MUG, box, in_corner, index_of, known_space, mug_hit, screen, wall_between

from lerf_ros.config.robot import RobotConfig
from lerf_ros.errors import ConfigError
from lerf_ros.robot import stand_off as module
from lerf_ros.robot.floor import floor_height
from lerf_ros.robot.stand_off import box_outline, outline_distance


def base_at(x, y):
    T = np.eye(4)
    T[:2, 3] = x, y
    return T


def test_the_floor_is_the_ground_and_not_the_table():
    floor = known_space().floor
    assert floor.height == pytest.approx(0.0, abs=0.01)
    at, inside = floor.cells(np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [9.0, 0.0, 0.0]]))
    assert inside.tolist() == [True, True, False]
    assert floor.occupied[tuple(at[0])] and floor.free[tuple(at[1])]


@pytest.mark.parametrize(('place', 'side'), [((1.6, 0.0), 0), ((0.0, -1.6), 1), ((-1.6, 0.2), 0)])
def test_it_stands_on_the_side_of_the_robot_and_looks_at_the_thing(place, side):
    found = known_space().stand_off(mug_hit(), base_at(*place))
    T = found.T_world_base
    assert found.reason == '' and found.doubt == ''
    assert T[:3, 3][side] * place[side] > 0 and T[2, 3] == pytest.approx(0.0, abs=0.01)
    forward = np.array(MUG[0][:2]) - T[:2, 3]
    assert T[:2, 0] == pytest.approx(forward / np.linalg.norm(forward))
    # Half of the table is 0.4 m; a base of 0.3 m and its clearance keep off it.
    assert np.abs(T[:2, 3]).max() >= 0.4 + 0.35 - 0.05
    assert 0.5 <= found.distance <= 1.0 and 0 < found.way < 1.3
    assert found.distance == pytest.approx(
        outline_distance(T[None, :2, 3], box_outline(mug_hit()))[0])


def test_a_place_without_room_is_refused_in_numbers():
    found = known_space(radius=1.2).stand_off(mug_hit())
    assert found.T_world_base is None
    assert 'no room for a base of radius 1.2 m within 1 m of it' in found.reason
    assert '% of the floor there is free' in found.reason


def test_it_does_not_stand_where_the_way_is_blocked():
    # A wall divides the room: the side of the robot is the one it can reach.
    space = known_space(extra=wall_between())
    found = space.stand_off(mug_hit(), base_at(-1.6, 0.0))
    assert found.T_world_base[0, 3] < 0 and np.isfinite(found.way)
    behind = in_corner()        # a thing that only the other side can reach
    far = space.stand_off(behind, base_at(-1.6, 0.0))
    assert far.T_world_base[0, 3] > 0 and far.doubt == module.UNSURE_WAY and math.isnan(far.way)


def test_a_thing_behind_a_screen_is_seen_from_nowhere():
    found = known_space(extra=screen()).stand_off(mug_hit())
    assert found.T_world_base is None and 'sees it from none of them' in found.reason


def test_what_a_map_cannot_know_is_said():
    assert known_space(metric=False).stand_off(mug_hit()).reason == module.NOT_METRIC
    assert known_space(with_floor=False).stand_off(mug_hit()).reason == module.NO_FLOOR
    found = known_space().stand_off(mug_hit(), base_at(30.0, 0.0))
    assert found.T_world_base is not None and found.doubt == module.UNSURE_START


def test_a_floor_that_nobody_saw_is_no_place_to_stand():
    found = known_space(seen=False).stand_off(mug_hit())
    assert found.T_world_base is None and 'look at the floor around it' in found.reason


def test_a_floor_that_begins_half_a_base_before_the_cameras_lies_under_them():
    # The floor is a square of 2 m; all cameras but four are 1.2 m from its middle, off it.
    floor = box((0.0, 0.0, 0.0), (2.0, 2.0, 0.0), 0.06)
    index, cameras = index_of([floor, floor + [0.0, 0.0, 0.74]]), np.zeros((8, 3))
    cameras[:, 0], cameras[:, 2] = (1.2,) * 7 + (0.0,), 1.3
    # A robot with its camera elsewhere, whose base would, or would not, stand on it in part.
    far, near = (RobotConfig(base_radius=r, camera_height=1.0) for r in (0.15, 0.25))
    assert floor_height(index, cameras, far) is None
    assert floor_height(index, cameras, near) == pytest.approx(0.0, abs=0.01)
    # The cameras are where that of the robot is.
    own = RobotConfig(base_radius=0.15, camera_height=1.25)
    assert floor_height(index, cameras, own) == pytest.approx(0.0, abs=0.01)
    # A low table that somebody went round who held the camera so high above it is no floor.
    cameras[-1, 0] = 1.2
    assert floor_height(index, cameras, own) is None


def test_where_the_robot_itself_drove_its_base_has_room():
    # Nobody saw the floor; a robot whose camera is at 1.3 m drove 2.4 m along y = -1.2.
    space = known_space(seen=False)
    cameras = np.tile(np.eye(4), (5, 1, 1))
    cameras[:, :3, 3] = [(x, -1.2, 1.3) for x in (-1.2, -0.6, 0.0, 0.6, 1.2)]
    for height, width in ((1.3, 0.7), (1.0, 0.5)):      # another height: somebody carried it
        config = RobotConfig(camera_height=height)
        floor = replace(space, T_world_cameras=cameras, config=config).floor
        column = floor.free[int((0.0 - floor.corner[0]) / floor.cell)]
        assert column.sum() * floor.cell == pytest.approx(width, abs=2.1 * floor.cell)
        # From one end to the other only where it drove.
        ways = floor.ways(floor.fits(0.35), np.array([-1.2, -1.2]), 0.3)
        assert (ways is not None) == (height == 1.3)
        if ways is not None:
            at, _ = floor.cells(np.array([[1.2, -1.2]]))
            assert ways[tuple(at[0])] == pytest.approx(2.4, abs=0.1)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match='stand_reach'):
        RobotConfig(stand_off=0.9, stand_reach=0.5)
    with pytest.raises(ConfigError, match='step_height'):
        RobotConfig(step_height=0.5, base_height=0.4)
