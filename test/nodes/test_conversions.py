# SPDX-License-Identifier: Apache-2.0
"""Messages to arrays and back."""

import struct

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='the ROS 2 message packages are not installed')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.nodes.common import conversions as c

pytestmark = pytest.mark.ros
RED, GREEN = (255, 0, 0), (0, 255, 0)


def image(encoding, data, width=2, height=1, step=0, big=0):
    return Image(width=width, height=height, encoding=encoding, data=data, step=step,
                 is_bigendian=big)


@pytest.mark.parametrize(('encoding', 'data'), [
    ('rgb8', [255, 0, 0, 0, 255, 0]), ('bgr8', [0, 0, 255, 0, 255, 0]),
    ('rgba8', [255, 0, 0, 9, 0, 255, 0, 9]), ('bgra8', [0, 0, 255, 9, 0, 255, 0, 9])])
def test_every_color_encoding_gives_red_then_green(encoding, data):
    assert c.image_to_rgb(image(encoding, data)).tolist() == [[list(RED), list(GREEN)]]


def test_mono_becomes_gray():
    assert c.image_to_rgb(image('mono8', [7, 9])).tolist() == [[[7] * 3, [9] * 3]]


def test_padding_at_the_end_of_rows_is_left_out():
    padded = [1, 2, 99, 99, 3, 4, 99, 99]
    rgb = c.image_to_rgb(image('mono8', padded, width=2, height=2, step=4))
    assert rgb[..., 0].tolist() == [[1, 2], [3, 4]]


def test_unsupported_encoding_is_named_with_those_that_are_supported():
    with pytest.raises(FrameError, match=r"'h264' is not supported.*rgb8, bgr8"):
        c.image_to_rgb(image('h264', [1, 2]))
    with pytest.raises(FrameError, match=r"'rgb8' is not supported.*16UC1"):
        c.depth_to_metres(image('rgb8', [0] * 6))
    with pytest.raises(FrameError, match=r"'32FC1' is not supported.*mono8"):
        c.mask_to_valid(image('32FC1', [0] * 8))


def test_data_shorter_than_the_size_says_is_refused():
    with pytest.raises(FrameError, match='expected a step of at least 6 and 6 bytes'):
        c.image_to_rgb(image('rgb8', [1, 2, 3]))


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_compressed_image_keeps_its_colors(suffix):
    pixels = np.full((16, 16, 3), RED, np.uint8)
    data = cv2.imencode(suffix, pixels[..., ::-1])[1].tobytes()
    rgb = c.image_to_rgb(CompressedImage(format='x', data=data))
    assert np.abs(rgb.astype(int) - pixels).max() <= 3


def test_compressed_image_that_is_neither_jpeg_nor_png_is_refused():
    with pytest.raises(FrameError, match="'h264'.*jpeg or png"):
        c.image_to_rgb(CompressedImage(format='h264', data=b'\x00\x00\x00\x01'))


@pytest.mark.parametrize(('encoding', 'dtype', 'values', 'big'), [
    ('16UC1', '<u2', [1500, 0], 0), ('mono16', '>u2', [1500, 0], 1),
    ('32FC1', '<f4', [1.5, np.nan], 0), ('32FC1', '>f4', [1.5, np.inf], 1)])
def test_depth_is_metres_and_zero_where_unknown(encoding, dtype, values, big):
    data = np.array(values, dtype).tobytes()
    depth = c.depth_to_metres(image(encoding, data, big=big))
    np.testing.assert_allclose(depth, [[1.5, 0.0]], rtol=1e-6)


def compressed_depth(fmt, raw, parameters=(0.0, 0.0), header=True):
    png = cv2.imencode('.png', np.array(raw, np.uint16))[1].tobytes()
    return CompressedImage(format=fmt, data=(struct.pack('<iff', 0, *parameters) if header
                                             else b'') + png)


@pytest.mark.parametrize('header', [True, False])
def test_compressed_depth_of_whole_millimetres(header):
    msg = compressed_depth('16UC1; compressedDepth png', [[1500, 0]], header=header)
    np.testing.assert_allclose(c.depth_to_metres(msg), [[1.5, 0.0]])


