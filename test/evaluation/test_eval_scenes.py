# SPDX-License-Identifier: Apache-2.0
"""Simulated evaluation scenes; small images, few of them."""

import numpy as np
import pytest

from lerf_ros.config import KeyframeConfig
from lerf_ros.errors import LerfError
from lerf_ros.evaluation.scenes import (
    FRAMES,
    EvalScene,
    as_captured,
    label_points,
    rendered_views,
    seen_side,
    simulated_scene,
)
from lerf_ros.frames.selection import motion
from lerf_ros.geometry.camera import transform_points
from lerf_ros.nodes.demo.config import SimCameraConfig
from lerf_ros.simulation import sensor
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.sensor import noisy_image
from lerf_ros.simulation.trajectory import PATH_S, hand_held_path

pytest.importorskip('open3d', reason='open3d is not installed (pip install lerf_ros[sim])')

SIZE, COUNT = (120, 90), 6


@pytest.fixture(scope='module')
def scene() -> EvalScene:
    return simulated_scene(0, COUNT, SIZE)


@pytest.fixture(scope='module')
def views() -> list:
    return list(rendered_views(evaluation_layout(0), 0, COUNT, SIZE))


def test_the_camera_has_the_defaults_of_the_node():
    node = SimCameraConfig()
    assert (node.width, node.height, node.fx) == (sensor.WIDTH, sensor.HEIGHT, sensor.FOCAL_PX)
    assert (node.image_noise, node.depth_noise) == (sensor.IMAGE_NOISE, sensor.DEPTH_NOISE)
    assert node.duration == PATH_S
    camera = sensor.sensor_camera(320, 240)
    assert (camera.fx, camera.cx, camera.cy) == (275, 160, 120)


def test_the_fifth_largest_mask_gives_the_size():
    assert seen_side(np.array([25, 100, 36, 49, 81, 64])) == 6.0   # 100 81 64 49 36
    assert seen_side(np.array([100, 100, 100, 100])) == 0.0


def test_a_scene_is_the_same_at_every_call(scene, views):
    frames = as_captured(views, 0, SIZE, COUNT, exposure=False)
    for a, b in zip(frames, scene.frames, strict=True):
        np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)
        np.testing.assert_array_equal(a.depth_m, b.depth_m)
        # The last bit of a rendered colour depends on the order of its sums.
        assert np.abs(a.image.astype(int) - b.image).max() <= 1
    assert len({frame.stamp_ns for frame in scene.frames}) == COUNT


def test_without_exposure_images_are_the_rendered_ones_with_noise(views):
    (first, *_) = as_captured(views, 0, SIZE, COUNT, exposure=False)
    expected = noisy_image(views[0][1].image, sensor.IMAGE_NOISE, np.random.default_rng([0, 11]))
    np.testing.assert_array_equal(first.image, expected)


def test_exposure_changes_brightness_and_nothing_else(views):
    plain = as_captured(views, 0, SIZE, COUNT, exposure=False)
    exposed = as_captured(views, 0, SIZE, COUNT, exposure=True)
    ratios = [b.image.mean() / a.image.mean() for a, b in zip(plain, exposed, strict=True)]
    assert max(ratios) > 1.03 * min(ratios)
    for a, b in zip(plain, exposed, strict=True):
        np.testing.assert_array_equal(a.depth_m, b.depth_m)


def test_every_object_is_there_with_its_label(scene):
    assert scene.labels is not None and scene.metric
    assert [thing.query for thing in scene.objects] == \
        list(scene.label_names[:len(scene.objects)])
    for k, thing in enumerate(scene.objects):
        areas = sorted(((mask == k).sum() for mask in scene.labels), reverse=True)
        assert thing.pixels == pytest.approx(areas[4] ** 0.5)
        assert np.all(thing.box_min < thing.box_max)


def test_points_of_the_frames_have_the_labels_of_their_pixels(scene, views):
    assert scene.labels is not None
    for frame, labels, (_, view) in zip(scene.frames[:2], scene.labels, views):
        rays = frame.camera.directions(frame.camera.pixel_grid())
        points = transform_points(frame.T_world_camera, (
            rays / rays[..., 2:] * view.depth_m[..., None]).reshape(-1, 3))
        np.testing.assert_array_equal(view.labels, labels)
        # Where two surfaces meet, rounding decides.
        assert (label_points(points, scene) == labels.ravel()).mean() > 0.998


def test_points_of_a_scene_without_surfaces_are_refused(scene):
    bare = EvalScene('bare', scene.frames, None, (), (), True)
    with pytest.raises(LerfError, match='bare'):
        label_points(np.zeros((1, 3)), bare)


@pytest.mark.parametrize('seed', range(6))
def test_every_view_moved_enough_to_be_a_keyframe(seed):
    config = KeyframeConfig()
    path = hand_held_path(seed, evaluation_layout(seed), PATH_S)
    poses = [path(k * PATH_S / FRAMES) for k in range(FRAMES)]
    for a, b in zip(poses, poses[1:]):
        distance, angle = motion(a, b)
        assert distance >= config.min_translation or angle >= config.min_rotation
