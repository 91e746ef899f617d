# SPDX-License-Identifier: Apache-2.0
"""Intrinsics in the words of different tools, nonsense among them; fields that change a meaning."""

import math

import numpy as np
import pytest
from tiny_capture import HEIGHT, WIDTH, blue, true_pose, write_capture

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.load import load_folder

NO_FOCAL = {'fl_x': None, 'fl_y': None}
BARE = {**NO_FOCAL, 'w': None, 'h': None, 'cx': None, 'cy': None}


def camera_of(tmp_path, change=lambda frame, number: None, **fields):
    return load_folder(write_capture(tmp_path, 2, change, **fields)).frames[0].camera


def test_a_field_of_view_alone_is_enough(tmp_path):
    folder = load_folder(write_capture(tmp_path, **BARE, camera_angle_x=math.pi / 2))
    camera = folder.frames[0].camera
    # Half the width at 45 degrees; square pixels; the middle of the image.
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy],
                               [WIDTH / 2, WIDTH / 2, WIDTH / 2, HEIGHT / 2])
    assert len(folder.notes) == 3   # size, middle, square pixels: once each


@pytest.mark.parametrize('fields, fx, fy', [
    ({'camera_angle_x': math.pi / 2, 'camera_angle_y': math.pi / 2}, WIDTH / 2, HEIGHT / 2),
    ({'camera_angle_y': math.pi / 2}, HEIGHT / 2, HEIGHT / 2),
    ({'x_fov': 90}, WIDTH / 2, WIDTH / 2),
    ({'fl_y': 30.0}, 30.0, 30.0),
    ({'fl_x': 30.0, 'camera_angle_x': 2 * math.atan(WIDTH / 60)}, 30.0, 30.0)])
def test_focal_lengths_and_fields_of_view(tmp_path, fields, fx, fy):
    camera = camera_of(tmp_path, **{**NO_FOCAL, **fields})
    np.testing.assert_allclose([camera.fx, camera.fy], [fx, fy])


def test_a_frames_field_of_view_wins_over_the_files_focal_length(tmp_path):
    camera = camera_of(tmp_path, lambda f, n: f.update(camera_angle_x=math.pi / 2), fl_x=99.0)
    assert camera.fx == pytest.approx(WIDTH / 2)
    assert camera.fy == 23.0   # of the file


def test_a_frames_distortion_replaces_the_files(tmp_path):
    camera = camera_of(tmp_path, lambda f, n: f.update(k1=0.5),
                       distortion_params=[.1, .2, .3, 0, .01, .02])
    assert camera.distortion == (0.5, 0, 0, 0, 0)
    camera = camera_of(tmp_path, lambda f, n: f.update(k1=0.5), k1=.1, k2=.2)
    assert camera.distortion == (0.5, 0.2, 0, 0, 0)


def test_contradicting_focal_lengths_are_said(tmp_path):
    folder = load_folder(write_capture(tmp_path, camera_angle_x=1.5))
    assert folder.frames[0].camera.fx == 22.0
    assert 'fl_x and camera_angle_x contradict' in folder.notes[0]


def test_is_fisheye_means_the_lens_of_opencv_fisheye(tmp_path):
    lens = {'k1': .1, 'k2': .2, 'k3': .3, 'k4': .4}
    flag = camera_of(tmp_path / 'flag', is_fisheye=True, **lens)
    name = camera_of(tmp_path / 'name', camera_model='OPENCV_FISHEYE', **lens)
    assert flag == name and flag.model == 'fisheye' and flag.distortion == (.1, .2, .3, .4)
    assert camera_of(tmp_path / 'not', is_fisheye=False, k1=.1).model == 'pinhole'
    # Per frame, as colmap2nerf writes several cameras.
    assert camera_of(tmp_path / 'own', lambda f, n: f.update(is_fisheye=True)).model == 'fisheye'


def test_models_of_colmap(tmp_path):
    camera = camera_of(tmp_path, camera_model='SIMPLE_RADIAL_FISHEYE', k1=.1)
    assert camera.model == 'fisheye' and camera.distortion == (.1, 0, 0, 0)
    assert camera_of(tmp_path, camera_model='perspective').model == 'pinhole'


@pytest.mark.parametrize('fields, part', [
    ({'camera_model': 'OPENCV', 'is_fisheye': True}, 'contradict each other'),
    ({'camera_model': 'OPENCV_FISHEYE', 'is_fisheye': False}, 'contradict each other'),
    ({'is_fisheye': 'yes'}, 'true or false'),
    ({'is_fisheye': True, 'p1': 0.1}, 'a fisheye lens with p1'),
    ({'k6': 0.1}, 'k6 = 0.1 belongs to camera_model FULL_OPENCV'),
    ({'camera_model': 'THIN_PRISM_FISHEYE'}, 'colmap image_undistorter'),
    ({'camera_model': 'EQUIRECTANGULAR'}, 'not supported'),
    ({**NO_FOCAL, 'camera_angle_x': 90}, 'radians'),
    ({**NO_FOCAL, 'camera_angle_x': 0.0}, 'between 0 and 180'),
    (NO_FOCAL, 'fl_x is missing'),
    ({'fl_x': -5.0}, 'focal lengths'),
    ({'fl_x': float('nan')}, 'is not a number'),
    ({'fl_x': True}, 'is not a number'),
    ({'w': 20.5}, 'whole pixels'),
    ({'w': 0}, 'positive whole pixels'),
    ({'cx': 500.0}, 'far outside'),
    ({'w': 640, 'h': 480, 'fl_x': 0.8, 'fl_y': 1.1, 'cx': .5, 'cy': .5}, 'shares of the width'),
])
def test_nonsense_is_refused_when_the_capture_is_opened(tmp_path, fields, part):
    with pytest.raises(DatasetError, match=part):
        load_folder(write_capture(tmp_path, 2, **fields))


