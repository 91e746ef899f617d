# SPDX-License-Identifier: Apache-2.0
"""Replay of a nerfstudio folder and of a bag, over real DDS."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytestmark = pytest.mark.ros

from geometry_msgs.msg import PointStamped  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from ros_bench import overrides, spin_until  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from lerf_ros.errors import ConfigError, DatasetError  # noqa: E402
from lerf_ros.geometry.camera import PinholeCamera  # noqa: E402
from lerf_ros.nodes.common.conversions import (  # noqa: E402
    camera_from_info,
    image_to_rgb,
    mask_to_valid,
    stamped_transform,
    to_image,
    transform_to_matrix,
)
from lerf_ros.nodes.common.topics import TF_QOS, TF_STATIC_QOS, profile  # noqa: E402
from lerf_ros.nodes.demo.bags import Bag, message_class  # noqa: E402
from lerf_ros.nodes.replay_node import ReplayNode  # noqa: E402


@pytest.fixture
def context():
    rclpy.init()
    yield
    rclpy.shutdown()


def hear(node, topics):
    """Everything that `node` publishes until it is finished, by topic name."""
    listener = rclpy.create_node('listener')
    heard = {name: [] for name in topics}
    for name, kind in topics.items():
        qos = {'/tf': TF_QOS, '/tf_static': TF_STATIC_QOS}.get(name, profile(50))
        listener.create_subscription(kind, name, heard[name].append, qos)
    assert spin_until([node, listener], node.finished.is_set)
    listener.destroy_node()
    node.destroy_node()
    return heard


# Folder --------------------------------------------------------------------------------------

IMAGES = [np.full((24, 32, 3), value, np.uint8) for value in (40, 90, 200)]


@pytest.fixture
def folder(tmp_path):
    """Three images, the right half masked, poses one unit apart along x in OpenGL axes."""
    frames = []
    for number, image in enumerate(IMAGES):
        cv2.imwrite(str(tmp_path / f'{number}.png'), image)
        T = np.eye(4)
        T[0, 3] = number
        frames.append({'file_path': f'{number}.png', 'transform_matrix': T.tolist(),
                       'mask_path': 'mask.png'})
    mask = np.full((24, 32), 255, np.uint8)
    mask[:, 16:] = 0
    cv2.imwrite(str(tmp_path / 'mask.png'), mask)
    (tmp_path / 'transforms.json').write_text(json.dumps({
        'w': 32, 'h': 24, 'fl_x': 30.0, 'fl_y': 31.0, 'cx': 15.0, 'cy': 12.5, 'k1': 0.01,
        'camera_model': 'OPENCV', 'frames': frames}))
    return tmp_path


def test_a_folder_becomes_the_topics_of_a_camera(context, folder):
    node = ReplayNode(parameter_overrides=overrides(
        folder=str(folder), rate=10.0, scale=2.0, start_delay=1.0, camera_frame='lens'))
    heard = hear(node, {'camera/color/image_raw': Image, 'camera/color/camera_info': CameraInfo,
                        'camera/color/mask': Image, '/tf': TFMessage})
    assert node.exit_code == 0
    images, infos, masks, tfs = heard.values()
    assert [image_to_rgb(msg)[0, 0, 0] for msg in images] == [40, 90, 200]
    stamps = [msg.header.stamp for msg in images]
    assert [msg.header.stamp for msg in infos] == stamps
    assert [msg.header.stamp for msg in masks] == stamps
    assert {msg.header.frame_id for msg in images + infos + masks} == {'lens'}
    assert camera_from_info(infos[0]) == PinholeCamera(
        32, 24, 30.0, 31.0, 15.0, 12.5, camera_from_info(infos[0]).distortion)
    assert camera_from_info(infos[0]).distortion[0] == pytest.approx(0.01)
    valid = mask_to_valid(masks[0])
    assert valid[:, :16].all() and not valid[:, 16:].any()
    for number, msg in enumerate(tfs):
        transform = msg.transforms[0]
        assert (transform.header.frame_id, transform.child_frame_id) == ('map', 'lens')
        assert transform.header.stamp == stamps[number]
        # OpenGL's axes (y up, z back) in OpenCV's (y down, z forward); units are doubled.
        expected = np.diag([1.0, -1.0, -1.0, 1.0])
        expected[0, 3] = 2.0 * number
        assert np.allclose(transform_to_matrix(transform.transform), expected)


# Bag -----------------------------------------------------------------------------------------

START_NS = 1_700_000_000 * 10**9


def recorded():
    """(topic, type, message, seconds from the start) of a small recording."""
    image = to_image(np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3), 'rgb8')
    point = PointStamped()
    point.point.x = 1.25
    static = TFMessage(transforms=[stamped_transform(np.eye(4), 'link', 'lens', START_NS)])
    yield '/tf_static', 'tf2_msgs/msg/TFMessage', static, 0.0
    for number in range(3):
        image.header.stamp.sec = 1_700_000_000 + number
        yield '/camera/image', 'sensor_msgs/msg/Image', image, 0.1 * number
        yield '/touch', 'geometry_msgs/msg/PointStamped', point, 0.1 * number + 0.05


@pytest.fixture(params=['MCAP', 'SQLITE3'])
def bag(request, tmp_path):
    rosbag2 = pytest.importorskip('rosbags.rosbag2')
    typesys = pytest.importorskip('rosbags.typesys')
    types = typesys.get_typestore(typesys.Stores.ROS2_KILTED)
    path = tmp_path / 'bag'
    with rosbag2.Writer(path, version=9,
                        storage_plugin=rosbag2.StoragePlugin[request.param]) as writer:
        connections = {}
        for topic, kind, message, seconds in recorded():
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(connections[topic], START_NS + round(seconds * 1e9),
                         serialize_message(message))
    return path


def test_a_bag_is_played_byte_for_byte_with_clock_and_prefix(context, bag):
    node = ReplayNode(parameter_overrides=overrides(
        bag=str(bag), speed=2.0, clock=True, topic_prefix='robot_a', start_delay=1.0))
    heard = hear(node, {'/robot_a/camera/image': Image, '/robot_a/touch': PointStamped,
                        '/tf_static': TFMessage, '/clock': Clock})
    images, points, static, clocks = heard.values()
    sent = [message for topic, _, message, _ in recorded() if topic == '/camera/image']
    assert [msg.header.stamp.sec for msg in images] == [1_700_000_000 + n for n in range(3)]
    assert all(msg.data == sent[0].data for msg in images)
    assert [msg.point.x for msg in points] == [1.25] * 3
    assert static[0].transforms[0].child_frame_id == 'lens'
    times = [msg.clock.sec * 10**9 + msg.clock.nanosec for msg in clocks]
    assert times == sorted(START_NS + round(s * 1e9) for _, _, _, s in recorded())


def test_a_late_subscriber_gets_the_static_transforms_of_a_bag(bag):
    latched = {topic.name: topic.latched for topic in Bag(bag).topics}
    assert latched == {'/tf_static': True, '/camera/image': False, '/touch': False}


# Bad input -----------------------------------------------------------------------------------

def test_bad_bags_and_types_are_named(tmp_path):
    with pytest.raises(DatasetError, match='is not a rosbag2'):
        Bag(tmp_path)
    (tmp_path / 'metadata.yaml').write_text('nonsense: [')
    with pytest.raises(DatasetError, match='cannot be read'):
        Bag(tmp_path)
    with pytest.raises(DatasetError, match='alien_msgs/msg/Ufo is not installed'):
        message_class('alien_msgs/msg/Ufo')
    assert message_class('sensor_msgs/msg/Image') is Image


@pytest.mark.parametrize('values', [{}, {'folder': 'a', 'bag': 'b'}])
def test_folder_or_bag_but_not_both(context, values):
    with pytest.raises(ConfigError, match='give one of folder'):
        ReplayNode(parameter_overrides=overrides(**values))


@pytest.mark.parametrize('source', ['folder', 'bag'])
def test_a_missing_source_is_one_fatal_line_and_exit_code_2(source):
    done = subprocess.run(
        [sys.executable, '-m', 'lerf_ros.nodes.replay_node', '--ros-args', '-p',
         f'{source}:=/no/such/place'], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert '/no/such/place' in done.stderr and 'Traceback' not in done.stderr
    assert done.stderr.count('FATAL') == 1
