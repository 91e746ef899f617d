# SPDX-License-Identifier: Apache-2.0
"""Exports of Polycam, Record3D and COLMAP: small ones with known cameras, read back."""

import json
import struct
import zipfile

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny_capture import HEIGHT, INTRINSICS, OPENGL, WIDTH, blue, color, true_pose

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.load import load_folder

# Of a world with y up, as ARKit's, to the same world with z up.
ARKIT_TO_WORLD = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
DEPTH_MM = np.full((HEIGHT // 4, WIDTH // 4), 1500, np.uint16)
CONFIDENCE = np.array([[0, 1, 2, 2, 2]] * 4, np.uint8)


def arkit_pose(number):
    """The pose that ARKit would say of the true one: y up, OpenGL axes."""
    return np.linalg.inv(ARKIT_TO_WORLD) @ true_pose(number) @ OPENGL


def check(folder, count=3):
    """Poses, cameras and images are the true ones, in order."""
    assert len(folder.frames) == count
    for number in range(count):
        frame = folder.frames[number]
        np.testing.assert_allclose(frame.T_world_camera, true_pose(number), atol=1e-9)
        camera = frame.camera
        assert (camera.width, camera.height) == (WIDTH, HEIGHT)
        np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy],
                                   [22.0, 23.0, 10.5, 7.5], rtol=1e-6)
        assert abs(blue(frame) - 40 - 20 * number) <= 3   # the loss of JPEG


# Polycam ------------------------------------------------------------------------------------


def polycam(folder, corrected=True, count=3):
    """Raw data; where they are corrected, the poses of the telephone are wrong."""
    keyframes = folder / 'keyframes'
    for part in ('images', 'cameras', 'depth', 'confidence'):
        (keyframes / part).mkdir(parents=True)
    for number in range(count):
        stamp = 1_700_000_000_000 + number
        write_keyframe(keyframes, '', stamp, number,
                       np.eye(4) if corrected else arkit_pose(number))
        if corrected:
            for part in ('corrected_images', 'corrected_cameras'):
                (keyframes / part).mkdir(exist_ok=True)
            write_keyframe(keyframes, 'corrected_', stamp, number, arkit_pose(number))
        cv2.imwrite(str(keyframes / 'depth' / f'{stamp}.png'), DEPTH_MM)
        cv2.imwrite(str(keyframes / 'confidence' / f'{stamp}.png'), CONFIDENCE * 127)
    return folder


def write_keyframe(keyframes, prefix, stamp, number, T):
    cv2.imwrite(str(keyframes / f'{prefix}images' / f'{stamp}.jpg'), color(number))
    camera = {'fx': 22.0, 'fy': 23.0, 'cx': 10.5, 'cy': 7.5, 'width': WIDTH, 'height': HEIGHT,
              'blur_score': 100, **{f't_{i}{j}': T[i, j] for i in range(3) for j in range(4)}}
    (keyframes / f'{prefix}cameras' / f'{stamp}.json').write_text(json.dumps(camera))


@pytest.mark.parametrize('corrected', [True, False])
def test_polycam(tmp_path, corrected):
    folder = load_folder(polycam(tmp_path, corrected))
    check(folder)
    assert folder.metric and folder.has_depth
    assert folder.frames[1].stamp_ns == 1_700_000_000_001_000
    assert folder.masked is corrected and bool(folder.notes) is not corrected
    # Depth is four times smaller; its first column is of low confidence.
    depth_m = folder.frames[0].depth_m
    assert (depth_m[:, :4] == 0).all()
    np.testing.assert_allclose(depth_m[:, 4:], 1.5)


def test_polycams_border_is_ignored(tmp_path):
    for name in ('images', 'cameras'):
        (tmp_path / 'keyframes' / f'corrected_{name}').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'keyframes/corrected_images/1.jpg'), np.zeros((60, 80, 3), np.uint8))
    T = arkit_pose(0)
    (tmp_path / 'keyframes/corrected_cameras/1.json').write_text(json.dumps(
        {'fx': 70, 'fy': 70, 'cx': 40, 'cy': 30, 'width': 80, 'height': 60,
         **{f't_{i}{j}': T[i, j] for i in range(3) for j in range(4)}}))
    valid = load_folder(tmp_path).frames[0].valid
    assert valid.sum() == (60 - 30) * (80 - 30) and valid[15, 15] and not valid[14, 14]


