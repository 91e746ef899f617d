# SPDX-License-Identifier: Apache-2.0
"""Pose matrices: what is a rotation, what is made one, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny_capture import OPENGL, true_pose, write_capture

from lerf_ros.errors import DatasetError, FrameError
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.captures.pose_matrices import parse_pose
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera

TURN = Rotation.from_euler('xyz', [0.4, -0.8, 1.2]).as_matrix()
SHEAR = np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])   # its determinant is 1


def pose(R, position=(1.0, 2.0, 3.0)):
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, position
    return T


@pytest.mark.parametrize('R, part', [
    (TURN @ SHEAR, 'sheared'), (TURN @ np.diag([1, 1, 1.3]), 'different lengths'),
    (TURN * 2, 'scaled by 2'), (TURN @ np.diag([1, 1, -1]), 'mirrored')])
def test_a_frame_has_a_rotation(R, part):
    camera, image = PinholeCamera(8, 6, 10, 10, 4, 3), np.zeros((6, 8, 3), np.uint8)
    with pytest.raises(FrameError, match=f'not a rotation: .*{part}'):
        Frame(0, image, camera, pose(R))
    assert Frame(0, image, camera, pose(TURN)).T_world_camera is not None


@given(st.floats(0.05, 200), st.integers(0, 1000))
def test_a_scale_of_the_rotation_is_dropped_and_positions_stay(scale, seed):
    R = Rotation.random(random_state=seed).as_matrix()
    np.testing.assert_allclose(parse_pose(pose(R * scale), 'a'), pose(R), atol=1e-9)


@given(st.integers(0, 1000), st.integers(3, 6))
def test_rounded_matrices_become_rotations_near_them(seed, digits):
    R = Rotation.random(random_state=seed).as_matrix()
    read = parse_pose(pose(np.round(R, digits)), 'a')[:3, :3]
    np.testing.assert_allclose(read.T @ read, np.eye(3), atol=2e-6)
    np.testing.assert_allclose(read, R, atol=3 * 10.0 ** -digits)


@pytest.mark.parametrize('matrix, part', [
    (pose(TURN @ SHEAR), 'sheared'), (pose(TURN @ np.diag([1, 1, 1.3])), 'different lengths'),
    (pose(TURN @ np.diag([1, 1, -1])), 'mirrored'), (pose(np.zeros((3, 3))), 'flat'),
    (pose(TURN).T, 'transposed'), (pose(TURN, (1, np.nan, 3)), 'finite'),
    ([[1, 2], [3]], 'finite 4x4'), (None, 'finite 4x4'), ('eye', 'finite 4x4')])
def test_what_means_no_rotation_is_refused_with_the_name(matrix, part):
    with pytest.raises(DatasetError, match=f'a.png: .*{part}'):
        parse_pose(matrix if not isinstance(matrix, np.ndarray) else matrix.tolist(), 'a.png')


def test_dropped_scales_are_said(tmp_path):
    def scaled(frame, number):
        T = true_pose(number) @ OPENGL
        T[:3, :3] *= 2.5
        frame['transform_matrix'] = T.tolist()
    folder = load_folder(write_capture(tmp_path, change=scaled))
    np.testing.assert_allclose(folder.frames[1].T_world_camera, true_pose(1), atol=1e-9)
    assert len(folder.notes) == 1 and 'have a scale' in folder.notes[0]
    assert '3 images: images/000.png' in folder.notes[0]
