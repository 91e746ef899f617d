# SPDX-License-Identifier: Apache-2.0
"""Writes a small bag of a simulated table: compressed images and depth, camera_info and TF.

    python scripts/make_bag.py                 writes bags/table_31.mcap, 2 MB, in half a minute
    lerf_ros demo --bag bags/table_31.mcap     replays it, asks, and checks the answers

The number in the name is the seed of the table: the demo compares its answers with that scene.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.nodes.common.conversions import ns_to_stamp, stamped_transform, to_camera_info
from lerf_ros.nodes.demo.config import CAMERA_INFO_TOPIC, DEPTH_TOPIC, IMAGE_TOPIC, OPTICAL_FRAME
from lerf_ros.nodes.sim_camera_node import encode_depth
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.robot import T_LINK_OPTICAL, SimulatedRobot
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.sensor import expose, noisy_image
from lerf_ros.simulation.trajectory import hand_held_path

SEED = 31
WIDTH, HEIGHT, FOCAL = 400, 300, 344.0      # the view of the demo's camera
FRAMES, RATE_HZ = 48, 2.0
TF_STEPS = 8            # transforms between two images
JPEG_QUALITY = 80
NOISE = 2.0             # grey levels; depth has none, because its noise is what takes the space
START_NS = 1_767_225_600 * 10**9        # 2026-01-01
TYPES = {IMAGE_TOPIC + '/compressed': 'sensor_msgs/msg/CompressedImage',
         DEPTH_TOPIC + '/compressed': 'sensor_msgs/msg/CompressedImage',
         CAMERA_INFO_TOPIC: 'sensor_msgs/msg/CameraInfo',
         '/tf': 'tf2_msgs/msg/TFMessage', '/tf_static': 'tf2_msgs/msg/TFMessage'}


class Recording:
    """Messages of a bag by topic; times are seconds from its start."""

    def __init__(self, writer: Writer) -> None:
        types = get_typestore(Stores.ROS2_KILTED)
        self._writer = writer
        self._connections = {topic: writer.add_connection(
            topic if topic.startswith('/') else f'/{topic}', kind, typestore=types)
            for topic, kind in TYPES.items()}

    def add(self, topic: str, message: object, seconds: float) -> None:
        """Adds one message."""
        self._writer.write(self._connections[topic], stamp_ns(seconds), serialize_message(message))


def stamp_ns(seconds: float) -> int:
    """Returns the stamp of a time of the recording."""
    return START_NS + round(seconds * 1e9)


def compressed(image: np.ndarray, suffix: str, header: Header) -> CompressedImage:
    """Returns an image (H, W, 3) RGB as JPEG, or depth (H, W) uint16 as PNG."""
    jpeg = suffix == '.jpg'
    data = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]) if jpeg else image,
                        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if jpeg
                        else [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    form = 'rgb8; jpeg compressed bgr8' if jpeg else '16UC1; png compressed '
    return CompressedImage(header=header, format=form, data=data.tobytes())


def record(seed: int, recording: Recording) -> None:
    """Records a turn round the table of a seed."""
    scene = TabletopScene.generate(seed)
    renderer, rng = SceneRenderer(scene), np.random.default_rng([seed, 31])
    camera = PinholeCamera(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
    length_s = (FRAMES - 1) / RATE_HZ
    path = hand_held_path(seed, scene, length_s)
    robot = SimulatedRobot(path, seed)
    recording.add('/tf_static', TFMessage(transforms=[stamped_transform(
        T_LINK_OPTICAL, 'camera_link', OPTICAL_FRAME, START_NS)]), 0.0)
    edges = (('map', 'odom', robot.T_map_odom), ('odom', 'base_link', robot.T_odom_base),
             ('base_link', 'camera_link', robot.T_base_camera_link))
    gain = None
    for step in range((FRAMES - 1) * TF_STEPS + 1):
        seconds = step / (TF_STEPS * RATE_HZ)
        now_ns = stamp_ns(seconds)
        recording.add('/tf', TFMessage(transforms=[stamped_transform(
            T(seconds), parent, child, now_ns) for parent, child, T in edges]), seconds)
        if step % TF_STEPS:
            continue
        view = renderer.render(camera, path(seconds))
        exposed, gain = expose(view.image, gain, None, 1 / RATE_HZ)
        header = Header(stamp=ns_to_stamp(now_ns), frame_id=OPTICAL_FRAME)
        recording.add(CAMERA_INFO_TOPIC, to_camera_info(camera, header), seconds)
        recording.add(DEPTH_TOPIC + '/compressed', compressed(
            encode_depth(view.depth_m, '16UC1'), '.png', header), seconds)
        recording.add(IMAGE_TOPIC + '/compressed', compressed(
            noisy_image(exposed, NOISE, rng), '.jpg', header), seconds)


def main() -> None:
    """Writes the bag."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seed', type=int, default=SEED)
    parser.add_argument('--out', type=Path, help='the file (default: bags/table_SEED.mcap)')
    arguments = parser.parse_args()
    out = arguments.out or Path(f'bags/table_{arguments.seed}.mcap')
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as place:
        writer = Writer(Path(place) / 'bag', version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            record(arguments.seed, Recording(writer))
        next((Path(place) / 'bag').glob('*.mcap')).replace(out)
    print(f'{out}: {out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
