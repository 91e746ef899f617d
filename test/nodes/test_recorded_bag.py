# SPDX-License-Identifier: Apache-2.0
"""bags/table_31.mcap: what `lerf_ros demo --bag` replays is small, whole, and shows its table."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')
pytest.importorskip('rosbags', reason='reading bags needs rosbags')

from rclpy.serialization import deserialize_message

from lerf_ros.geometry.camera import transform_points
from lerf_ros.nodes.common.conversions import (
    camera_from_info,
    depth_to_metres,
    image_to_rgb,
    stamp_to_ns,
    transform_to_matrix,
)
from lerf_ros.nodes.demo.bags import Bag, message_class
from lerf_ros.nodes.demo.config import CAMERA_INFO_TOPIC, DEPTH_TOPIC, IMAGE_TOPIC, OPTICAL_FRAME
from lerf_ros.processes import seed_of
from lerf_ros.simulation.scene import TabletopScene

pytestmark = pytest.mark.ros
PATH = Path(__file__).resolve().parents[2] / 'bags' / 'table_31.mcap'
IMAGES, DEPTHS, INFOS = (f'/{topic}' for topic in (
    f'{IMAGE_TOPIC}/compressed', f'{DEPTH_TOPIC}/compressed', CAMERA_INFO_TOPIC))
if not PATH.exists():
    pytest.skip('an installed copy has no bags', allow_module_level=True)


@pytest.fixture(scope='module')
def recorded():
    """The messages by topic and stamp; TF by stamp, child and parent."""
    bag = Bag(PATH)
    kinds = {topic.name: message_class(topic.type_name) for topic in bag.topics}
    found = {name: {} for name in kinds}
    for topic, _, raw in bag.messages():
        message = deserialize_message(raw, kinds[topic])
        if topic in ('/tf', '/tf_static'):
            for edge in message.transforms:
                found[topic][stamp_to_ns(edge.header.stamp), edge.child_frame_id] = edge
        else:
            found[topic][stamp_to_ns(message.header.stamp)] = message
    return found


def pose(recorded, stamp):
    """T_map_camera (4, 4) at the stamp of an image, for which TF has a sample."""
    T, frame = np.eye(4), OPTICAL_FRAME
    static = {child: edge for (_, child), edge in recorded['/tf_static'].items()}
    while frame != 'map':
        edge = static.get(frame) or recorded['/tf'][stamp, frame]
        T, frame = transform_to_matrix(edge.transform) @ T, edge.header.frame_id
    return T


def test_it_is_small_and_every_image_has_depth_intrinsics_and_transforms(recorded):
    assert PATH.stat().st_size < 2.2e6
    stamps = list(recorded[IMAGES])
    assert len(stamps) == 48 and stamps == list(recorded[DEPTHS]) == list(recorded[INFOS])
    assert {message.header.frame_id for topic in (IMAGES, DEPTHS, INFOS)
            for message in recorded[topic].values()} == {OPTICAL_FRAME}
    camera = camera_from_info(recorded[INFOS][stamps[0]])
    assert image_to_rgb(recorded[IMAGES][stamps[0]]).shape == (camera.height, camera.width, 3)


def test_depth_and_poses_show_every_thing_of_the_table_that_its_name_says(recorded):
    scene = TabletopScene.generate(seed_of(PATH))
    points = []
    for stamp in list(recorded[IMAGES])[::6]:
        camera = camera_from_info(recorded[INFOS][stamp])
        depth = depth_to_metres(recorded[DEPTHS][stamp])
        rays = camera.directions(camera.pixel_grid().reshape(-1, 2))
        seen = depth.reshape(-1) > 0
        local = rays[seen] / rays[seen, 2:] * depth.reshape(-1)[seen, None]
        points.append(transform_points(pose(recorded, stamp), local))
    world = np.concatenate(points)
    for thing in scene.objects:
        inside = ((world > thing.box_min - 0.005) & (world < thing.box_max + 0.005)).all(1)
        assert inside.sum() > 200, thing.name
    # Depth is in whole millimetres: the table top is where it is.
    top = world[(np.abs(world[:, 2] - scene.objects[0].box_min[2]) < 0.01)
                & (np.abs(world[:, :2]) < 0.3).all(1)]
    assert abs(np.median(top[:, 2]) - scene.objects[0].box_min[2]) < 0.003
