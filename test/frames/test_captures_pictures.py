# SPDX-License-Identifier: Apache-2.0
"""Pictures, depth and masks as they are on disk: alpha, bit depths, sizes, units, damage."""

import contextlib
import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from tiny_capture import HEIGHT, WIDTH, write_capture

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.depth_files import DepthFile, valid_values
from lerf_ros.frames.image_files import MaskFile, read_image, read_mask

RGB = (200, 100, 50)


def picture(mode, value, size=(8, 6)):
    """The bytes of a PNG of one value."""
    out = io.BytesIO()
    Image.new(mode, size, value).save(out, 'PNG')
    return out.getvalue()


def stored(tmp_path, data, name='a.png'):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


# Pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize('mode, value, expected', [
    ('RGB', RGB, RGB), ('L', 77, (77, 77, 77)), ('RGBA', (*RGB, 255), RGB),
    ('LA', (77, 255), (77, 77, 77)), ('1', 1, (255, 255, 255))])
def test_every_kind_of_png_becomes_rgb(tmp_path, mode, value, expected):
    image, valid = read_image(stored(tmp_path, picture(mode, value)))
    assert image.shape == (6, 8, 3) and image.dtype == np.uint8 and valid is None
    assert tuple(image[3, 4]) == expected


def test_a_palette_and_a_cmyk_jpeg(tmp_path):
    rgb = Image.new('RGB', (8, 6), RGB)
    rgb.convert('P', palette=Image.Palette.ADAPTIVE).save(tmp_path / 'p.png')
    rgb.convert('CMYK').save(tmp_path / 'c.jpg', quality=95)
    for name in ('p.png', 'c.jpg'):
        image, valid = read_image(tmp_path / name)
        assert valid is None
        np.testing.assert_allclose(image[3, 4], RGB, atol=3)   # the JPEG's loss


@given(st.integers(0, 255))
def test_sixteen_bits_become_eight(value):
    # 257 times a value of 8 bits is the same share of 65535.
    data = cv2.imencode('.png', np.full((2, 2, 3), value * 257, np.uint16))[1].tobytes()
    if 0 < value * 257 <= 4095:
        return   # the case below
    assert (read_image(InMemory('a.png', data))[0] == value).all()


def test_twelve_bits_in_sixteen_are_refused_instead_of_read_as_black(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((6, 8), 4095, np.uint16))
    with pytest.raises(DatasetError, match='10 or 12 bits'):
        read_image(tmp_path / 'a.png')


class InMemory:
    """A file that is nowhere, with what readers ask of one."""

    def __init__(self, name, data):
        self.name, self._data = name, data

    def read_bytes(self):
        return self._data


def rgba(alpha):
    """A picture of one colour under this alpha (H, W) uint8, as PNG bytes."""
    image = np.dstack([np.full(alpha.shape, c, np.uint8) for c in RGB] + [alpha])
    out = io.BytesIO()
    Image.fromarray(image).save(out, 'PNG')
    return out.getvalue()


def test_alpha_is_a_mask(tmp_path):
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[:, 0], alpha[:, 1], alpha[:, 2] = 0, 128, 254
    image, valid = read_image(stored(tmp_path, rgba(alpha)))
    # Half transparent shows two things at once; what is opaque but for rounding counts.
    assert valid[0].tolist() == [False, False, True, True, True, True, True, True]
    assert tuple(image[0, 5]) == RGB
    with pytest.raises(DatasetError, match='transparent everywhere'):
        read_image(stored(tmp_path, rgba(np.zeros((6, 8), np.uint8)), 'b.png'))


