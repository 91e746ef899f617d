# SPDX-License-Identifier: Apache-2.0
"""What RViz subscribes to exists, is of the right type, and its QoS matches the publisher's."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

import rclpy
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from ros_bench import FakeMap

from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.query_node import QueryNode

pytestmark = pytest.mark.ros
FILE = Path(__file__).resolve().parents[2] / 'rviz' / 'lerf.rviz'
MESSAGES = {'PointCloud2': 'sensor_msgs/msg/PointCloud2', 'Image': 'sensor_msgs/msg/Image',
            'MarkerArray': 'visualization_msgs/msg/MarkerArray',
            'Pose': 'geometry_msgs/msg/PoseStamped',
            'PoseArray': 'geometry_msgs/msg/PoseArray'}
POLICIES = {'Reliable': 'RELIABLE', 'Best Effort': 'BEST_EFFORT', 'Volatile': 'VOLATILE',
            'Transient Local': 'TRANSIENT_LOCAL', 'Keep Last': 'KEEP_LAST'}


def displays():
    """Class without its package, and Topic, of every display that subscribes."""
    manager = yaml.safe_load(FILE.read_text())['Visualization Manager']
    return {d['Class'].split('/')[1]: d['Topic'] for d in manager['Displays'] if 'Topic' in d}


def message_name(kind):
    """Such as sensor_msgs/msg/Image of its class."""
    return f"{'/'.join(kind.__module__.split('.')[:2])}/{kind.__name__}"


def wanted_qos(topic):
    policy = {k: POLICIES[topic[f'{k} Policy']] for k in ('History', 'Reliability', 'Durability')}
    return QoSProfile(depth=topic['Depth'], history=HistoryPolicy[policy['History']],
                      reliability=ReliabilityPolicy[policy['Reliability']],
                      durability=DurabilityPolicy[policy['Durability']],
                      liveliness=LivelinessPolicy.AUTOMATIC)


def test_cloud_target_boxes_and_image_are_displayed_in_the_map_frame():
    assert set(displays()) == set(MESSAGES)
    manager = yaml.safe_load(FILE.read_text())['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == MapperNodeConfig().map_frame
    assert all(d['Enabled'] for d in manager['Displays'])


def test_the_image_is_the_one_that_the_mapper_subscribes_to():
    assert displays()['Image']['Value'] == '/' + MapperNodeConfig().image_topic


def test_every_topic_is_advertised_with_that_type_and_a_compatible_qos():
    rclpy.init()
    node = QueryNode(FakeMap)
    try:
        # the node's own publishers, not the ROS graph, which learns of them a moment later
        advertised = {p.topic_name: message_name(p.msg_type) for p in node.publishers}
        offered = {p.topic_name: p.qos_profile for p in node.publishers}
        for kind, topic in displays().items():
            name = topic['Value']
            if kind == 'Image':
                continue
            assert advertised[name] == MESSAGES[kind]
            level, reason = qos_check_compatible(offered[name], wanted_qos(topic))
            assert level == QoSCompatibility.OK, f'{name}: {reason}'
    finally:
        node.destroy_node()
        rclpy.shutdown()


def test_the_image_qos_matches_a_reliable_camera():
    level, reason = qos_check_compatible(topics.profile(topics.IMAGE_DEPTH),
                                         wanted_qos(displays()['Image']))
    assert level == QoSCompatibility.OK, reason
