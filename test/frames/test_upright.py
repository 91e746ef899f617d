# SPDX-License-Identifier: Apache-2.0
"""Captures whose z is not up are turned, and it is said; others are left alone."""

import json

import numpy as np
import pytest
from tiny_capture import OPENGL, write_capture
from tiny_world import orbit

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.upright import stand_upright
from lerf_ros.geometry.up_direction import rotation_to

POSES = orbit(6)


def capture(path, up):
    """The orbit of the tiny world, in a frame in which `up` is up."""
    R = np.eye(4)
    R[:3, :3] = rotation_to(np.array(up, float))

    def change(frame, number):
        frame['transform_matrix'] = (R @ POSES[number] @ OPENGL).tolist()
    return load_folder(write_capture(path, 6, change))


def poses(folder):
    return np.stack([folder.frames[i].T_world_camera for i in range(len(folder.frames))])


def test_a_capture_with_z_up_keeps_its_poses(tmp_path):
    upright = stand_upright(capture(tmp_path, (0, 0, 1)))
    assert not upright.turned and upright.line() == 'up is z of the map'
    np.testing.assert_allclose(poses(upright.folder), POSES, atol=1e-9)
    np.testing.assert_array_equal(upright.T_map_capture, np.eye(4))


@pytest.mark.parametrize('up', [(0, -1, 0), (0, 0, -1), (0.6, 0, 0.8)])
def test_any_other_capture_gets_z_up(tmp_path, up):
    folder = capture(tmp_path, up)
    upright = stand_upright(folder)
    assert upright.turned and 'from the cameras' in upright.line() and '--up z' in upright.line()
    turned = poses(upright.folder)
    # About z everything may still be turned.
    np.testing.assert_allclose(turned[:, 2, 3], np.array(POSES)[:, 2, 3], atol=0.1)
    np.testing.assert_allclose(turned[:, 2, :3], np.array(POSES)[:, 2, :3], atol=0.1)
    np.testing.assert_allclose(upright.T_map_capture @ poses(folder), turned, atol=1e-12)
    given = stand_upright(folder, ','.join(map(str, up)))
    np.testing.assert_allclose(poses(given.folder)[:, 2], np.array(POSES)[:, 2], atol=1e-9)
    kept = stand_upright(folder, 'z')
    np.testing.assert_array_equal(poses(kept.folder), poses(folder))


def test_an_axis_is_given(tmp_path):
    upright = stand_upright(capture(tmp_path, (0, -1, 0)), '-y')
    np.testing.assert_allclose(poses(upright.folder)[:, 2], np.array(POSES)[:, 2], atol=1e-9)
    assert '-y of the capture, as given' in upright.line()


@pytest.mark.parametrize('up', ['up', '0,0,0', '1,2', 'nan,0,0', ''])
def test_what_is_no_direction_is_refused(tmp_path, up):
    with pytest.raises(DatasetError, match='--up'):
        stand_upright(capture(tmp_path, (0, 0, 1)), up)


def test_the_map_says_how_it_was_turned(tmp_path, monkeypatch, capsys):
    import test_end_to_end
    from tiny_world import CAMERA, ColorEncoder, photograph

    import lerf_ros.encoders.image_text
    from lerf_ros import cli
    from lerf_ros.frames.frame import Frame, Keyframe
    from lerf_ros.settings import flat_fields
    from lerf_ros.storage.map_directory import MapDirectory
    monkeypatch.setattr(lerf_ros.encoders.image_text, 'load_encoder',
                        lambda *_, **__: ColorEncoder())
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    R = np.eye(4)
    R[:3, :3] = rotation_to(np.array([0, -1.0, 0]))
    keyframes = MapDirectory(tmp_path / 'capture', True).keyframes
    for i, T in enumerate(POSES):
        seen = photograph(T, i)
        keyframes.add(Keyframe(i, Frame(seen.stamp_ns, seen.image, CAMERA, R @ T, seen.depth_m)))
    keyframes.write_transforms()
    small = [f'{name}={json.dumps(value)}' for name, _, value in flat_fields(
        test_end_to_end.SMALL) if value != '']
    words = ['train', str(tmp_path / 'capture'), '--map', str(tmp_path / 'map'), '--steps']
    assert cli.main([*words, '2', '--set', *small]) == 0
    assert 'the map is turned so that z is up' in capsys.readouterr().out
    directory = MapDirectory(tmp_path / 'map')
    source = directory.meta()['source']
    stored = [directory.keyframes.read(i).frame.T_world_camera for i in range(6)]
    np.testing.assert_allclose(np.array(source['T_map_capture']) @ R @ np.array(POSES), stored,
                               atol=1e-9)
    np.testing.assert_allclose(np.array(stored)[:, 2, 3], np.array(POSES)[:, 2, 3], atol=0.1)
    assert cli.main([*words, '3', '--resume', '--set', *small]) == 0
