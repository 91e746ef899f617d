# SPDX-License-Identifier: Apache-2.0
"""Whatever is written into a capture's files: it is read, or DatasetError says what is wrong."""

import contextlib
import json
import struct

import cv2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_capture import INTRINSICS, OPENGL, color, true_pose

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.known_fields import HARMLESS, REFUSED, USED
from lerf_ros.frames.captures.load import load_folder

FIELDS = sorted((USED | HARMLESS | set(REFUSED)) - {'frames'}) + ['depth', 'K', 'anything']
NASTY = [None, True, 0, -1, 1.5, float('nan'), 10 ** 400, 'images/0.png', '', '\0', 'a' * 300,
         'OPENCV_FISHEYE', '../..', [], [0] * 6, [[]], {'a': 1}, [[1, 'x'], [None, 2]],
         [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], [[[1] * 4] * 4], [[1e300] * 4] * 4]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 30), st.floats(), st.text(max_size=4),
    st.sampled_from(NASTY),
    st.lists(st.one_of(st.floats(), st.none(), st.text(max_size=2)), max_size=6))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('any')
    (root / 'images').mkdir()
    for number in range(3):
        cv2.imwrite(str(root / f'images/{number}.png'), color(number))
    return root


def open_and_read(folder):
    with contextlib.suppress(DatasetError):
        for frame in load_folder(folder).frames:
            assert frame.image.any()


@pytest.mark.parametrize('own', [True, False])
def test_every_field_with_every_nasty_value(folder, own):
    for field in sorted(USED):
        for value in NASTY:
            write(folder, INTRINSICS if own else {**INTRINSICS, field: value},
                  {field: value} if own else {})
            open_and_read(folder)


def write(folder, of_file, of_frame):
    frames = [{'file_path': f'images/{n}.png', 'transform_matrix': (true_pose(n) @ OPENGL).tolist()}
              for n in range(3)]
    frames[1].update(of_frame)
    (folder / 'transforms.json').write_text(json.dumps({'frames': frames, **of_file}))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
       st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
       st.booleans())
def test_any_fields(folder, of_file, of_frame, fields_removed):
    write(folder, {**({} if fields_removed else INTRINSICS), **of_file}, of_frame)
    open_and_read(folder)


@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda v: json.dumps({'frames': v}).encode()),
                 VALUES.map(lambda v: json.dumps(v).encode())))
def test_any_bytes(folder, data):
    (folder / 'transforms.json').write_bytes(data)
    open_and_read(folder)


@given(st.dictionaries(st.sampled_from(['poses', 'K', 'w', 'h', 'dw', 'dh', 'frameTimestamps',
                                        'perFrameIntrinsicCoeffs']), VALUES))
def test_any_metadata_of_record3d(tmp_path_factory, changes):
    root = tmp_path_factory.mktemp('record3d')
    (root / 'rgbd').mkdir()
    for number in range(2):
        cv2.imwrite(str(root / f'rgbd/{number}.jpg'), color(number))
    content = {'poses': [[0, 0, 0, 1, 0, 0, 0]] * 2, 'K': [22, 0, 0, 0, 23, 0, 10, 8, 1],
               'w': 20, 'h': 16, **changes}
    (root / 'metadata').write_text(json.dumps(content))
    open_and_read(root)


@given(st.dictionaries(st.sampled_from(['fx', 'width', 't_00', 't_13', 'timestamp', 'cx']), VALUES))
def test_any_camera_of_polycam(tmp_path_factory, changes):
    root = tmp_path_factory.mktemp('polycam')
    for part in ('images', 'cameras'):
        (root / 'keyframes' / part).mkdir(parents=True)
    cv2.imwrite(str(root / 'keyframes/images/7.jpg'), color(0))
    T = true_pose(0)
    camera = {'fx': 22, 'fy': 23, 'cx': 10, 'cy': 8, 'width': 20, 'height': 16,
              **{f't_{i}{j}': T[i, j] for i in range(3) for j in range(4)}, **changes}
    (root / 'keyframes/cameras/7.json').write_text(json.dumps(camera))
    open_and_read(root)


@given(st.binary(max_size=150), st.binary(max_size=150), st.sampled_from(['.bin', '.txt']),
       st.booleans())
def test_any_model_of_colmap(tmp_path_factory, cameras, images, end, counted):
    root = tmp_path_factory.mktemp('colmap')
    (root / 'sparse').mkdir()
    count = struct.pack('<Q', 1) if counted else b''   # so that the rest is looked at
    (root / 'sparse' / f'cameras{end}').write_bytes(count + cameras)
    (root / 'sparse' / f'images{end}').write_bytes(count + images)
    open_and_read(root)