def test_compressed_depth_of_floats_undoes_its_quantisation():
    """The encoder writes A / metres + B; with A = 10100, B = -9 a depth of 2 m is 5041."""
    msg = compressed_depth('32FC1; compressedDepth', [[5041, 0]], (10100.0, -9.0))
    np.testing.assert_allclose(c.depth_to_metres(msg), [[2.0, 0.0]], rtol=1e-6)


def test_compressed_depth_that_is_no_16_bit_png_is_named():
    with pytest.raises(FrameError, match="'16UC1; compressedDepth lz4'.*png or rvl"):
        c.depth_to_metres(CompressedImage(format='16UC1; compressedDepth lz4', data=bytes(40)))
    eight = cv2.imencode('.png', np.zeros((2, 2), np.uint8))[1].tobytes()
    with pytest.raises(FrameError, match='holds uint8 pixels.*16-bit'):
        c.depth_to_metres(CompressedImage(format='mono8; png', data=eight))


def test_a_truncated_jpeg_is_refused_or_whole():
    """libjpeg fills what is missing with grey; without its header there is nothing to read."""
    data = cv2.imencode('.jpg', np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    with pytest.raises(FrameError, match='damaged'):
        c.image_to_rgb(CompressedImage(format='jpeg', data=data[:60]))


def test_mask_is_false_where_it_is_zero():
    assert c.mask_to_valid(image('mono8', [0, 255])).tolist() == [[False, True]]


@pytest.mark.parametrize(('encoding', 'dtype', 'shape'), [
    ('rgb8', np.uint8, (3, 5, 3)), ('mono8', np.uint8, (3, 5)), ('16UC1', np.uint16, (3, 5)),
    ('32FC1', np.float32, (3, 5))])
def test_to_image_round_trip(encoding, dtype, shape):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype) + 1
    msg = c.to_image(pixels, encoding)
    if encoding == 'rgb8':
        back = c.image_to_rgb(msg)
    elif encoding == 'mono8':
        back = c.image_to_rgb(msg)[..., 0]
    else:
        back = c.depth_to_metres(msg) * (1000 if encoding == '16UC1' else 1)
    np.testing.assert_allclose(back, pixels, rtol=1e-6)


def test_to_image_refuses_pixels_of_another_type():
    with pytest.raises(FrameError, match='float64'):
        c.to_image(np.zeros((2, 2)), '32FC1')


