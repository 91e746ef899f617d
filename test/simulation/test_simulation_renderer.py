# SPDX-License-Identifier: Apache-2.0
"""The renderer against closed forms; needs open3d."""

import numpy as np
import pytest

from lerf_ros.geometry.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.simulation.meshes import sphere
from lerf_ros.simulation.models import Kind, Model, Part
from lerf_ros.simulation.raycast import NO_LABEL, SurfaceLabels
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.room import ROOM_HALF, TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import TabletopScene, label_names
from lerf_ros.simulation.textures import solid
from lerf_ros.simulation.trajectory import hand_held_path, look_at

pytest.importorskip('open3d', reason='open3d is not installed (pip install lerf_ros[sim])')

CAMERA = PinholeCamera(160, 120, 137.5, 137.5, 80, 60)
RADIUS = 0.08


def red_ball(rng: np.random.Generator) -> Model:
    return Model('red ball', (Part(sphere(RADIUS, 64, 96).moved((0, 0, RADIUS)),
                                   solid((0.9, 0.05, 0.05))),))


@pytest.fixture(scope='module')
def ball_renderer() -> SceneRenderer:
    return SceneRenderer(TabletopScene.generate(0, (Kind('red ball', 'ball', red_ball),)))


@pytest.fixture(scope='module')
def renderer() -> SceneRenderer:
    return SceneRenderer(TabletopScene.generate(0))


def test_depth_of_the_table_is_that_of_its_plane(ball_renderer):
    T = look_at(np.array([0.9, 0.3, 1.4]), np.array([0.0, 0.05, TABLE_HEIGHT]), roll=0.1)
    view = ball_renderer.render(CAMERA, T)
    rays = CAMERA.directions(CAMERA.pixel_grid())
    rays = rays / rays[..., 2:]
    world = rays @ T[:3, :3].T
    expected = (TABLE_HEIGHT - T[2, 3]) / world[..., 2]
    points = T[:3, 3] + world * expected[..., None]
    on_table = np.all(np.abs(points[..., :2]) < np.asarray(TABLE_SIZE) / 2 - 0.01, axis=-1)
    on_table &= (view.instance < 0) & (world[..., 2] < 0)
    assert on_table.sum() > 3000
    np.testing.assert_allclose(view.depth_m[on_table], expected[on_table], rtol=1e-4)


def test_depth_of_a_ball_lies_on_the_sphere(ball_renderer):
    ball = ball_renderer.scene.objects[0]
    T = look_at(ball.center + (0.5, 0.2, 0.3), ball.center)
    view = ball_renderer.render(CAMERA, T)
    mask = view.instance == 0
    rays = CAMERA.directions(CAMERA.pixel_grid()[mask])
    points = transform_points(T, rays / rays[:, 2:] * view.depth_m[mask][:, None])
    distance = np.linalg.norm(points - ball.center, axis=1)
    np.testing.assert_allclose(distance, RADIUS, atol=5e-4)
    # The silhouette of a sphere is a circle of asin(r / d), here of about this many pixels.
    d = np.linalg.norm(T[:3, 3] - ball.center)
    radius_px = CAMERA.fx * np.tan(np.arcsin(RADIUS / d))
    assert mask.sum() == pytest.approx(np.pi * radius_px ** 2, rel=0.03)


def test_ball_is_red_and_shades_the_table(ball_renderer):
    ball = ball_renderer.scene.objects[0]
    view = ball_renderer.render(CAMERA, look_at(ball.center + (0.0, 0.5, 0.5), ball.center))
    red = view.image[view.instance == 0].astype(float)
    assert np.median(red[:, 0]) > 1.8 * np.median(red[:, 1])
    away = ball.center - ball_renderer.scene.light.position
    shaded = np.append((ball.center + away * (RADIUS * 0.98 / -away[2]))[:2], TABLE_HEIGHT)
    lit = 2 * np.append(ball.center[:2], TABLE_HEIGHT) - shaded - away * (1, 1, 0) * 0.1
    seen, _ = ball_renderer.plane_light[0].at(np.float32([shaded, lit]))
    assert seen[0] < 0.5 < 0.9 < seen[1]