def test_hidden_colours_are_in_no_shrunk_pixel_that_is_learned(tmp_path):
    def hide(frame, number):
        image = np.full((HEIGHT, WIDTH, 4), (10, 10, 10, 255), np.uint8)
        image[:, :5] = (250, 250, 250, 0)   # ends within a pixel of the shrunk image
        cv2.imwrite(str(tmp_path / frame['file_path']), image)
    folder = load_folder(write_capture(tmp_path, 2, hide), max_side=WIDTH // 2)
    frame = folder.frames[0]
    assert folder.masked and 'alpha channel' in folder.notes[0] and '2 images' in folder.notes[0]
    assert frame.valid[0].tolist() == [False] * 3 + [True] * 7
    assert (frame.image[frame.valid] == 10).all()


def test_alpha_and_masks_are_ignored_together(tmp_path):
    def both(frame, number):
        alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
        alpha[0] = 0
        (tmp_path / frame['file_path']).write_bytes(rgba(alpha))
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[:, 0] = 0
        cv2.imwrite(str(tmp_path / 'mask.png'), mask)
        frame['mask_path'] = 'mask.png'
    valid = load_folder(write_capture(tmp_path, 1, both)).frames[0].valid
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[0] = expected[:, 0] = False
    np.testing.assert_array_equal(valid, expected)


def huge():
    """A PNG whose header promises 40,000 x 40,000 pixels."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))
    header = struct.pack('>IIBBBBB', 40000, 40000, 8, 0, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b''))


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
PNG, JPEG = (cv2.imencode(end, NOISE)[1].tobytes() for end in ('.png', '.jpg'))


@pytest.mark.parametrize('name, data, part', [
    ('a.png', b'', 'is empty'), ('a.png', b'no image', 'not an image'), ('a.png', huge(), 'pixels'),
    ('a.png', PNG[:len(PNG) // 2], 'cut off'), ('a.jpg', JPEG[:len(JPEG) // 2], 'cut off'),
    ('a.png', PNG[:40] + bytes(len(PNG) - 52) + PNG[-12:], 'not an image'),
    ('a.jpg', b'\0\0\0\x18ftypheic' + bytes(90), 'pip install pillow-heif'),
    ('a.HEIC', b'anything', 'pip install pillow-heif')])
def test_what_is_no_picture_is_said_in_words(tmp_path, monkeypatch, name, data, part):
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    with pytest.raises(DatasetError, match=part):
        read_image(stored(tmp_path, data, name))


@given(st.binary(max_size=200), st.sampled_from(['.png', '.jpg', '.tif', '.exr', '.npy', '.npz']))
def test_no_bytes_raise_anything_but_dataset_error(data, end):
    for read in (read_image, lambda f: DepthFile(f).read(), lambda f: read_mask(MaskFile(f))):
        with contextlib.suppress(DatasetError):
            read(InMemory(f'a{end}', data))


# Masks --------------------------------------------------------------------------------------


def test_masks_of_different_kinds(tmp_path):
    half = np.zeros((6, 8), np.uint8)
    half[:, 4:] = 255
    expected = half > 0
    cv2.imwrite(str(tmp_path / 'grey.png'), half)
    cv2.imwrite(str(tmp_path / 'ones.png'), half // 255)   # 0 and 1
    cv2.imwrite(str(tmp_path / 'noisy.jpg'), np.where(expected, 250, 9).astype(np.uint8))
    cv2.imwrite(str(tmp_path / 'cut.png'), np.dstack([np.full((6, 8, 3), 255, np.uint8), half]))
    for name in ('grey.png', 'ones.png', 'noisy.jpg', 'cut.png'):
        np.testing.assert_array_equal(read_mask(MaskFile(tmp_path / name)), expected, name)
    np.testing.assert_array_equal(read_mask(MaskFile(tmp_path / 'grey.png', True)), ~expected)


def test_dynamic_masks_of_instant_ngp_are_white_where_ignored(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :3] = 255
    folder = write_capture(tmp_path, 2)
    cv2.imwrite(str(tmp_path / 'images' / 'dynamic_mask_000.png'), mask)
    frames = load_folder(folder).frames
    np.testing.assert_array_equal(frames[0].valid, mask == 0)
    assert frames[1].valid is None


def test_a_crop_radius_leaves_a_disc(tmp_path):
    frame = load_folder(write_capture(
        tmp_path, 1, camera_model='OPENCV_FISHEYE', fisheye_crop_radius=5.0)).frames[0]
    # The disc around the middle: pi 5^2 = 78.5 pixels; corners are out, the middle is in.
    assert abs(frame.valid.sum() - 78.5) < 5
    assert frame.valid[HEIGHT // 2, WIDTH // 2] and not frame.valid[0, 0]


# Depth --------------------------------------------------------------------------------------


def depth_file(tmp_path, array, name='d.png'):
    path = tmp_path / name
    if path.suffix == '.npy':
        np.save(path, array)
    elif path.suffix == '.npz':
        np.savez(path, depth=array)
    else:
        cv2.imwrite(str(path), array)
    return path


@pytest.mark.parametrize('name, array', [
    ('d.png', np.full((6, 8), 1500, np.uint16)), ('d.tif', np.full((6, 8), 1.5, np.float32)),
    ('d.npy', np.full((6, 8), 1.5)), ('d.npy', np.full((6, 8, 1), 1.5, np.float16)),
    ('d.npy', np.full((6, 8), 1500, np.int32)), ('d.npz', np.full((6, 8), 1.5)),
    ('d.png', np.full((6, 8, 3), 1500, np.uint16))])
def test_whole_numbers_are_millimetres_and_floats_metres(tmp_path, name, array):
    depth_m = DepthFile(depth_file(tmp_path, array, name)).read()
    assert depth_m.shape == (6, 8) and depth_m.dtype == np.float32
    np.testing.assert_allclose(depth_m, 1.5)


@pytest.mark.parametrize('kind', [np.float16, np.float32])
def test_exr(tmp_path, kind):
    OpenEXR = pytest.importorskip('OpenEXR')
    for names in (['Z'], ['R', 'G', 'B']):
        channels = {name: np.full((6, 8), 1.5 if name in 'RZ' else 0, kind) for name in names}
        OpenEXR.File({}, channels).write(str(tmp_path / 'd.exr'))
        np.testing.assert_allclose(DepthFile(tmp_path / 'd.exr').read(), 1.5)


def test_exr_without_a_reader_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'OpenEXR', None)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: None)
    with pytest.raises(DatasetError, match='pip install OpenEXR'):
        DepthFile(stored(tmp_path, b'v/1\x01', 'd.exr')).read()


@pytest.mark.parametrize('kind, nothing', [
    (np.uint16, [0, 65535]), (np.int16, [0, -1, 32767]), (np.uint8, [0, 255]),
    (np.float32, [0, -1, np.nan, np.inf, -np.inf, np.finfo(np.float32).max, 1e10]),
    (np.float16, [0, np.nan, np.inf, 65504])])
def test_every_number_that_means_nothing_is_unknown(kind, nothing):
    array = np.array([*nothing, 7], kind)[None]
    assert valid_values(array).tolist() == [[0.0] * len(nothing) + [7.0]]


@given(arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_depth_is_finite_and_not_negative(array):
    depth = valid_values(array)
    assert np.isfinite(depth).all() and (depth >= 0).all()


@pytest.mark.parametrize('array, part', [
    (np.full((6, 8), 200, np.uint8), '8 bits'),
    (np.zeros((6, 8, 4), np.uint8), 'one channel'),
    (np.dstack([np.full((6, 8), v, np.uint16) for v in (1, 2, 3)]), 'one channel')])
def test_what_is_no_depth_is_refused(tmp_path, array, part):
    with pytest.raises(DatasetError, match=part):
        DepthFile(depth_file(tmp_path, array)).read()


def test_eight_bits_with_a_unit_are_what_the_file_says(tmp_path):
    def write(frame, number):
        cv2.imwrite(str(tmp_path / 'd.png'), np.full((HEIGHT, WIDTH), 150, np.uint8))
        frame['depth_file_path'] = 'd.png'
    frame = load_folder(write_capture(tmp_path, 1, write, depth_unit_scale_factor=0.02)).frames[0]
    np.testing.assert_allclose(frame.depth_m, 3.0)


def test_floats_that_must_be_millimetres_are_refused(tmp_path):
    path = depth_file(tmp_path, np.full((6, 8), 1500.0), 'd.npy')
    with pytest.raises(DatasetError, match='median of 1500'):
        DepthFile(path).read()
    np.testing.assert_allclose(DepthFile(path, 0.001).read(), 1.5)


def test_archives_of_several_arrays(tmp_path):
    np.savez(tmp_path / 'd.npz', depth=np.full((6, 8), 1.5), mask=np.ones((6, 8)))
    np.testing.assert_allclose(DepthFile(tmp_path / 'd.npz').read(), 1.5)
    np.savez(tmp_path / 'd.npz', a=np.ones((6, 8)), b=np.ones((6, 8)))
    with pytest.raises(DatasetError, match='holds the arrays a, b'):
        DepthFile(tmp_path / 'd.npz').read()


def with_depth(tmp_path, array, **fields):
    """A frame with depth in instant-ngp's words."""
    def write(frame, number):
        cv2.imwrite(str(tmp_path / 'images' / '000.depth.png'), array)
        frame.update(file_path='images/000', depth_path='images/000.depth.png')
    return load_folder(write_capture(tmp_path, 1, write, **fields))


def test_depth_of_instant_ngp(tmp_path):
    array = np.full((HEIGHT, WIDTH), 3000, np.uint16)
    folder = with_depth(tmp_path, array, integer_depth_scale=10 / 65535)
    np.testing.assert_allclose(folder.frames[0].depth_m, 3000 * 10 / 65535, rtol=1e-6)
    assert folder.metric and folder.has_depth
    off = with_depth(tmp_path, array, integer_depth_scale=1.0, enable_depth_loading=False)
    assert off.frames[0].depth_m is None and 'enable_depth_loading' in off.notes[0]
    with pytest.raises(DatasetError, match='without integer_depth_scale'):
        with_depth(tmp_path, array)
    with pytest.raises(DatasetError, match='must be positive'):
        with_depth(tmp_path, array, integer_depth_scale=-1.0)


def test_depth_and_masks_of_another_size_are_resized_by_nearest_pixels(tmp_path):
    small = np.array([[1000, 2000], [3000, 0]], np.uint16).repeat(2, 0).repeat(2, 1)   # 4x4

    def write(frame, number):
        cv2.imwrite(str(tmp_path / 'd.png'), small[:, :, None].repeat(1, 2))
        cv2.imwrite(str(tmp_path / 'm.png'), (small > 0).astype(np.uint8) * 255)
        frame.update(depth_file_path='d.png', mask_path='m.png', w=20, h=20, cy=9.0)
        cv2.imwrite(str(tmp_path / frame['file_path']), np.zeros((20, 20, 3), np.uint8))
    frame = load_folder(write_capture(tmp_path, 1, write)).frames[0]
    expected = np.zeros((20, 20))
    expected[:10, :10], expected[:10, 10:], expected[10:, :10] = 1.0, 2.0, 3.0
    np.testing.assert_allclose(frame.depth_m, expected, rtol=1e-6)
    np.testing.assert_array_equal(frame.valid, expected > 0)


@pytest.mark.parametrize('height, width, fits', [
    (8, 10, True), (32, 40, True), (6, 10, False), (10, 10, False), (20, 16, False)])
def test_other_proportions_are_refused(tmp_path, height, width, fits):
    def write(frame, number):
        cv2.imwrite(str(tmp_path / 'd.png'), np.full((height, width), 1500, np.uint16))
        frame['depth_file_path'] = 'd.png'
    frames = load_folder(write_capture(tmp_path, 1, write)).frames   # of 20x16
    if fits:
        np.testing.assert_allclose(frames[0].depth_m, 1.5)
    else:
        with pytest.raises(DatasetError, match='proportions differ'):
            frames[0]
