# SPDX-License-Identifier: Apache-2.0
"""The renderer against closed forms; needs open3d."""

import numpy as np
import pytest

from lerf_ros.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.simulation.meshes import sphere
from lerf_ros.simulation.models import Kind, Model, Part
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.room import TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import TabletopScene
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
    seen, _ = ball_renderer.table_light.at(np.float32([shaded, lit]))
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
