# SPDX-License-Identifier: Apache-2.0
"""The map directory: what is written is read back, what is damaged is named."""

import json

import numpy as np
import pytest

from lerf_ros.errors import MapUnreadableError
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.storage.map_directory import MapDirectory


def written(path, count=1, keep=2):
    directory = MapDirectory(path)
    directory.create({'frame_id': 'map'})
    for value in range(count):
        directory.write_snapshot({'index': {'x': np.full(3, value)}}, {'stamp_ns': value}, keep)
    return directory


def test_nothing_there_yet_is_no_error(tmp_path):
    assert MapDirectory(tmp_path / 'not_yet').newest() is None
    assert MapDirectory(tmp_path).newest() is None


def test_newest_snapshot_is_read_back_and_old_ones_go(tmp_path):
    directory = written(tmp_path, count=3)
    snapshot = directory.newest()
    assert (snapshot.number, snapshot.info['stamp_ns']) == (3, 2)
    assert snapshot.arrays('index')['x'].tolist() == [2, 2, 2]
    assert sorted(p.name for p in (tmp_path / 'snapshots').iterdir()) == ['000002', '000003']
    assert directory.newest(after=3) is None


def test_an_incomplete_snapshot_is_passed_over(tmp_path):
    directory = written(tmp_path, count=2)
    (tmp_path / 'snapshots/000002/index.safetensors').unlink()
    assert directory.newest().number == 1


def test_a_flipped_bit_is_noticed(tmp_path):
    snapshot = written(tmp_path).newest()
    file = snapshot.path / 'index.safetensors'
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(MapUnreadableError, match='damaged'):
        snapshot.arrays('index')


@pytest.mark.parametrize('content', ['', '{', '[]', '{"format": 99}'])
def test_foreign_directories_are_refused(tmp_path, content):
    (tmp_path / 'meta.json').write_text(content)
    with pytest.raises(MapUnreadableError):
        MapDirectory(tmp_path).newest()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / 'holiday.jpg').write_text('')
    with pytest.raises(MapUnreadableError, match='not a readable map'):
        MapDirectory(tmp_path).newest()


def test_keyframes_are_a_nerfstudio_folder(tmp_path):
    directory = MapDirectory(tmp_path)
    camera = PinholeCamera(4, 3, 5.0, 5.0, 2.0, 1.5, (0.1, 0.0, 0.01))
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    depth = np.full((3, 4), 1.25, np.float32)
    valid = np.ones((3, 4), bool)
    valid[0] = False
    directory.keyframes.add(Keyframe(0, Frame(17, image, camera, pose, depth, valid)))
    directory.keyframes.write_transforms()
    json.loads((tmp_path / 'transforms.json').read_text())
    frame = load_folder(tmp_path).frames[0]
    assert np.array_equal(frame.image, image)
    assert np.allclose(frame.T_world_camera, pose)
    assert np.allclose(frame.depth_m, depth)
    assert np.array_equal(frame.valid, valid)
    assert frame.stamp_ns == 17
    assert np.allclose(np.pad(frame.camera.distortion, (0, 8 - len(frame.camera.distortion))),
                       [0.1, 0, 0.01, 0, 0, 0, 0, 0])