def test_what_is_broken_in_polycams_export(tmp_path):
    polycam(tmp_path, corrected=False)
    camera = tmp_path / 'keyframes' / 'cameras' / '1700000000000.json'
    content = json.loads(camera.read_text())
    (tmp_path / 'keyframes' / 'images' / '1700000000001.jpg').unlink()
    assert any('without an image' in note for note in load_folder(tmp_path).notes)
    camera.write_text(json.dumps({k: v for k, v in content.items() if k != 't_23'}))
    with pytest.raises(DatasetError, match=r"no camera of Polycam's: KeyError 't_23'"):
        load_folder(tmp_path)


# Record3D -----------------------------------------------------------------------------------


def record3d_metadata(count, **more):
    poses = [[*Rotation.from_matrix(arkit_pose(n)[:3, :3]).as_quat(), *arkit_pose(n)[:3, 3]]
             for n in range(count)]
    return json.dumps({'w': WIDTH, 'h': HEIGHT, 'dw': WIDTH // 4, 'dh': HEIGHT // 4, 'fps': 30,
                       'K': [22.0, 0, 0, 0, 23.0, 0, 10.5, 7.5, 1.0], 'poses': poses,
                       'frameTimestamps': [2.5 + n for n in range(count)], **more})


def record3d(folder, count=3, compress=bytes, **more):
    """An unpacked archive of Record3D."""
    (folder / 'rgbd').mkdir(parents=True)
    (folder / 'metadata').write_text(record3d_metadata(count, **more))
    depth_m = (DEPTH_MM / 1000).astype(np.float32)
    depth_m[0, 4] = np.nan
    for number in range(count):
        cv2.imwrite(str(folder / 'rgbd' / f'{number}.jpg'), color(number))
        (folder / 'rgbd' / f'{number}.depth').write_bytes(compress(depth_m.tobytes()))
        (folder / 'rgbd' / f'{number}.conf').write_bytes(compress(CONFIDENCE.tobytes()))
    return folder


def check_record3d(folder):
    check(folder, 11)   # 10 comes after 9
    assert folder.metric and folder.frames[1].stamp_ns == 3_500_000_000
    depth_m = folder.frames[10].depth_m
    assert (depth_m[:, :4] == 0).all() and (depth_m[:4, 16:] == 0).all()
    np.testing.assert_allclose(depth_m[4:, 4:], 1.5)


def test_record3d_unpacked_and_as_an_archive(tmp_path):
    check_record3d(load_folder(record3d(tmp_path / 'a', 11)))
    path = tmp_path / 'b' / 'capture.r3d'
    path.parent.mkdir()
    with zipfile.ZipFile(path, 'w') as archive:
        for file in sorted((tmp_path / 'a').rglob('*')):
            archive.write(file, file.relative_to(tmp_path / 'a'))
    check_record3d(load_folder(path))
    check_record3d(load_folder(path.parent))


def test_record3ds_compression(tmp_path):
    liblzfse = pytest.importorskip('liblzfse')
    check_record3d(load_folder(record3d(tmp_path, 11, liblzfse.compress)))


def test_record3ds_compression_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'liblzfse', None)
    frames = load_folder(record3d(tmp_path, 2, lambda data: b'bvx2' + data[:40])).frames
    with pytest.raises(DatasetError, match='pip install pyliblzfse'):
        frames[0]


