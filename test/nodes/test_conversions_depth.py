# SPDX-License-Identifier: Apache-2.0
"""Depth as cameras publish it: units, numbers that mean nothing, RVL."""

import struct

import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='the ROS 2 message packages are not installed')
pytest.importorskip('hypothesis', reason='pip install hypothesis')

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common import conversions as c
from lerf_ros.nodes.common.conversions.depth import decode_rvl

pytestmark = pytest.mark.ros


def message(encoding, values, dtype):
    data = np.array([values], dtype)
    return Image(height=1, width=len(values), encoding=encoding, data=data.tobytes(),
                 step=data.nbytes)


@pytest.mark.parametrize(('encoding', 'dtype', 'values'), [
    ('16UC1', '<u2', [1500, 0, 65535]), ('mono16', '<u2', [1500, 0, 65535]),
    ('16SC1', '<i2', [1500, -3, 32767]), ('32FC1', '<f4', [1.5, np.nan, np.inf]),
    ('32FC1', '<f4', [1.5, -np.inf, -1.0]), ('32FC1', '<f4', [1.5, np.finfo('f4').max, 65504.0]),
    ('64FC1', '<f8', [1.5, np.finfo('f8').max, np.nan]), ('32SC1', '<i4', [1500, 0, 2**31 - 1]),
    ('32fc1', '<f4', [1.5, 0.0, 0.0])])
def test_numbers_that_mean_nothing_are_unknown(encoding, dtype, values):
    np.testing.assert_allclose(c.depth_to_metres(message(encoding, values, dtype)),
                               [[1.5, 0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(('encoding', 'dtype', 'value', 'unit_m'), [
    ('16UC1', '<u2', 15000, 1e-4), ('32FC1', '<f4', 1500.0, 1e-3), ('16UC1', '<u2', 384, 1 / 256)])
def test_a_unit_of_the_camera_holds_for_every_encoding(encoding, dtype, value, unit_m):
    depth = c.depth_to_metres(message(encoding, [value], dtype), unit_m)
    np.testing.assert_allclose(depth, [[1.5]], rtol=1e-6)


@pytest.mark.parametrize('encoding', ['8UC1', 'mono8'])
def test_eight_bits_are_no_depth(encoding):
    with pytest.raises(FrameError, match=f'{encoding}.*8 bits.*cannot hold depth'):
        c.depth_to_metres(message(encoding, [200], 'u1'))


def encode_rvl(pixels):
    """Wilson's encoder, a pixel and a bit group at a time."""
    groups, values, previous, i = [], [int(v) for v in pixels.reshape(-1)], 0, 0

    def write(number):
        while True:
            groups.append(number & 7 | (8 if number >> 3 else 0))
            number >>= 3
            if not number:
                return
    while i < len(values):
        start = i
        while i < len(values) and not values[i]:
            i += 1
        write(i - start)
        start = i
        while i < len(values) and values[i]:
            i += 1
        write(i - start)
        for value in values[start:i]:
            step, previous = value - previous, value
            write(step << 1 if step >= 0 else (-step << 1) - 1)
    groups += [0] * (-len(groups) % 8)
    words = [sum(g << (28 - 4 * k) for k, g in enumerate(groups[j:j + 8]))
             for j in range(0, len(groups), 8)]
    return struct.pack(f'<{len(words)}I', *words)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
                  elements=st.sampled_from([0, 0, 0, 1, 7, 8, 900, 901, 40000, 65535])
                  | st.integers(0, 65535)))
def test_rvl_comes_back(pixels):
    assert (decode_rvl(encode_rvl(pixels), pixels.shape[1], pixels.shape[0]) == pixels).all()


def packed(pixels, fmt='16UC1; compressedDepth rvl', parameters=(0.0, 0.0)):
    height, width = pixels.shape
    return CompressedImage(format=fmt, data=struct.pack('<iff', 0, *parameters)
                           + struct.pack('<II', width, height) + encode_rvl(pixels))


def test_rvl_of_millimetres_and_of_floats():
    pixels = np.array([[1500, 0, 0], [0, 65535, 2]], np.uint16)
    np.testing.assert_allclose(c.depth_to_metres(packed(pixels)), [[1.5, 0, 0], [0, 0, 0.002]])
    # A / metres + B with A = 10100, B = -9: a depth of 2 m is 5041.
    floats = packed(np.array([[5041, 0]], np.uint16), '32FC1; compressedDepth rvl', (10100.0, -9.0))
    np.testing.assert_allclose(c.depth_to_metres(floats), [[2.0, 0.0]], rtol=1e-6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_anything_else_behind_the_header_is_refused_in_words(data, width, height):
    msg = CompressedImage(format='16UC1; compressedDepth rvl', data=bytes(12)
                          + struct.pack('<II', width, height) + data)
    try:
        assert c.depth_to_metres(msg).shape == (height, width)
    except FrameError as error:
        assert 'damaged' in str(error)


def test_a_stream_that_is_cut_off_in_the_middle_is_refused():
    pixels = np.full((48, 64), 1200, np.uint16)
    pixels[:, 20:30] = 0
    msg = packed(pixels)
    msg.data = msg.data[:len(msg.data) // 2]
    with pytest.raises(FrameError, match='64x48 pixels: it is damaged'):
        c.depth_to_metres(msg)
