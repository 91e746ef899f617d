# SPDX-License-Identifier: Apache-2.0
"""The apartment: its floor plan, what stands in it, and a robot that drives through no wall."""

from collections import Counter

import numpy as np
import pytest

from lerf_ros.errors import LerfError
from lerf_ros.simulation.apartment import (
    BOARDS,
    LANE,
    apartment,
    driving_path,
    route,
    shelf_place,
    table_place,
)
from lerf_ros.simulation.driven_world import KINDS, drift, driven_world
from lerf_ros.simulation.floor_plan import DOOR_WIDTH, HALLWAY_WIDTH, draw_floor_plan, room_walls
from lerf_ros.simulation.room import TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import label_names, part_labels
from lerf_ros.simulation.sensor import sensor_camera

ROBOT = 0.25        # metres that its middle keeps from walls


def segments(plan):
    """All walls that reach the floor as pairs of points (x, y)."""
    corners = plan.walls().vertices.reshape(-1, 4, 3)
    return [(c[0, :2], c[1, :2]) for c in corners if c[:, 2].min() < 1e-6]


def distance(points, start, end):
    """Distances (N,) of points (N, 2) from a segment."""
    along = end - start
    t = np.clip((points - start) @ along / (along @ along), 0, 1)
    return np.linalg.norm(points - start - t[:, None] * along, axis=1)


@pytest.mark.parametrize('seed', range(4))
def test_the_robot_keeps_away_from_walls_tables_and_shelves(seed):
    home = apartment(seed, 6)
    way = route(home.plan)
    eyes = np.stack([way.at(s)[0][:2] for s in np.arange(0, way.length, 0.05)])
    assert min(distance(eyes, *wall).min() for wall in segments(home.plan)) > ROBOT
    for room in home.plan.rooms:
        beside = np.abs(eyes - table_place(room)[:2]) - np.asarray(TABLE_SIZE) / 2
        assert beside.max(1).min() == pytest.approx(LANE, abs=0.01)         # it was there
        assert np.linalg.norm(eyes - shelf_place(room)[:2], axis=1).min() < 1.2
    assert np.linalg.norm(np.diff(eyes, axis=0), axis=1).max() < 0.051      # and never jumped


def test_rooms_do_not_overlap_and_each_has_a_door_to_the_hallway():
    plan = draw_floor_plan(np.random.default_rng(1), 6)
    boxes = []
    for room in plan.rooms:
        corners = np.stack([room.to_world(-room.left, 0), room.to_world(room.right, room.depth)])
        boxes.append((corners.min(0), corners.max(0)))
        assert abs(room.T_world_room[1, 3]) == HALLWAY_WIDTH / 2
        door = room_walls(room)[-1].vertices        # the wall above it
        assert np.ptp(door[:, 0]) == pytest.approx(DOOR_WIDTH) and door[:, 2].min() > 2.0
    for k, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:k]:
            assert (np.minimum(high, other_high) - np.maximum(low, other_low))[:2].min() < 1e-9
    assert 100 < plan.area_m2 < 140


def test_things_stand_on_tables_and_shelves_of_their_rooms():
    home = apartment(2, 6)
    assert len(home.scene.objects) == 60
    for thing, number in zip(home.scene.objects, home.rooms_of, strict=True):
        room = home.plan.rooms[number]
        height = thing.box_min[2]
        on_table = abs(height - TABLE_HEIGHT) < 1e-6
        at = table_place(room) if on_table else shelf_place(room)
        assert min(abs(height - h) for h in (TABLE_HEIGHT, *BOARDS)) < 1e-6
        assert (np.abs(thing.center[:2] - at[:2]) < np.asarray(TABLE_SIZE) / 2).all(), thing.name
    names, labels = label_names(home.scene), part_labels(home.scene)
    assert names[60:] == ('floor', 'wall', 'table', 'shelf') and labels.max() == 63


@pytest.mark.parametrize(('rooms', 'most'), [(3, 1), (6, 2), (8, 3)])      # of 36 kinds
def test_no_kind_is_in_a_room_twice_nor_again_before_all_others(rooms, most):
    for seed in range(5):
        home = apartment(seed, rooms)
        count = Counter(thing.query for thing in home.scene.objects)
        assert max(count.values()) == most and (most == 1 or len(count) == 36)
        assert max(count.values()) - min(count.values()) <= 1
        in_rooms = set(zip((t.query for t in home.scene.objects), home.rooms_of, strict=True))
        assert len(in_rooms) == len(home.scene.objects) == 10 * rooms


def test_a_seed_draws_the_same_apartment_again():
    one, again, other = (np.stack([thing.center for thing in apartment(seed, 3).scene.objects])
                         for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    with pytest.raises(LerfError, match='61 rooms: 1 to 60'):
        apartment(0, 61)


def test_worlds_have_names_and_odometry_drifts():
    for kind in KINDS:
        world = driven_world(kind, 0, 2)
        assert set(world.places_of) == {0, 1} and world.name.startswith(kind)
        assert world.length > 8 and world.area_m2 > 25
    with pytest.raises(LerfError, match='corridor, apartment'):
        driven_world('moon', 0, 2)
    assert np.array_equal(drift(0.0), np.eye(4))
    assert np.linalg.norm(drift(30.0)[:3, 3]) == pytest.approx(1.0)
    assert np.degrees(np.arccos(drift(30.0)[0, 0])) == pytest.approx(5.0)


def test_the_camera_sees_all_that_stands_in_the_rooms():
    pytest.importorskip('open3d', reason='the simulated camera needs open3d')
    from lerf_ros.simulation.renderer import SceneRenderer
    home = apartment(1, 2)
    path, way = driving_path(1, home.plan), route(home.plan)
    renderer = SceneRenderer(home.scene)
    views = [renderer.render(sensor_camera(80, 60), path(s)) for s in np.arange(0, way.length, 0.8)]
    shown = np.unique(np.concatenate([view.labels.ravel() for view in views]))
    assert list(shown) == list(range(len(label_names(home.scene))))
    assert all(35 < view.image.mean() < 220 for view in views)