def test_record3d_exported_as_exr(tmp_path):
    OpenEXR = pytest.importorskip('OpenEXR')
    for part in ('rgb', 'depth'):
        (tmp_path / part).mkdir()
    (tmp_path / 'metadata.json').write_text(record3d_metadata(2))
    for number in range(2):
        cv2.imwrite(str(tmp_path / 'rgb' / f'{number}.jpg'), color(number))
        OpenEXR.File({}, {'R': np.full(DEPTH_MM.shape, 1.5, np.float16)}).write(
            str(tmp_path / 'depth' / f'{number}.exr'))
    folder = load_folder(tmp_path)
    check(folder, 2)
    np.testing.assert_allclose(folder.frames[0].depth_m, 1.5)


def test_record3ds_intrinsics_of_each_image_and_of_another_size(tmp_path):
    folder = record3d(tmp_path, 2, perFrameIntrinsicCoeffs=[[22, 23, 10.5, 7.5], [30, 31, 9, 8]])
    cv2.imwrite(str(folder / 'rgbd' / '1.jpg'), np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))
    camera = load_folder(folder).frames[1].camera
    assert (camera.width, camera.height) == (2 * WIDTH, 2 * HEIGHT)
    np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy], [60, 62, 18, 16])


def test_what_is_broken_in_record3ds_files(tmp_path):
    folder = record3d(tmp_path / 'a', 3)
    (folder / 'metadata').write_text(record3d_metadata(2))
    assert 'without a pose' in load_folder(folder).notes[0]
    (folder / 'metadata').write_text('{}')
    with pytest.raises(DatasetError, match='no metadata with poses'):
        load_folder(folder)
    (tmp_path / 'b.r3d').write_bytes(b'no archive')
    with pytest.raises(DatasetError, match='no archive of Record3D'):
        load_folder(tmp_path / 'b.r3d')


# COLMAP -------------------------------------------------------------------------------------

NUMBERS = {'PINHOLE': 1, 'OPENCV': 4, 'OPENCV_FISHEYE': 5, 'FULL_OPENCV': 6}


def colmap(folder, binary, model='PINHOLE', lens=(), count=3, name='{:03d}.jpg'):
    """A workspace with one camera; the images are not listed in order."""
    sparse = folder / 'sparse' / '0'
    sparse.mkdir(parents=True)
    (folder / 'images').mkdir(exist_ok=True)
    write_cameras, write_images = ((binary_cameras, binary_images) if binary else
                                   (text_cameras, text_images))
    write_cameras(sparse, model, [22.0, 23.0, 10.5, 7.5, *lens])
    rows = []
    for number in reversed(range(count)):
        T = np.linalg.inv(true_pose(number))
        q = Rotation.from_matrix(T[:3, :3]).as_quat()
        rows.append((number + 1, [q[3], *q[:3]], T[:3, 3], name.format(number)))
        (folder / 'images' / rows[-1][3]).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / 'images' / rows[-1][3]), color(number))
    write_images(sparse, rows)
    return folder


def text_cameras(sparse, model, parameters):
    (sparse / 'cameras.txt').write_text(
        f'# Camera list\n7 {model} {WIDTH} {HEIGHT} {" ".join(map(str, parameters))}\n')


def text_images(sparse, rows):
    lines = ['# Image list with two lines of data per image:', '# Number of images: 3']
    for number, q, t, name in rows:
        lines.append(f'{number} {" ".join(map(repr, map(float, [*q, *t])))} 7 {name}')
        lines.append('1.5 2.5 -1 3.0 4.0 12' if number % 2 else '')   # without points: empty
    (sparse / 'images.txt').write_text('\n'.join(lines) + '\n')


def binary_cameras(sparse, model, parameters):
    (sparse / 'cameras.bin').write_bytes(
        struct.pack('<QiiQQ', 1, 7, NUMBERS[model], WIDTH, HEIGHT)
        + struct.pack(f'<{len(parameters)}d', *parameters))


def binary_images(sparse, rows):
    data = struct.pack('<Q', len(rows))
    for number, q, t, name in rows:
        points = [(1.5, 2.5, -1), (3.0, 4.0, 12)][:number % 3]
        data += struct.pack('<i7di', number, *q, *t, 7) + name.encode() + b'\0'
        data += struct.pack('<Q', len(points)) + b''.join(struct.pack('<ddq', *p) for p in points)
    (sparse / 'images.bin').write_bytes(data)