# Other fields -------------------------------------------------------------------------------


@pytest.mark.parametrize('fields', [
    {'aabb_scale': 16, 'scale': 0.33, 'offset': [0.5, 0.5, 0.5], 'ply_file_path': 'p.ply'},
    {'orientation_override': 'none', 'train_filenames': ['images/000.png']},
    {'applied_transform': [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]], 'applied_scale': 1.0},
    {'latlong': False, 'white_transparent': False, 'from_mitsuba': False, 'mask': None},
    {'rolling_shutter': [0, 0, 0.1, 0]},
])
def test_harmless_fields_change_nothing_and_are_not_spoken_of(tmp_path, fields):
    plain = load_folder(write_capture(tmp_path / 'plain')).frames[1]
    folder = load_folder(write_capture(tmp_path / 'more', **fields))
    assert folder.notes == () and folder.frames[1].camera == plain.camera
    np.testing.assert_array_equal(folder.frames[1].T_world_camera, plain.T_world_camera)


def test_unknown_fields_are_said_to_be_unused(tmp_path):
    folder = load_folder(write_capture(tmp_path, weather='fine', operator='me'))
    assert folder.notes == ('weather is not known and not used',
                            'operator is not known and not used')


@pytest.mark.parametrize('fields, part', [
    ({'latlong': True}, 'latlong = True is a lens'),
    ({'ftheta_p0': 1.0}, 'lens that is not supported'),
    ({'white_transparent': True}, 'alpha channels'),
    ({'from_mitsuba': True}, 'Mitsuba'),
    ({'depth_scale': 0.25}, 'depth_scale = 0.25 is not known'),
    ({'camera_convention': 'opencv'}, 'ns-process-data'),
    ({'applied_scale': -1.0}, 'must be positive'),
    ({'applied_transform': 'up'}, 'not a matrix'),
])
def test_fields_that_change_a_meaning_are_refused(tmp_path, fields, part):
    with pytest.raises(DatasetError, match=part):
        load_folder(write_capture(tmp_path, **fields))


def test_fields_of_a_frame_are_looked_at_too(tmp_path):
    with pytest.raises(DatasetError, match=r'images/001\.png: camtoworld'):
        load_folder(write_capture(tmp_path, change=lambda f, n: f.update(
            camtoworld=[[1, 2], [3, 4]] if n == 1 else None)))


def test_a_camera_that_moved_during_the_exposure_is_refused(tmp_path):
    def moved(by):
        def edit(frame, number):
            start = frame.pop('transform_matrix')
            frame['transform_matrix_start'] = start
            frame['transform_matrix_end'] = [[*row[:3], row[3] + by * (i < 3)]
                                             for i, row in enumerate(start)]
        return edit
    frame = load_folder(write_capture(tmp_path / 'still', change=moved(0.0))).frames[2]
    np.testing.assert_allclose(frame.T_world_camera, true_pose(2), atol=1e-12)
    with pytest.raises(DatasetError, match='moved during the exposure'):
        load_folder(write_capture(tmp_path / 'moved', change=moved(0.1)))


def test_an_applied_scale_is_taken_back(tmp_path):
    scaled = load_folder(write_capture(tmp_path, applied_scale=0.25)).frames[2]
    np.testing.assert_allclose(scaled.T_world_camera[:3, 3], true_pose(2)[:3, 3] * 4)
    np.testing.assert_allclose(scaled.T_world_camera[:3, :3], true_pose(2)[:3, :3], atol=1e-12)
    half = np.diag([0.5, 0.5, 0.5, 1.0])[:3].tolist()
    folder = load_folder(write_capture(tmp_path, applied_transform=half))
    np.testing.assert_allclose(folder.frames[2].T_world_camera[:3, 3], true_pose(2)[:3, 3] * 2)
    assert 'scaled by 0.5' in folder.notes[0]


def test_stamps_are_exact_and_positions_large(tmp_path):
    def far(frame, number):
        frame['stamp_ns'] = 1_700_000_000_123_456_789 + number
        frame['transform_matrix'][1][3] = 5_948_996.1234567
    frame = load_folder(write_capture(tmp_path, change=far)).frames[1]
    assert frame.stamp_ns == 1_700_000_000_123_456_790
    assert frame.T_world_camera.dtype == np.float64
    assert frame.T_world_camera[1, 3] == 5_948_996.1234567
    assert blue(frame) == 60
