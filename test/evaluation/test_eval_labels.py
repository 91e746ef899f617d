# SPDX-License-Identifier: Apache-2.0
"""Readers of labels: LERF-OVS, LERF's own boxes and cameras, boxes in 3D with instance masks."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.boxed_scene import read_boxed_objects
from lerf_ros.evaluation.labels import read_labels
from lerf_ros.evaluation.lerf_views import (
    nerfstudio_normalisation,
    read_keyframes,
    rotation_between,
    world_view,
)
from lerf_ros.evaluation.localization import points_in_box
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.geometry.camera import transform_points

SHELF = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'apc_shelf_rgbd'
TRIANGLE = [[10.7, 10.2], [30.9, 10.0], [10.0, 25.9]]


def ovs(**changes):
    return {'info': {'name': 'frame_00041.jpg', 'width': 64, 'height': 48}, 'objects': [
        {'category': 'red toy', 'bbox': [31, 26, 10, 10], 'segmentation': TRIANGLE},
        {'category': 'bag', 'bbox': [[1, 2], [3, 4]], 'segmentation': [[1, 2], [3, 2], [3, 4]]},
        {'category': 'red toy', 'bbox': [40, 40, 50, 45],
         'segmentation': [[40, 40], [50, 40], [50, 45], [40, 45]]}], **changes}


def labelme(**changes):
    return {'shapes': [
        {'label': 'toaster', 'points': [[30.5, 40.0], [10.0, 20.25]], 'shape_type': 'rectangle'},
        {'label': 'spoon', 'points': TRIANGLE, 'shape_type': 'polygon'}],
        'imagePath': '0_rgb.png', 'imageWidth': 270, 'imageHeight': 480, **changes}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_lerf_ovs(tmp_path):
    labels, = read_labels(write(tmp_path / 'frame_00041.json', ovs()))
    assert labels.image_name == 'frame_00041.jpg' and labels.size == (64, 48)
    assert labels.texts() == ('red toy', 'bag')
    # Corners in any order and as numbers or pairs; a category's boxes are alternatives.
    assert labels.boxes('red toy').tolist() == [[10, 10, 31, 26], [40, 40, 50, 45]]
    assert labels.boxes('bag').tolist() == [[1, 2, 3, 4]]
    assert labels.boxes('unicorn').shape == (0, 4) and labels.mask('unicorn') is None


def test_a_mask_is_the_union_of_polygons_with_whole_corners_and_edges(tmp_path):
    labels, = read_labels(write(tmp_path / 'frame_00041.json', ovs()))
    mask = labels.mask('red toy')
    assert mask.shape == (48, 64) and mask.dtype == bool
    assert mask[40:46, 40:51].all()                      # edges belong to it
    assert mask[10, 10] and mask[10, 30] and mask[25, 10]   # 10.7 and 30.9 became 10 and 30
    assert not mask[24, 29] and not mask[9].any() and not mask[:, 51:].any()


def test_lerf_boxes_in_the_order_of_the_keyframes(tmp_path):
    for i in (10, 2, 0):
        write(tmp_path / f'{i}_rgb.json', labelme(imagePath=f'{i}_rgb.png'))
    write(tmp_path / 'keyframes.json', {'keyframes': []})
    images = read_labels(tmp_path)
    assert [image.image_name for image in images] == ['0_rgb.png', '2_rgb.png', '10_rgb.png']
    toaster, spoon = images[0].objects
    assert toaster.text == 'toaster' and toaster.box_px.tolist() == [10, 20.25, 30.5, 40]
    assert toaster.polygon_px is None and images[0].mask('toaster') is None
    assert spoon.box_px.tolist() == [10, 10, 30.9, 25.9] and len(spoon.polygon_px) == 3
    assert images[0].size == (270, 480)


def test_a_file_without_image_name_and_size(tmp_path):
    labels, = read_labels(write(tmp_path / '3_rgb.json', {'shapes': labelme()['shapes']}))
    assert labels.image_name == '3_rgb' and labels.size is None
    assert labels.mask('spoon') is None


@pytest.mark.parametrize(('content', 'part'), [
    ('{', 'is not JSON'), ('[]', 'must hold a JSON object'),
    ({'frames': []}, 'neither a list `objects`'),
    (ovs(info={}), 'info.name'),
    (ovs(objects=[{'bbox': [1, 2, 3, 4]}]), 'label 0 has no category'),
    (ovs(objects=[7]), 'label 0 has no category'),
    (ovs(objects=[{'category': 'cup', 'bbox': [1, 2, 3]}]), r'label 0 \(cup\): bbox'),
    (ovs(objects=[{'category': 'cup', 'bbox': [1, 2, 3, float('nan')]}]), 'bbox must be'),
    (labelme(shapes=[{'label': 'cup'}]), r'\(cup\): points must be'),
    (labelme(shapes=[{'label': ' ', 'points': TRIANGLE}]), 'label 0 has no label')])
def test_errors_name_the_file_and_what_is_wrong(tmp_path, content, part):
    with pytest.raises(DatasetError, match=part) as raised:
        read_labels(write(tmp_path / 'broken.json', content))
    assert str(tmp_path / 'broken.json') in str(raised.value)


def test_missing_files_and_empty_folders(tmp_path):
    with pytest.raises(DatasetError, match='no label file'):
        read_labels(tmp_path)
    with pytest.raises(DatasetError, match='nothing.json cannot be read'):
        read_labels(tmp_path / 'nothing.json')


def camera_at(position, yaw, pitch):
    """T_world_camera with OpenCV axes: the camera looks along x, turned by yaw and pitch."""
    base = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])    # z forward is the world's x
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)],
                        [0, np.sin(pitch), np.cos(pitch)]])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = about_z @ base @ about_x, position
    return T


def test_keyframes_hold_a_three_js_camera(tmp_path):
    # Looks along the world's -z from (1, 2, 3), y up; columns one after the other, as text.
    matrix = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 2, 3, 1]
    for given in ({'fov': 90}, {'properties': json.dumps([['FOV', 90], ['NAME', 'Camera 0']])}):
        path = write(tmp_path / 'keyframes.json', {
            'render_width': 1080, 'render_height': 1920,
            'keyframes': [{'matrix': json.dumps(matrix), **given}]})
        view, = read_keyframes(path)
        assert view.camera.fy == view.camera.fx == pytest.approx(960)   # half height / tan 45°
        assert (view.camera.cx, view.camera.cy) == (540, 960)
        np.testing.assert_allclose(view.T_scene_camera[:3, :3], np.diag([1, -1, -1]))
        np.testing.assert_allclose(view.T_scene_camera[:3, 3], [1, 2, 3])


@pytest.mark.parametrize(('content', 'part'), [
    ({}, 'no list of keyframes'),
    ({'keyframes': [{}]}, 'render_width'),
    ({'keyframes': [{'matrix': '[1, 2]', 'fov': 50}], 'render_width': 4, 'render_height': 4},
     'keyframe 0 needs a matrix'),
    ({'keyframes': [{'matrix': [1] * 16, 'fov': 180}], 'render_width': 4, 'render_height': 4},
     'field of view of 180')])
def test_broken_keyframes(tmp_path, content, part):
    with pytest.raises(DatasetError, match=part):
        read_keyframes(write(tmp_path / 'keyframes.json', content))


def test_the_training_frame_of_nerfstudio():
    # Upright cameras: nothing turns. Mean (2, 0, 1), largest coordinate from there 2.
    poses = [camera_at(p, yaw, 0) for p, yaw in (((0, 0, 1), 0), ((4, 0, 1), 2), ((2, 0, 1), 4))]
    frame = nerfstudio_normalisation(poses)
    np.testing.assert_allclose(frame.T[:3], [[1, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, -1]],
                               atol=1e-12)
    assert frame.scale == pytest.approx(0.5)


def test_views_go_back_to_the_world_they_came_from(tmp_path):
    random = np.random.default_rng(0)
    poses = [camera_at(random.normal(3, 2, 3), *random.normal(0, 0.5, 2)) for _ in range(9)]
    frame = nerfstudio_normalisation(poses)
    origins = np.stack([T[:3, 3] for T in poses])
    scene = frame.scale * transform_points(frame.T, origins)
    np.testing.assert_allclose(scene.mean(0), 0, atol=1e-12)
    assert np.abs(scene).max() == pytest.approx(1)
    up = frame.T[:3, :3] @ -np.mean([T[:3, 1] for T in poses], axis=0)
    np.testing.assert_allclose(up[:2], 0, atol=1e-12)

    # As the viewer would write the fourth camera: scene frame, OpenGL axes, column by column.
    pose = frame.T @ poses[3]
    pose[:3, 3] *= frame.scale
    matrix = (pose @ np.diag([1, -1, -1, 1])).T.ravel().tolist()
    view, = read_keyframes(write(tmp_path / 'keyframes.json', {
        'render_width': 64, 'render_height': 48, 'keyframes': [{'matrix': matrix, 'fov': 50}]}))
    np.testing.assert_allclose(world_view(view, frame).T_scene_camera, poses[3], atol=1e-12)


@pytest.mark.parametrize('a', [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.3, -2, 0.5)])
def test_the_rotation_between_two_directions(a):
    a = np.array(a, float)
    R = rotation_between(a, np.array([0, 0, 2.0]))
    np.testing.assert_allclose(R @ a, [0, 0, np.linalg.norm(a)], atol=1e-12)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)


def shelf(folder, **changes):
    cv2.imwrite(str(folder / 'mask.png'), np.array([[0, 7], [7, 0]], np.uint8))
    return write(folder / 'transforms.json', {
        'objects': [{'id': 7, 'name': 'tissue_box', 'aabb_min': [0, 0, 0], 'aabb_max': [1, 2, 3]}],
        'frames': [{'file_path': 'a.png', 'mask_instance_path': 'mask.png'}], **changes}).parent


def test_objects_with_boxes_and_masks(tmp_path):
    labels = read_boxed_objects(shelf(tmp_path))
    box, = labels.objects
    assert (box.id, box.name, box.text) == (7, 'tissue_box', 'tissue box')
    assert box.low_world.tolist() == [0, 0, 0] and box.high_world.tolist() == [1, 2, 3]
    assert (labels.ids('a.png') == box.id).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(('changes', 'part'), [
    ({'objects': []}, 'no list of objects'), ({'frames': None}, 'no list of frames'),
    ({'objects': [{'id': 1, 'name': 'x'}]}, 'object 0 must have'),
    ({'objects': [{'id': 1, 'name': 'x', 'aabb_min': [1, 1, 1], 'aabb_max': [0, 2, 2]}]},
     'the box of x'),
    ({'frames': [{'file_path': 'a.png'}]}, 'frame 0 needs'),
    ({'frames': [{'file_path': 'a.png', 'mask_instance_path': 'no.png'}]}, 'no.png of a.png')])
def test_broken_shelves(tmp_path, changes, part):
    with pytest.raises(DatasetError, match=part):
        read_boxed_objects(shelf(tmp_path, **changes))


def test_the_shelf_of_the_picking_robot():
    if not SHELF.exists():
        pytest.skip(f'{SHELF} is not there')
    labels, folder = read_boxed_objects(SHELF), load_folder(SHELF)
    assert {thing.id: thing.text for thing in labels.objects} == {
        48: 'a pack of colorful pipe cleaners', 114: 'a picture book with a rabbit',
        132: 'a blue tissue box', 144: 'a red joke book'}
    assert tuple(labels.mask_paths) == folder.names
    # Masks, depth, poses and boxes agree: most measured points of an object are in its box.
    frame, ids = folder.frames[7], labels.ids(folder.names[7])
    for thing in labels.objects:
        chosen = (ids == thing.id) & (frame.depth_m > 0)
        rays = frame.camera.directions(frame.camera.pixel_grid()[chosen])
        points = rays / rays[:, 2:] * frame.depth_m[chosen][:, None]
        inside = points_in_box(transform_points(frame.T_world_camera, points),
                               thing.low_world, thing.high_world, 0.03)
        assert len(inside) > 1000 and inside.mean() > 0.8, thing.name
