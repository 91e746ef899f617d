# SPDX-License-Identifier: Apache-2.0
"""Folders in nerfstudio's layout: what they mean, and what is said when they are broken."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.intrinsics import camera_fields, parse_camera
from lerf_ros.frames.captures.load import load_folder

DATA = Path(__file__).resolve().parents[3] / 'shared' / 'data'
INTRINSICS = {'w': 8, 'h': 6, 'fl_x': 10.0, 'fl_y': 11.0, 'cx': 4.0, 'cy': 3.0}
# An OpenGL camera at (1, 2, 3) that looks along the world's -z; its y axis is up.
POSE = [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]


def write(folder, frames=None, image=None, **fields):
    """A folder of one frame, or of `frames`; returns the folder."""
    (folder / 'images').mkdir(exist_ok=True)
    image = np.full((6, 8, 3), (10, 20, 30), np.uint8) if image is None else image   # BGR
    frames = [{'file_path': 'images/a.png', 'transform_matrix': POSE}] if frames is None else frames
    for frame in frames:
        if 'file_path' in frame:
            cv2.imwrite(str(folder / frame['file_path']), image)
    (folder / 'transforms.json').write_text(json.dumps({**INTRINSICS, **fields, 'frames': frames}))
    return folder


def frame_with(**fields):
    return [{'file_path': 'images/a.png', 'transform_matrix': POSE, **fields}]


def test_colour_camera_and_axes(tmp_path):
    folder = load_folder(write(tmp_path, k1=.1, k2=.2, k3=.3, p1=.01, p2=.02))
    frame = folder.frames[0]
    assert frame.image[0, 0].tolist() == [30, 20, 10]   # RGB
    assert (frame.camera.fx, frame.camera.fy, frame.camera.cx, frame.camera.cy) == (10, 11, 4, 3)
    assert frame.camera.distortion == (.1, .2, .01, .02, .3)   # OpenCV's order
    # x stays, y and z turn around: the camera looks along the world's -z.
    np.testing.assert_allclose(frame.T_world_camera[:3, :3], np.diag([1, -1, -1]))
    np.testing.assert_allclose(frame.T_world_camera[:3, 3], [1, 2, 3])
    assert not folder.metric and frame.depth_m is None and frame.valid is None


def test_frames_are_sorted_and_have_stamps_at_10_hz(tmp_path):
    frames = [{'file_path': f'images/{name}.png', 'transform_matrix': POSE} for name in 'cab']
    folder = load_folder(write(tmp_path, frames))
    assert folder.names == ('images/a.png', 'images/b.png', 'images/c.png')
    assert [frame.stamp_ns for frame in folder.frames] == [0, 100_000_000, 200_000_000]
    assert len(folder.frames[1:]) == 2 and folder.frames[-1].stamp_ns == 200_000_000


def test_a_frame_wins_over_the_file_and_a_list_of_distortions_is_read(tmp_path):
    folder = load_folder(write(tmp_path, frame_with(
        fl_x=99.0, stamp_ns=7, distortion_params=[.1, .2, .3, 0, .01, .02])))
    assert folder.frames[0].camera.fx == 99 and folder.frames[0].stamp_ns == 7
    assert folder.frames[0].camera.distortion == (.1, .2, .01, .02, .3)


def test_a_rational_lens_keeps_its_denominator(tmp_path):
    lens = {'k1': .1, 'k2': .2, 'p1': .3, 'p2': .4, 'k3': .5, 'k4': .6, 'k5': .7, 'k6': .8}
    frame = load_folder(write(tmp_path, camera_model='FULL_OPENCV', **lens)).frames[0]
    assert frame.camera.distortion == (.1, .2, .3, .4, .5, .6, .7, .8)


def test_a_fisheye_lens_is_read_and_written(tmp_path):
    lens = {'k1': .1, 'k2': .2, 'k3': .3, 'k4': .4}
    camera = load_folder(write(tmp_path, camera_model='OPENCV_FISHEYE', **lens)).frames[0].camera
    assert camera.model == 'fisheye' and camera.distortion == (.1, .2, .3, .4)
    fields = camera_fields(camera)
    assert fields['camera_model'] == 'OPENCV_FISHEYE' and parse_camera(fields, 'x') == camera


def test_depth_is_millimetres_and_makes_the_folder_metric(tmp_path):
    write(tmp_path, frame_with(depth_file_path='depth.png'))
    cv2.imwrite(str(tmp_path / 'depth.png'), np.full((6, 8), 1500, np.uint16))
    folder = load_folder(tmp_path)
    assert folder.metric
    np.testing.assert_allclose(folder.frames[0].depth_m, 1.5)
    assert folder.frames[0].depth_m.dtype == np.float32


def test_depth_in_other_units(tmp_path):
    write(tmp_path, frame_with(depth_file_path='depth.npy'), depth_unit_scale_factor=1.0)
    np.save(tmp_path / 'depth.npy', np.full((6, 8), 2.5))
    np.testing.assert_allclose(load_folder(tmp_path).frames[0].depth_m, 2.5)


def test_scale_moves_cameras_but_not_depth(tmp_path):
    write(tmp_path, frame_with(depth_file_path='depth.png'))
    cv2.imwrite(str(tmp_path / 'depth.png'), np.full((6, 8), 1500, np.uint16))
    frame = load_folder(tmp_path, scale=0.5).frames[0]
    np.testing.assert_allclose(frame.T_world_camera[:3, 3], [.5, 1, 1.5])
    np.testing.assert_allclose(frame.depth_m, 1.5)


@pytest.mark.parametrize('scale, fields, metric', [
    (1.0, {}, False), (0.1, {}, True), (1.0, {'metric': True}, True)])
def test_metric(tmp_path, scale, fields, metric):
    assert load_folder(write(tmp_path, **fields), scale=scale).metric is metric


def test_masks_are_black_where_ignored_and_add_up(tmp_path):
    write(tmp_path, frame_with(mask_path='own.png', mask_instance_path='instances.png'))
    own, everywhere = np.full((2, 6, 8), 255, np.uint8)
    own[0], everywhere[:, 0] = 0, 0   # the first row, the first column
    cv2.imwrite(str(tmp_path / 'own.png'), own)
    cv2.imwrite(str(tmp_path / 'gripper.png'), everywhere)
    valid = load_folder(tmp_path, mask_path=tmp_path / 'gripper.png').frames[0].valid
    expected = np.ones((6, 8), bool)
    expected[0] = expected[:, 0] = False
    np.testing.assert_array_equal(valid, expected)


def test_shrinking_keeps_the_viewing_directions(tmp_path):
    write(tmp_path, frame_with(depth_file_path='depth.png'))
    cv2.imwrite(str(tmp_path / 'depth.png'), np.full((6, 8), 1500, np.uint16))
    whole, half = (load_folder(tmp_path, max_side=side).frames[0] for side in (0, 4))
    assert half.image.shape == (3, 4, 3) and half.depth_m.shape == (3, 4)
    np.testing.assert_allclose(half.camera.directions(np.array([[1.0, 2.0]])),
                               whole.camera.directions(np.array([[2.0, 4.0]])))
    assert load_folder(tmp_path, max_side=100).frames[0].image.shape == (6, 8, 3)


@pytest.mark.parametrize('frames, fields, part', [
    ([], {}, 'no list of frames'),
    (None, {'camera_model': 'EQUIRECTANGULAR'}, 'EQUIRECTANGULAR is not supported'),
    (None, {'k4': 0.1}, 'k4 = 0.1'),
    (None, {'w': None}, 'w is missing'),
    (None, {'fl_x': None, 'fl_y': None}, 'fl_x is missing'),
    (None, {'fl_x': 0}, 'focal lengths'),
    (None, {'cx': 'left'}, "cx = 'left' is not a number"),
    (None, {'distortion_params': [1, 2]}, 'six numbers'),
    ([{'transform_matrix': POSE}], {}, 'has no file_path'),
    (frame_with(transform_matrix=None), {}, 'finite 4x4 matrix'),
    (frame_with(transform_matrix=[[1, 2], [3]]), {}, 'finite 4x4 matrix'),
    (frame_with(transform_matrix=[[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]), {},
     r'a\.png: the rotation of the camera pose'),
    (frame_with(depth_file_path='none.png'), {}, 'the depth of images/a.png'),
    (frame_with(mask_path='none.png'), {}, 'the mask of images/a.png'),
])
def test_what_is_broken_is_said_when_the_folder_is_opened(tmp_path, frames, fields, part):
    with pytest.raises(DatasetError, match=part):
        load_folder(write(tmp_path, frames, **fields))


def test_missing_things(tmp_path):
    with pytest.raises(DatasetError, match='is not a folder'):
        load_folder(tmp_path / 'none')
    with pytest.raises(DatasetError, match=r'transforms\.json cannot be read'):
        load_folder(tmp_path)
    (tmp_path / 'transforms.json').write_text('{')
    with pytest.raises(DatasetError, match='is not JSON'):
        load_folder(tmp_path)
    write(tmp_path)
    (tmp_path / 'images' / 'a.png').unlink()
    with pytest.raises(DatasetError, match=r'lists 1 images, 1 of them .* \(1 image: images/a.png'):
        load_folder(tmp_path)
    with pytest.raises(DatasetError, match=r'scale = 0'):
        load_folder(write(tmp_path), scale=0)
    with pytest.raises(DatasetError, match=r'the mask .*does not exist'):
        load_folder(tmp_path, mask_path='none.png')


def test_what_is_broken_in_an_image_is_said_when_it_is_read(tmp_path):
    frames = load_folder(write(tmp_path, image=np.zeros((5, 8, 3), np.uint8))).frames
    with pytest.raises(DatasetError, match=r'a\.png has 8x5 pixels, but w and h .* 8x6'):
        frames[0]
    (tmp_path / 'images' / 'a.png').write_text('no image')
    with pytest.raises(DatasetError, match=r'a\.png is not an image'):
        frames[0]


@pytest.mark.parametrize('name, count, metric', [
    ('apple_banana', 81, False), ('banana', 8, False), ('apc_shelf_rgbd', 15, True)])
def test_real_captures(name, count, metric):
    if not (DATA / name).exists():
        pytest.skip(f'{DATA / name} is not there')
    folder = load_folder(DATA / name, max_side=160)
    assert len(folder.frames) == len(folder.names) == count and folder.metric == metric
    assert all(max(frame.image.shape) == 160 for frame in folder.frames[::10])
    assert (folder.frames[0].depth_m is not None) == metric
    assert folder.frames[0].valid is None   # instance masks are not masks of the robot