def test_instance_at_a_projected_centre_is_the_object(renderer):
    for index, item in enumerate(renderer.scene.objects):
        # From above, with nothing in between, the box's centre line meets the object unless it
        # is hollow or bent; then some pixel of its box still shows it.
        T = look_at(item.center + (0.05, 0.0, 0.7), item.center)
        view = renderer.render(CAMERA, T)
        assert (view.instance == index).sum() > 20, item.name
        corners = np.array(np.meshgrid(*zip(item.box_min, item.box_max))).reshape(3, -1).T
        box = CAMERA.project(transform_points(invert_pose(T), corners))
        y, x = np.nonzero(view.instance == index)
        assert np.all([x.min(), y.min()] >= box.min(0) - 1.5), item.name
        assert np.all([x.max(), y.max()] <= box.max(0) + 0.5), item.name


def test_every_pixel_has_a_label(renderer):
    scene = renderer.scene
    names = label_names(scene)
    assert names[:len(scene.objects)] == tuple(thing.query for thing in scene.objects)
    assert set(names[len(scene.objects):]) == {'table', 'floor', 'wall', 'ceiling', 'rug'}
    eye = np.array([1.5, 1.2, 1.7])
    view = renderer.render(CAMERA, look_at(eye, np.array([0.0, 0.0, TABLE_HEIGHT])))
    assert view.labels.dtype == np.int32 and view.labels.shape == view.image.shape[:2]
    assert view.labels.min() >= 0 and view.labels.max() < len(names)
    thing = view.instance >= 0
    np.testing.assert_array_equal(view.labels[thing], view.instance[thing])
    assert view.labels[~thing].min() >= len(scene.objects)
    # What lies at the height of the table top is the table, what lies at zero the floor.
    rays = CAMERA.directions(CAMERA.pixel_grid())
    T = look_at(eye, np.array([0.0, 0.0, TABLE_HEIGHT]))
    points = transform_points(T, rays / rays[..., 2:] * view.depth_m[..., None])
    x, y, z = np.moveaxis(points, -1, 0)
    assert set(view.labels[~thing & (np.abs(z - TABLE_HEIGHT) < 1e-4)]) == {names.index('table')}
    ground = (np.abs(z) < 1e-4) & (np.maximum(np.abs(x), np.abs(y)) < ROOM_HALF - 0.01)
    assert set(view.labels[ground]) == {names.index('floor')}
    up = renderer.render(CAMERA, look_at(np.array([0, 0, 1.5]), np.array([0.0, 0.5, 2.6])))
    assert set(np.unique(up.labels)) <= {names.index('wall'), names.index('ceiling')}


def test_points_have_the_label_of_the_nearest_surface(ball_renderer):
    scene = ball_renderer.scene
    names, center = label_names(scene), scene.objects[0].center
    side = np.array([0.6, 0.0, 0.8])
    foot = np.append(center[:2], TABLE_HEIGHT)
    points = np.array([center + (RADIUS + 0.01) * side, center + (RADIUS - 0.01) * side,
                       center + (RADIUS + 0.02) * side, center,
                       # 5 cm from the foot the ball is 17 mm above the table.
                       foot + (0.05, 0, 0.002), foot + (0.05, 0, 0.015),
                       (0.1, 2.0, 0.002), (0.1, 2.499, 1.0)])
    expected = [0, 0, NO_LABEL, NO_LABEL, names.index('table'), 0, names.index('floor'),
                names.index('wall')]
    np.testing.assert_array_equal(SurfaceLabels(scene).at(points), expected)
    assert SurfaceLabels(scene).at(np.zeros((0, 3))).shape == (0,)


def test_path_shows_every_object_from_many_sides(renderer):
    path = hand_held_path(0, renderer.scene, 60.0)
    small = CAMERA.resized(80, 60)
    sides: dict[int, set] = {}
    for t in np.arange(0, 60, 2.5):
        T = path(t)
        view = renderer.render(small, T)
        for index in np.unique(view.instance[view.instance >= 0]):
            if (view.instance == index).sum() >= 8:
                offset = T[:2, 3] - renderer.scene.objects[index].center[:2]
                sides.setdefault(int(index), set()).add(
                    int(np.degrees(np.arctan2(offset[1], offset[0])) % 360 // 30))
    assert set(sides) == set(range(len(renderer.scene.objects)))
    # Four different twelfths of the circle are more than 90 degrees of directions.
    assert min(len(s) for s in sides.values()) >= 4


def test_views_are_repeatable(renderer):
    T = hand_held_path(0, renderer.scene, 60.0)(3.0)
    again = SceneRenderer(TabletopScene.generate(0)).render(CAMERA, T)
    first = renderer.render(CAMERA, T)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)
    np.testing.assert_array_equal(first.instance, again.instance)
    assert np.abs(first.image.astype(int) - again.image).max() <= 1
