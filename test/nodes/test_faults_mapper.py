# SPDX-License-Identifier: Apache-2.0
"""The fault matrix of the mapper's inputs: each wrong message has its reason, and mapping goes on.

The names of the cases are the rows of docs/faults.md (test_faults_documented.py).
"""

import math

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.node import Node
from ros_bench import CAMERA, Camera, FakeProcess, overrides, spin_until
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage

from lerf_ros.nodes.common.conversions import ns_to_stamp, to_camera_info, to_image
from lerf_ros.nodes.common.topics import profile
from lerf_ros.nodes.mapper_node import MapperNode

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
SECOND = 10**9
PIXELS = (np.indices((CAMERA.height, CAMERA.width)).sum(0) % 2 * 255).astype(np.uint8)
MOSAIC = np.random.default_rng(0).integers(0, 256, PIXELS.shape, np.uint8)
RGB = np.repeat(PIXELS[..., None], 3, 2)
DEPTH, MASK = 'camera/depth', 'camera/mask'


class Robot(Camera):
    """A camera that can also publish what is wrong; each case has a time of its own."""

    def __init__(self, node):
        super().__init__(node)
        self.masks = node.create_publisher(Image, MASK, profile(10))
        self.packed = node.create_publisher(
            CompressedImage, 'camera/color/image_raw/compressed', profile(10))
        self.now = 100 * SECOND + 1

    def picture(self, stamp_ns=None, frame='lens', **changes):
        msg = to_image(RGB, 'rgb8', self.header(self.now if stamp_ns is None else stamp_ns))
        msg.header.frame_id = frame
        for name, value in changes.items():
            setattr(msg, name, value)
        self.images.publish(msg)

    def lens(self, **changes):
        msg = to_camera_info(CAMERA, self.header(self.now))
        for name, value in changes.items():
            setattr(msg, name, value)
        self.infos.publish(msg)

    def range(self, depth_m, frame='lens', **changes):
        self._depth(to_image(depth_m.astype(np.float32), '32FC1'), frame, changes)

    def units(self, units, frame='lens', **changes):
        self._depth(to_image(units.astype(np.uint16), '16UC1'), frame, changes)

    def _depth(self, msg, frame, changes):
        msg.header = self.header(self.now)
        msg.header.frame_id = frame
        for name, value in changes.items():
            setattr(msg, name, value)
        self.depths.publish(msg)

    def mask(self, pixels, encoding='mono8', frame='lens'):
        msg = to_image(pixels, 'mono8', self.header(self.now))
        msg.encoding, msg.header.frame_id = encoding, frame
        self.masks.publish(msg)

    def file(self, data):
        self.packed.publish(CompressedImage(
            header=self.header(self.now), format='jpeg', data=data))

    def moved(self, translation=None, rotation=None):
        msg = TransformStamped(child_frame_id='lens')
        msg.header.stamp, msg.header.frame_id = ns_to_stamp(self.now), 'map'
        msg.transform.translation = translation or Vector3()
        msg.transform.rotation = rotation or Quaternion()
        self.tf.publish(TFMessage(transforms=[msg]))

    def good(self, settings):
        """All that belongs to an image with which nothing is wrong, a second later."""
        self.now += SECOND
        self.lens()
        for t in (self.now - SECOND // 2, self.now + SECOND // 2):
            self.pose(t)
        if settings == D:
            self.range(FLAT)
        if settings == M:
            self.mask(PIXELS)
        if settings == C:
            self.file(jpeg())
        else:
            self.picture()


def jpeg():
    return cv2.imencode('.jpg', RGB)[1].tobytes()


def with_depth(depth_m):
    return lambda r: (r.range(depth_m), r.picture())


FLAT = np.full((CAMERA.height, CAMERA.width), 1.5)
# Falls a little from column to column, as surfaces do; in millimetres.
SLOPE = np.tile(1000 + 3 * np.arange(CAMERA.width), (CAMERA.height, 1))
GREY = np.repeat(PIXELS, 2, 1)      # of two bytes a pixel
D, M, C = {'depth_topic': DEPTH}, {'mask_topic': MASK}, {'image_transport': 'compressed'}
ONE = {'queue_size': 1}     # remembers the newest camera_info alone
# name: (settings, what is published, reason of the refusal or '' when it is used, words that the
# refusal says, or a diagnosis beside the image that is used)
CASES = {
    'image of size 0': ({}, lambda r: r.picture(width=0, height=0, data=[]), 'image', '0x0'),
    'image with too little data': (
        {}, lambda r: r.picture(data=bytes(9)), 'image', '9 bytes'),
    'image with rows shorter than its pixels': (
        {}, lambda r: r.picture(step=5), 'image', 'step 5'),
    'image of unknown encoding': (
        {}, lambda r: r.picture(encoding='h264'), 'image', 'h264'),
    'image of a name in capital letters': ({}, lambda r: r.picture(encoding='RGB8'), '', ''),
    'image of YUV, the first name': (
        {}, lambda r: r.picture(encoding='yuyv', step=64, data=GREY.tobytes()), '', ''),
    'image of YUV, the second name': (
        {}, lambda r: r.picture(encoding='yuv422', step=64, data=GREY.tobytes()), '', ''),
    'image of NV12': (
        {}, lambda r: r.picture(encoding='nv12', step=32, data=GREY.tobytes()), '', ''),
    'image of a colour mosaic': (
        {}, lambda r: r.picture(encoding='bayer_rggb8', step=32, data=MOSAIC.tobytes()), '', ''),
    'image of OpenCV without an order of colours': (
        {}, lambda r: r.picture(encoding='8UC3'), '', 'blue first'),
    'image of 12 bits in 16': (
        {}, lambda r: r.picture(encoding='mono16', step=64, data=(
            PIXELS.astype('<u2') * 16).tobytes()), '', '12 bits'),
    'image without a stamp': ({}, lambda r: r.picture(stamp_ns=0), 'no stamp', 'header.stamp'),
    'image with the stamp of another': (
        {}, lambda r: r.picture(stamp_ns=r.now), 'duplicate stamp', 'same stamp'),
    'image from the future': (
        {}, lambda r: r.picture(stamp_ns=r.now + 3600 * SECOND), 'no pose', 'lens'),
    'image in a frame that TF does not know': (
        {}, lambda r: r.picture(frame='eye'), 'no pose', 'lens, map'),
    'camera_info of another size': (
        ONE, lambda r: (r.lens(width=64, height=48), r.picture()), 'camera_info', '64x48'),
    'camera_info without a calibration': (
        {}, lambda r: (r.lens(k=np.zeros(9)), r.picture()), 'camera_info', 'focal length'),
    'camera_info with NaN': (
        {}, lambda r: (r.lens(k=np.full(9, math.nan)), r.picture()), 'camera_info', 'focal'),
    'camera_info of an unknown lens model': (
        {}, lambda r: (r.lens(distortion_model='magic', d=[0.1] * 5), r.picture()), 'camera_info',
        'magic'),
    'camera_info in the frame of another camera': (
        ONE, lambda r: (r.lens(header=r.header(r.now, 'eye')), r.picture()), 'camera_info',
        "'eye'"),
    'camera_info with a thin prism and a tilted sensor': (
        ONE, lambda r: (r.lens(distortion_model='rational_polynomial',
                              d=[0.0] * 8 + [.003, 0, .002, 0, .01, 0]), r.picture()), '', ''),
    'camera_info with a binning that the images do not have': (
        ONE, lambda r: (r.lens(binning_x=2, binning_y=2), r.picture()), 'camera_info',
        'says binning 2x2'),
    'depth of another shape': (
        D, lambda r: (r.depth(r.now, (12, 12)), r.picture()), 'depth', 'registered'),
    'depth of half the size in the frame of the image': (
        D, lambda r: (r.depth(r.now, (12, 16)), r.picture()), '', 'resized'),
    'depth in a frame of its own': (
        D, lambda r: (r.range(FLAT, 'depth_lens'), r.picture()), 'depth', 'align_depth'),
    'depth of 8 bits': (
        D, lambda r: (r.depth(r.now, encoding='8UC1'), r.picture()), 'depth', 'cannot hold depth'),
    'depth of unknown encoding': (
        D, lambda r: (r.depth(r.now, encoding='rgb8'), r.picture()), 'depth', 'rgb8'),
    'depth of the largest number': (
        D, lambda r: (r.units(SLOPE * 0 + 65535), r.picture()), '', ''),
    'depth with a wrong is_bigendian': (
        D, lambda r: (r.units(SLOPE, is_bigendian=1), r.picture()), '', 'is_bigendian'),
    'no depth at the stamp of the image': (D, lambda r: r.picture(), 'no depth', DEPTH),
    'depth of NaN': (D, with_depth(FLAT * math.nan), '', ''),
    'depth below zero': (D, with_depth(-FLAT), '', ''),
    'depth of zero': (D, with_depth(FLAT * 0), '', ''),
    'infinite depth': (D, with_depth(FLAT * math.inf), '', ''),
    'mask of another shape': (
        M, lambda r: (r.mask(PIXELS[:4].copy()), r.picture()), 'mask', '32x4'),
    'mask in a frame of its own': (
        M, lambda r: (r.mask(PIXELS, frame='eye'), r.picture()), 'mask', "'eye'"),
    'mask of unknown encoding': (
        M, lambda r: (r.mask(PIXELS, 'mono16'), r.picture()), 'mask', 'mono16'),
    'truncated jpeg': (C, lambda r: r.file(jpeg()[:40]), 'image', 'jpeg'),
    'compressed image that is none': (C, lambda r: r.file(b'GIF89a rest'), 'image', 'jpeg'),
    'compressed image of 0 bytes': (C, lambda r: r.file(b''), 'image', 'jpeg'),
    'pose with NaN': (
        {}, lambda r: (r.moved(translation=Vector3(x=math.nan)), r.picture()), '', ''),
    'pose at infinity': (
        {}, lambda r: (r.moved(translation=Vector3(y=math.inf)), r.picture()), '', ''),
    'pose with a rotation of length 0': (
        {}, lambda r: (r.moved(rotation=Quaternion(w=0.0)), r.picture()), '', ''),
    'pose with a rotation of length 2': (
        {}, lambda r: (r.moved(rotation=Quaternion(w=2.0)), r.picture()), '', ''),
}


@pytest.fixture(scope='module')
def benches(tmp_path_factory):
    """A mapper and a robot for each kind of settings, made when first asked for."""
    made = {}

    def get(settings):
        key = ''.join(settings)
        if key not in made:
            # With a /tf of its own: the others are at another time.
            space, apart = f'/n{len(made)}', ['--ros-args', '-r', '/tf:=tf']
            mapper = MapperNode(
                FakeProcess, namespace=space, cli_args=apart, parameter_overrides=overrides(
                map_directory=str(tmp_path_factory.mktemp('map')), tf_timeout=0.3,
                keyframes__min_translation=0.0, keyframes__sharpness_ratio=0.0,
                **settings))
            robot = Robot(Node('robot', namespace=space, cli_args=apart))
            assert mapper.start_alone(), mapper.failure
            made[key] = mapper, robot
        return made[key]

    yield get
    for mapper, robot in made.values():
        mapper.destroy_node()
        robot.node.destroy_node()


@pytest.mark.parametrize('name', CASES)
def test_input(benches, name):
    settings, publish, reason, words = CASES[name]
    mapper, robot = benches(settings)
    nodes, frames = (mapper, robot.node), mapper.process.frames
    assert_used(nodes, frames, lambda: robot.good(settings))
    if name != 'image with the stamp of another':
        robot.now += SECOND
        for t in (robot.now - SECOND // 2, robot.now + SECOND // 2):
            robot.pose(t)
    counts = dict(mapper.refusals.counts)
    if reason:
        publish(robot)
        assert spin_until(nodes, lambda: mapper.refusals.total > sum(counts.values()))
        assert {key: n - counts.get(key, 0) for key, n in mapper.refusals.counts.items()
                if n != counts.get(key, 0)} == {reason: 1}
        assert words in mapper.refusals.latest
    else:
        assert_used(nodes, frames, lambda: publish(robot))
        assert words in ' '.join(mapper.refusals.recent(60.0).values())
    assert_used(nodes, frames, lambda: robot.good(settings))   # and mapping goes on
    assert np.isfinite(frames[-1].T_world_camera).all()


def assert_used(nodes, frames, publish):
    """Publishes until discovery is through and one more keyframe was taken."""
    count = len(frames)
    assert spin_until(nodes, lambda: matched(nodes))
    publish()
    assert spin_until(nodes, lambda: len(frames) == count + 1)


def matched(nodes):
    """Whether the mapper hears everything that the robot of the test publishes."""
    mapper, robot = nodes
    wanted = {mapper.resolve_topic_name(topic) for topic in (
        mapper.settings.depth_topic, mapper.settings.mask_topic,
        mapper.settings.camera_info_topic, '/tf') if topic}
    image = mapper.resolve_topic_name(mapper.settings.image_topic)
    wanted.add(image + '/compressed' * (mapper.settings.image_transport == 'compressed'))
    return all(publisher.get_subscription_count() for publisher in robot.publishers
               if publisher.topic_name in wanted)