def info(**values):
    msg = CameraInfo(width=640, height=480, distortion_model='plumb_bob', d=[0.1, 0.2, 0.3, 0.4,
                                                                             0.5])
    msg.k = [500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]
    msg.p = [400.0, 0.0, 300.0, 0.0, 0.0, 410.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in values.items():
        setattr(msg, name, value)
    return msg


def test_camera_center_of_first_pixel_moves_from_0_to_a_half():
    camera = c.camera_from_info(info())
    assert (camera.cx, camera.cy) == (320.0, 240.0)    # the middle of 640x480
    assert camera.distortion == (0.1, 0.2, 0.3, 0.4, 0.5)


def test_binning_halves_the_camera():
    camera = c.camera_from_info(info(binning_x=2, binning_y=2))
    assert (camera.width, camera.height, camera.fx, camera.cx) == (320, 240, 250.0, 160.0)


def test_rectified_takes_p_without_distortion():
    camera = c.camera_from_info(info(), rectified=True)
    assert (camera.fx, camera.cx, camera.distortion) == (400.0, 300.5, ())


def test_uncalibrated_camera_and_unknown_model_are_named():
    with pytest.raises(FrameError, match='no focal length.*calibrate'):
        c.camera_from_info(info(k=[0.0] * 9))
    with pytest.raises(FrameError, match="'omnidirectional'.*plumb_bob, .*or equ"):
        c.camera_from_info(info(distortion_model='omnidirectional'))


def test_an_equidistant_lens_is_a_fisheye():
    camera = c.camera_from_info(info(distortion_model='equidistant', d=[0.1, -0.2, 0.3, -0.4]))
    assert (camera.model, camera.distortion) == ('fisheye', (0.1, -0.2, 0.3, -0.4))
    assert c.camera_from_info(c.to_camera_info(camera)) == camera


def test_a_region_of_interest_is_cut_before_binning():
    """K speaks of the whole image: (319.5 + 0.5 - 100) / 2 = 110, 200 / 2 = 100 pixels wide."""
    msg = info(binning_x=2, binning_y=2)
    msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height = 100, 60, 200, 120
    camera = c.camera_from_info(msg)
    assert (camera.width, camera.height, camera.cx, camera.cy) == (100, 60, 110.0, 90.0)


def test_a_region_outside_of_the_image_is_named():
    msg = info()
    msg.roi.x_offset, msg.roi.width, msg.roi.height = 600, 100, 10
    with pytest.raises(FrameError, match=r'100x10 pixels at \(600, 0\) of an image of 640x480'):
        c.camera_from_info(msg)


@pytest.mark.parametrize('distortion', [
    (), (0.1, 0.2, 0.3, 0.4), (.1, .2, .3, .4, .5, .6, .7, .8),
    (.1, .2, .0, .0, .0, .0, .0, .0, .003, .0, .002), (.1,) * 8 + (.001,) * 4 + (.02, -.03)])
def test_camera_info_round_trip(distortion):
    camera = PinholeCamera(64, 48, 50.0, 51.0, 31.0, 25.0, distortion)
    back = c.camera_from_info(c.to_camera_info(camera))
    points = np.array([[0.1, 0.2, 1.0], [-0.3, 0.1, 2.0]])
    np.testing.assert_allclose(back.project(points), camera.project(points), atol=1e-9)


def test_quarter_turn_about_z_maps_x_to_y():
    pose = Pose()
    pose.position.x = 2.0
    pose.orientation.z = pose.orientation.w = 0.5**0.5
    T = c.pose_to_matrix(pose)
    np.testing.assert_allclose(T @ [1, 0, 0, 1], [2, 1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(c.pose_to_matrix(c.matrix_to_pose(T)), T, atol=1e-12)
    np.testing.assert_allclose(c.transform_to_matrix(c.matrix_to_transform(T)), T, atol=1e-12)


def test_quaternion_of_length_zero_is_refused():
    pose = Pose()
    pose.orientation.w = 0.0
    with pytest.raises(FrameError, match='not a rotation'):
        c.pose_to_matrix(pose)


def test_a_position_that_is_not_finite_is_refused():
    pose = Pose()
    pose.position.y = float('nan')
    with pytest.raises(FrameError, match='not finite'):
        c.pose_to_matrix(pose)


def test_stamps_keep_every_nanosecond():
    stamp = 1_700_000_000_123_456_789
    assert int(float(stamp)) != stamp
    assert c.stamp_to_ns(c.ns_to_stamp(stamp)) == stamp


def test_cloud_layout_and_packed_color():
    cloud = c.to_cloud(np.array([[1.0, 2.0, 3.0]]), np.array([[1, 2, 3]], np.uint8),
                       np.array([0.75]), 'map', Time(sec=4), np.array([3]), np.array([2]))
    assert [f.name for f in cloud.fields] == ['x', 'y', 'z', 'rgb', 'relevancy', 'label', 'hit']
    assert {f.datatype for f in cloud.fields[:5]} == {cloud.fields[0].FLOAT32}
    assert {f.datatype for f in cloud.fields[5:]} == {cloud.fields[0].UINT32}
    assert (cloud.width, cloud.height, cloud.point_step, cloud.row_step) == (1, 1, 28, 28)
    floats = np.frombuffer(cloud.data, '<f4')
    assert floats[[0, 1, 2, 4]].tolist() == [1.0, 2.0, 3.0, 0.75]
    assert floats[3:4].view('<u4')[0] == 0x010203
    assert floats[5:7].view('<u4').tolist() == [3, 2]


def test_empty_cloud():
    cloud = c.to_cloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), 'map', Time())
    assert (cloud.width, len(cloud.data)) == (0, 0)