@pytest.mark.parametrize('binary', [True, False])
@pytest.mark.parametrize('name', ['{:03d}.jpg', 'left cam/{:03d} ö.png'])
def test_colmap(tmp_path, binary, name):
    folder = load_folder(colmap(tmp_path, binary, name=name))
    check(folder)
    assert not folder.metric and not folder.has_depth and folder.notes == ()
    assert folder.names == tuple(name.format(n) for n in range(3))
    assert load_folder(tmp_path, scale=2.0).metric


@pytest.mark.parametrize('binary', [True, False])
@pytest.mark.parametrize('model, lens, expected', [
    ('OPENCV', [.1, .2, .3, .4], (.1, .2, .3, .4, 0)),
    ('OPENCV_FISHEYE', [.1, .2, .3, .4], (.1, .2, .3, .4)),
    ('FULL_OPENCV', [.1, .2, .3, .4, .5, .6, .7, .8], (.1, .2, .3, .4, .5, .6, .7, .8))])
def test_lenses_of_colmap(tmp_path, binary, model, lens, expected):
    camera = load_folder(colmap(tmp_path, binary, model, lens)).frames[0].camera
    assert camera.distortion == expected and (camera.model == 'fisheye') == ('FISH' in model)


@pytest.mark.parametrize('place', ['sparse', 'colmap/sparse/0', '.'])
def test_where_colmaps_models_are(tmp_path, place):
    colmap(tmp_path, True)
    files = [(tmp_path / 'sparse' / '0' / f'{n}.bin') for n in ('cameras', 'images')]
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for file in files:
        file.rename(tmp_path / place / file.name)
    check(load_folder(tmp_path))


def test_of_several_models_the_largest_is_read(tmp_path):
    colmap(tmp_path / 'small', True, count=2)
    colmap(tmp_path, True)
    (tmp_path / 'small' / 'sparse' / '0').rename(tmp_path / 'sparse' / '1')
    folder = load_folder(tmp_path)
    check(folder)
    assert 'made 2 models' in folder.notes[0] and str(tmp_path / 'sparse' / '0') in folder.notes[0]


def test_masks_of_colmap(tmp_path):
    colmap(tmp_path, True)
    (tmp_path / 'masks').mkdir()
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[0] = 0
    cv2.imwrite(str(tmp_path / 'masks' / '001.jpg.png'), mask)
    frames = load_folder(tmp_path).frames
    np.testing.assert_array_equal(frames[1].valid, mask > 0)
    assert frames[0].valid is None


def test_what_is_broken_in_colmaps_files(tmp_path):
    colmap(tmp_path, True)
    (tmp_path / 'images' / '000.jpg').unlink()
    assert load_folder(tmp_path).notes == (
        'images that do not exist are left out (1 image: 000.jpg)',)
    (tmp_path / 'images' / '001.jpg').unlink()
    with pytest.raises(DatasetError, match='has 3 images, of which 2 are not in'):
        load_folder(tmp_path)
    images = tmp_path / 'sparse' / '0' / 'images.bin'
    images.write_bytes(images.read_bytes()[:90])
    with pytest.raises(DatasetError, match='colmap model_converter'):
        load_folder(tmp_path)
    cameras = tmp_path / 'sparse' / '0' / 'cameras.bin'
    cameras.write_bytes(struct.pack('<QiiQQ', 1, 7, 99, WIDTH, HEIGHT))
    with pytest.raises(DatasetError, match='model 99'):
        load_folder(tmp_path)


def test_a_transforms_json_goes_before_other_layouts(tmp_path):
    colmap(tmp_path, True)
    (tmp_path / 'transforms.json').write_text(json.dumps({**INTRINSICS, 'frames': [
        {'file_path': 'images/001.jpg', 'transform_matrix': np.eye(4).tolist()}]}))
    assert len(load_folder(tmp_path).frames) == 1
