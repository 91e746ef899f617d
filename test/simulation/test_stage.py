# SPDX-License-Identifier: Apache-2.0
"""What the demo films: each world by its name, how long it lasts, what is asked there."""

from collections import Counter

import numpy as np
import pytest

from lerf_ros.errors import LerfError
from lerf_ros.simulation.driven_world import driven_world
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.stage import TABLE, WORLDS, StopAndGo, one_of_each_group, stage
from lerf_ros.simulation.trajectory import hand_held_path


def test_the_table_is_that_of_the_demo_before():
    on, scene = stage(TABLE, 5, 2, 40.0), TabletopScene.generate(5)
    assert on.asked() == list(dict.fromkeys(thing.query for thing in scene.objects))
    assert on.duration_s == 40.0
    assert np.array_equal(on.path(7.0), hand_held_path(5, scene, 40.0)(7.0))


@pytest.mark.parametrize('world', [world for world in WORLDS if world != TABLE])
def test_a_robot_drives_through_a_world_at_its_speed(world):
    on, whole = stage(world, 1, 2, speed=0.25), driven_world(world, 1, 2, one_of_each_group(1))
    assert on.duration_s == pytest.approx(whole.length / 0.25)
    assert np.array_equal(on.path(8.0), whole.path(2.0))
    assert np.array_equal(on.path(1e6), whole.path(whole.length))       # it waits at the end
    assert on.places_of == whole.places_of and set(on.places_of) == {0, 1}


def test_questions_take_turns_between_the_places():
    on = stage('corridor', 3, 3)
    place = {thing.query: k for thing, k in zip(on.scene.objects, on.places_of, strict=True)}
    assert [place[text] for text in on.asked()[:6]] == [0, 1, 2, 0, 1, 2]
    assert sorted(on.asked()) == sorted(place)


def test_the_encoder_of_the_demo_is_not_asked_to_tell_kinds_of_one_group_apart():
    for seed in range(3):
        groups = Counter(kind.group for kind in one_of_each_group(seed))
        assert set(groups) == {kind.group for kind in CATALOGUE} and set(groups.values()) == {1}
    assert len({thing.group for thing in stage('corridor', 0, 2).scene.objects}) == 18


def test_depth_in_rooms_is_that_of_a_stereo_camera():
    depth, rng = np.full((40, 50), 4.0), np.random.default_rng(0)
    measured = stage('corridor', 0, 1).measured(depth, 0.002, rng)
    assert measured.std() == pytest.approx(0.002 * 16, rel=0.05)
    assert not stage('corridor', 0, 1).measured(depth + 4, 0.002, rng).any()    # out of its reach


def test_a_robot_stops_for_each_picture_however_long_it_takes():
    ride, second = StopAndGo(0.5), 10**9
    assert ride.path_time(7 * second) == 0.0            # it waits for the first picture
    ride.go(10 * second)
    assert ride.path_time(10 * second) == 0.0 and ride.path_time(9 * second) == 0.0
    assert ride.path_time(10 * second + second // 4) == pytest.approx(0.25)
    assert ride.path_time(90 * second) == pytest.approx(0.5)        # and stands again
    ride.go(100 * second)
    assert ride.path_time(99 * second) == pytest.approx(0.5)        # the past stays
    assert ride.path_time(200 * second) == pytest.approx(1.0)


def test_a_world_that_there_is_not_is_refused():
    with pytest.raises(LerfError, match='corridor, apartment'):
        stage('moon', 0, 2)
