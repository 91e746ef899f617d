# SPDX-License-Identifier: Apache-2.0
"""The simulated tabletop: scenes, catalogue and camera path (no ray casting)."""

import numpy as np
import pytest

from lerf_ros.errors import LerfError
from lerf_ros.simulation.meshes import Mesh, cylinder, lathe, rounded_box, sphere, tube
from lerf_ros.simulation.objects import ABSENT, CATALOGUE, draw_absent
from lerf_ros.simulation.room import ROOM_HALF, ROOM_HEIGHT, TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import MIN_GAP, TabletopScene
from lerf_ros.simulation.trajectory import hand_held_path, look_at


@pytest.fixture(scope='module')
def scene() -> TabletopScene:
    return TabletopScene.generate(0)


def signed_volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_volumes_of_solids():
    assert abs(signed_volume(rounded_box((1, 2, 3), 0.001))) == pytest.approx(6, rel=0.01)
    assert abs(signed_volume(sphere(1.0, 64, 96))) == pytest.approx(4 / 3 * np.pi, rel=0.01)
    assert abs(signed_volume(cylinder(1.0, 0, 2, 96))) == pytest.approx(2 * np.pi, rel=0.01)
    straight = tube(np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 2.0]]), 0.5, 96)
    assert abs(signed_volume(straight)) == pytest.approx(0.5, rel=0.01) or \
        abs(signed_volume(straight)) == pytest.approx(0.25 * np.pi * 2, rel=0.01)


def test_normals_of_a_sphere_are_its_radii():
    mesh = sphere(2.0, 48, 64)
    radii = mesh.vertices[mesh.triangles] / 2.0
    aligned = np.abs((mesh.corner_normals() * radii).sum(-1))
    assert aligned.min() > np.cos(np.radians(4))


def test_normals_keep_the_edge_of_a_cylinder():
    normals = cylinder(1.0, 0, 1, 48).corner_normals().reshape(-1, 3)
    upright = np.abs(normals[:, 2])
    assert np.all((upright > 0.99) | (upright < 0.01))


def test_grid_leaves_out_empty_triangles():
    # A cone: 8 triangles for the side, 8 for the base, none at the tip and the centre.
    assert len(lathe([(0, 0), (1, 0), (0, 1)], 8).triangles) == 16


def test_a_seed_gives_the_same_scene(scene):
    again = TabletopScene.generate(0)
    assert [o.name for o in again.objects] == [o.name for o in scene.objects]
    for a, b in zip(again.objects, scene.objects):
        np.testing.assert_array_equal(a.box_min, b.box_min)
        np.testing.assert_array_equal(a.box_max, b.box_max)
    np.testing.assert_array_equal(again.light.position, scene.light.position)


def test_another_seed_gives_another_scene(scene):
    other = TabletopScene.generate(1)
    assert not np.allclose(other.light.position, scene.light.position)
    assert ([o.name for o in other.objects] != [o.name for o in scene.objects]
            or not np.allclose(other.objects[0].box_min, scene.objects[0].box_min))


@pytest.mark.parametrize('seed', range(3))
def test_layout_holds_ten_to_twelve_objects_of_different_groups(seed):
    objects = TabletopScene.generate(seed).objects
    assert 10 <= len(objects) <= 12
    assert len({o.group for o in objects}) == len(objects)


@pytest.mark.parametrize('seed', range(3))
def test_boxes_hold_all_vertices_and_stand_apart_on_the_table(seed):
    objects = TabletopScene.generate(seed).objects
    for o in objects:
        vertices = np.concatenate([p.world_vertices() for p in o.parts])
        assert np.all(vertices >= o.box_min - 1e-9) and np.all(vertices <= o.box_max + 1e-9)
        assert o.box_min[2] == pytest.approx(TABLE_HEIGHT, abs=1e-6)
        assert np.all(np.abs([o.box_min[:2], o.box_max[:2]]) <= np.asarray(TABLE_SIZE) / 2)
    for i, a in enumerate(objects):
        for b in objects[:i]:
            gap = np.maximum(a.box_min - b.box_max, b.box_min - a.box_max)[:2].max()
            assert gap >= MIN_GAP - 1e-6, f'{a.name} and {b.name} are {gap:.3f} m apart'


def test_every_kind_stands_on_its_origin_and_has_a_sensible_size():
    for kind in CATALOGUE:
        model = kind.build(np.random.default_rng(1))
        vertices = np.concatenate([p.world_vertices() for p in model.parts])
        size = vertices.max(0) - vertices.min(0)
        assert vertices[:, 2].min() == pytest.approx(0, abs=1e-9)
        assert 0.07 < size.max() < 0.4, f'{model.name} is {size} m'
        for part in model.parts:
            color = part.color(part.mesh.vertices.astype(np.float32))
            assert color.shape == part.mesh.vertices.shape and np.isfinite(color).all()


def test_catalogue_is_large_and_its_queries_differ():
    assert len(CATALOGUE) >= 16
    assert len({k.query for k in CATALOGUE}) == len(CATALOGUE)
    assert len({k.group for k in CATALOGUE}) >= 12


def test_look_at_has_opencv_axes():
    T = look_at(np.array([1.0, 0, 1]), np.array([0.0, 0, 0]))
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(T[:3, 2], np.array([-1, 0, -1]) / np.sqrt(2))
    assert T[2, 1] < 0  # y points down.


@pytest.mark.parametrize('seed', range(3))
def test_path_stays_in_the_room_above_the_table_and_moves_smoothly(scene, seed):
    path = hand_held_path(seed, scene, 60.0)
    times = np.arange(0, 60, 0.1)
    poses = np.stack([path(t) for t in times])
    eyes = poses[:, :3, 3]
    assert np.all(np.abs(eyes[:, :2]) < ROOM_HALF - 0.3) and eyes[:, 2].max() < ROOM_HEIGHT - 0.3
    assert eyes[:, 2].min() > TABLE_HEIGHT + 0.2
    # Slower than 0.6 m/s and 60 degrees a second.
    assert np.linalg.norm(np.diff(eyes, axis=0), axis=1).max() < 0.06
    cosine = (poses[1:, :3, 2] * poses[:-1, :3, 2]).sum(1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 6
    outward = np.arctan2(eyes[:, 1], eyes[:, 0])
    assert len(np.unique(np.floor(outward / (np.pi / 6)))) == 12


def test_path_is_the_same_for_a_seed(scene):
    a, b = hand_held_path(4, scene, 60.0), hand_held_path(4, scene, 60.0)
    np.testing.assert_array_equal(a(12.34), b(12.34))
    assert not np.allclose(a(12.34), hand_held_path(5, scene, 60.0)(12.34))


def test_absent_phrases_name_nothing_of_the_catalogue():
    assert len(ABSENT) >= 50 and len(set(ABSENT)) == len(ABSENT)
    words = {w for k in CATALOGUE for w in (k.query, *k.query.split())}
    words |= {k.build(np.random.default_rng(s)).name for k in CATALOGUE for s in range(3)}
    for phrase in ABSENT:
        assert not words & {phrase, *phrase.split()}, phrase


def test_draw_absent_gives_different_phrases(scene):
    drawn = draw_absent(3, 10, scene)
    assert len(set(drawn)) == 10 and set(drawn) <= set(ABSENT)
    assert drawn == draw_absent(3, 10, scene) != draw_absent(4, 10, scene)
    with pytest.raises(LerfError, match='are known'):
        draw_absent(0, 1000, scene)
