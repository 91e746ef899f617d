# SPDX-License-Identifier: Apache-2.0
"""Colour encodings of cameras: each gives back the colours that were put into it."""

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='the ROS 2 message packages are not installed')

from sensor_msgs.msg import Image

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common import conversions as c
from lerf_ros.nodes.common.conversions import ColorReader

pytestmark = pytest.mark.ros
H, W = 8, 12


def message(encoding, pixels, height=H, width=W, big=0):
    pixels = np.ascontiguousarray(pixels)
    return Image(height=height, width=width, encoding=encoding, data=pixels.tobytes(),
                 step=pixels.strides[0], is_bigendian=big)


def yuv(color):
    """(Y, U, V) of a colour: BT.601 in video range, written out."""
    r, g, b = np.array(color) / 255
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u = 128 - 37.797 * r - 74.203 * g + 112.0 * b
    v = 128 + 112.0 * r - 93.786 * g - 18.214 * b
    return np.rint([y, u, v]).astype(np.uint8)


COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (90, 90, 90)]


@pytest.mark.parametrize('color', COLORS)
@pytest.mark.parametrize(('encoding', 'order'), [
    ('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuyv', 'yuyv'), ('yuv422_yuy2', 'yuyv')])
def test_pairs_of_pixels_share_their_colour(encoding, order, color):
    y, u, v = yuv(color)
    pair = {'uyvy': [u, y, v, y], 'yuyv': [y, u, y, v]}[order]
    rgb = c.image_to_rgb(message(encoding, np.tile(np.array(pair, np.uint8), (H, W // 2))))
    assert rgb.shape == (H, W, 3)
    assert np.abs(rgb.astype(int) - color).max() <= 3


@pytest.mark.parametrize('color', COLORS)
@pytest.mark.parametrize(('encoding', 'second'), [('nv12', (1, 2)), ('nv21', (2, 1))])
def test_a_quarter_of_the_colours_lies_behind_the_grey_levels(encoding, second, color):
    planes = yuv(color)
    data = np.concatenate([np.full((H, W), planes[0]),
                           np.tile(planes[list(second)], (H // 2, W // 2))])
    rgb = c.image_to_rgb(message(encoding, data))
    assert rgb.shape == (H, W, 3)
    assert np.abs(rgb.astype(int) - color).max() <= 3


@pytest.mark.parametrize('color', COLORS[:4])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_a_mosaic_of_one_colour_is_that_colour(pattern, bits, color):
    kind = np.dtype(f'u{bits // 8}')
    cell = np.array([color['rgb'.index(p)] for p in pattern], kind).reshape(2, 2)
    mosaic = np.tile(cell * (257 if bits == 16 else 1), (H // 2, W // 2)).astype(kind)
    rgb = c.image_to_rgb(message(f'bayer_{pattern}{bits}', mosaic), bits)
    assert (rgb[2:-2, 2:-2] == color).all()


@pytest.mark.parametrize(('encoding', 'order'), [('rgb16', (0, 1, 2)), ('bgr16', (2, 1, 0))])
def test_sixteen_bits_keep_their_upper_eight(encoding, order):
    pixels = np.array([0x1234, 0x5678, 0x9ABC], np.uint16)[list(order)]
    rgb = c.image_to_rgb(message(encoding, np.tile(pixels, (H, W, 1)).reshape(H, -1)))
    assert (rgb == (0x12, 0x56, 0x9A)).all()


def test_names_in_other_letters_and_opencv_names():
    pixels = np.tile(np.array([10, 20, 30], np.uint8), (H, W))
    notes = []
    assert (c.image_to_rgb(message('RGB8', pixels)) == (10, 20, 30)).all()
    assert (c.image_to_rgb(message('8UC3', pixels), note=notes.append) == (30, 20, 10)).all()
    assert len(notes) == 1 and 'blue first' in notes[0]
    assert (c.image_to_rgb(message('8UC1', pixels[:, :W])) == pixels[:, :W, None]).all()


def test_sizes_that_an_encoding_cannot_have_are_refused():
    with pytest.raises(FrameError, match='needs even'):
        c.image_to_rgb(message('yuyv', np.zeros((H, 6), np.uint8), width=3))
    with pytest.raises(FrameError, match='expected a step'):
        c.image_to_rgb(message('nv12', np.zeros((H, W), np.uint8)))     # the colours are missing


def reader(bits=0):
    notes = []
    return ColorReader('eye', bits, lambda reason, text: notes.append(text)), notes


def gray(*values):
    return message('mono16', np.array([values], '<u2'), 1, len(values))


def test_bits_that_a_camera_does_not_use_are_found_by_its_largest_value():
    """12 bits: 4095 becomes 255, 2048 becomes 128. It is said, and more bits are taken later."""
    colors, notes = reader()
    assert colors.read(gray(4095, 2048))[..., 0].tolist() == [[255, 128]]
    assert '12 bits' in notes[-1] and 'image_bits' in notes[-1]
    assert colors.read(gray(255, 0))[..., 0].tolist() == [[15, 0]]      # it stays a 12-bit camera
    colors.read(gray(65535))
    assert colors.read(gray(4095))[..., 0].tolist() == [[15]]


def test_bits_that_are_given_hold():
    colors, notes = reader(bits=12)
    assert colors.read(gray(255, 4080))[..., 0].tolist() == [[15, 255]] and not notes
    with pytest.raises(FrameError, match='values up to 5000.*image_bits'):
        colors.read(gray(5000))


def slope(dtype):
    """Depth in millimetres or metres that falls and rises a little, as surfaces do."""
    mm = 900 + 3 * np.arange(40)[:, None] + np.arange(60) ** 2 // 9
    return (mm if dtype[1] == 'u' else mm / 1000).astype(dtype)


@pytest.mark.parametrize(('encoding', 'dtype', 'unit'), [('16UC1', '<u2', 1e-3),
                                                         ('32FC1', '<f4', 1.0)])
def test_a_wrong_byte_order_is_seen_named_and_mended(encoding, dtype, unit):
    depth, notes = slope(dtype), []
    for big in (0, 1):
        msg = message(encoding, depth, 40, 60, big)
        np.testing.assert_allclose(c.depth_to_metres(msg, note=notes.append), depth * unit,
                                   rtol=1e-6)
        assert len(notes) == big
    assert 'is_bigendian' in notes[0]


def test_values_shifted_to_the_left_are_not_taken_for_a_wrong_byte_order():
    levels = (cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8),
                               (9, 9), 3).astype('<u2') << 8)
    notes = []
    rgb = c.image_to_rgb(message('mono16', levels, 40, 60), note=notes.append)
    assert not notes and (rgb[..., 0] == levels >> 8).all()
