# SPDX-License-Identifier: Apache-2.0
"""Whatever a publisher puts into a message: a converter returns a valid array or a FrameError."""

import struct

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='the ROS 2 message packages are not installed')
pytest.importorskip('hypothesis', reason='pip install hypothesis')

from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common import conversions as c
from lerf_ros.nodes.common.conversions.colors import COLOR_ENCODINGS
from lerf_ros.nodes.common.conversions.depth import DEPTH_ENCODINGS

pytestmark = pytest.mark.ros
settings.register_profile('messages', max_examples=60, deadline=None, derandomize=True)
settings.load_profile('messages')

ENCODINGS = st.sampled_from([*COLOR_ENCODINGS, *DEPTH_ENCODINGS, '8UC1', 'bayer_rggb8', '', 'x'])
SMALL = st.integers(0, 9)
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def images(draw):
    """Messages whose size, step and data may or may not fit."""
    encoding, width, height = draw(ENCODINGS), draw(SMALL), draw(SMALL)
    step = draw(st.one_of(st.just(0), st.integers(0, 100), st.just(2**32 - 1)))
    data = draw(st.one_of(st.binary(max_size=400), st.binary(min_size=600, max_size=700)))
    return Image(width=width, height=height, encoding=encoding, step=step, data=data,
                 is_bigendian=draw(st.sampled_from((0, 1, 255))))


def damaged(data, draw):
    """A file cut off, with bits flipped or with bytes before it."""
    data = bytearray(data[:draw(st.integers(0, len(data)))])
    for _ in range(draw(st.integers(0, 3)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return draw(st.binary(max_size=12)) + bytes(data)


@st.composite
def files(draw):
    """Compressed images of both kinds, whole, damaged and made up."""
    kind = draw(st.sampled_from(('jpg', 'png', 'depth', 'any')))
    if kind == 'any':
        start = draw(st.sampled_from((b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n')))
        data = start + draw(st.binary(max_size=80))
    elif kind == 'depth':
        png = cv2.imencode('.png', np.full((3, 5), 1500, np.uint16))[1].tobytes()
        header = struct.pack('<iff', 0, *draw(st.tuples(*[st.floats(width=32)] * 2)))
        data = header + png if draw(st.booleans()) else damaged(header + png, draw)
    else:
        whole = cv2.imencode(f'.{kind}', np.full((3, 5, 3), 77, np.uint8))[1].tobytes()
        data = whole if draw(st.booleans()) else damaged(whole, draw)
    return CompressedImage(data=data, format=draw(st.sampled_from(
        ('jpeg', 'png', '32FC1; compressedDepth png', '16UC1; compressedDepth', ''))))


def valid_or_refused(convert, msg, valid):
    try:
        result = convert(msg)
    except FrameError as error:
        assert str(error)
    else:
        assert valid(result)


def is_rgb(a):
    return a.dtype == np.uint8 and a.ndim == 3 and a.shape[2] == 3 and a.size > 0


def is_depth(a):
    return (a.dtype == np.float32 and a.ndim == 2 and a.size > 0 and np.isfinite(a).all()
            and (a >= 0).all())


@given(images())
def test_any_image(msg):
    valid_or_refused(c.image_to_rgb, msg, is_rgb)
    valid_or_refused(c.depth_to_metres, msg, is_depth)
    valid_or_refused(c.mask_to_valid, msg,
                     lambda a: a.dtype == bool and a.shape == (msg.height, msg.width))


@given(files())
def test_any_compressed_image(msg):
    valid_or_refused(c.image_to_rgb, msg, is_rgb)
    valid_or_refused(c.depth_to_metres, msg, is_depth)


@st.composite
def camera_infos(draw):
    number = st.one_of(ANY_FLOAT, st.floats(1, 1000), st.just(0.0))
    msg = CameraInfo(
        width=draw(st.sampled_from((0, 1, 640, 2**32 - 1))), height=draw(SMALL),
        k=draw(st.lists(number, min_size=9, max_size=9)),
        p=draw(st.lists(number, min_size=12, max_size=12)),
        d=draw(st.lists(number, max_size=14)), binning_x=draw(SMALL), binning_y=draw(SMALL),
        distortion_model=draw(st.sampled_from(
            ('plumb_bob', 'rational_polynomial', 'equidistant', 'fisheye', '', 'thin_prism'))))
    msg.roi.x_offset, msg.roi.width, msg.roi.height = draw(SMALL), draw(SMALL), draw(SMALL)
    return msg


@given(camera_infos(), st.booleans())
def test_any_camera_info(msg, rectified):
    def valid(camera):
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion)
        return (camera.width > 0 and camera.height > 0 and camera.fx > 0 and camera.fy > 0
                and np.isfinite(numbers).all())
    valid_or_refused(lambda m: c.camera_from_info(m, rectified), msg, valid)


@given(st.lists(ANY_FLOAT, min_size=7, max_size=7))
def test_any_pose(values):
    from geometry_msgs.msg import Pose
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = values[:3]
    q = pose.orientation
    q.x, q.y, q.z, q.w = values[3:]
    valid_or_refused(c.pose_to_matrix, pose, lambda T: np.isfinite(T).all() and np.allclose(
        T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-6))
