# SPDX-License-Identifier: Apache-2.0
"""Which way is up: cameras that are held level, look down, or stand in a frame of another up."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lerf_ros.geometry.up_direction import Z_UP, rotation_to, up_of_cameras


def camera(yaw, pitch, roll=0.0):
    """A camera (4, 4) in a world with z up; degrees, pitch upwards."""
    level = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])     # looks along x
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('ZYX', [yaw, -pitch, roll], degrees=True).as_matrix() @ level
    return T


def around(pitches, roll=0.0):
    rng = np.random.default_rng(0)
    return np.stack([camera(yaw, pitch, roll + rng.normal(0, 4)) for pitch in pitches
                     for yaw in range(0, 360, 30)])


def turned(T_world_cameras, up):
    out = T_world_cameras.copy()
    out[:, :3, :3] = rotation_to(np.array(up, float)) @ out[:, :3, :3]
    return out


def test_level_cameras_leave_z():
    for pitches in ([0], [-30], [-60, 10]):
        up = up_of_cameras(around(pitches))
        assert up.is_z and up.words == 'z of the map'


@pytest.mark.parametrize('up', [(0, -1, 0), (1, 0, 0), (0, 0, -1), (0.6, 0, 0.8)])
def test_another_up_is_found_within_some_degrees(up):
    for pitches in ([0], [-30], [-50, 0]):
        found = up_of_cameras(turned(around(pitches), up))
        assert np.degrees(np.arccos(found.direction @ np.array(up))) < 5
        assert 'degrees off z' in found.words


def test_views_from_one_side_that_look_down_are_not_taken_for_a_tilt():
    """Half a turn around a table, 50 degrees down: the up axes lean, the right axes are level."""
    half = np.stack([camera(yaw, -50) for yaw in range(0, 180, 15)])
    assert up_of_cameras(half).is_z


def test_cameras_that_look_straight_down_tell_nothing():
    up = up_of_cameras(around([-90]))
    assert up.is_z and 'do not tell' in up.words
    assert up_of_cameras(np.zeros((0, 4, 4))).is_z


@pytest.mark.parametrize('pitch', [-90, -60, -40])
def test_cameras_that_face_one_way_tell_nothing(pitch):
    """As above a table or along a shelf: how far down they look is no tilt of the map."""
    rng = np.random.default_rng(0)
    facing = np.stack([camera(rng.normal(30, 4), pitch, rng.normal(0, 4)) for _ in range(40)])
    up = up_of_cameras(facing)
    assert up.is_z and 'do not tell' in up.words


def test_z_is_turned_to_up():
    for up in ((0, 0, 1), (0, 0, -1), (0, 1, 0), (0.48, -0.6, 0.64)):
        R = rotation_to(np.array(up, float))
        np.testing.assert_allclose(R @ Z_UP, up, atol=1e-12)
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1)
