# SPDX-License-Identifier: Apache-2.0
"""What RViz subscribes to exists, is of the right type, and its QoS matches the publisher's."""

from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

import rclpy
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from ros_bench import FakeMap, spin_until
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.query_node import QueryNode

pytestmark = pytest.mark.ros
FILE = Path(__file__).resolve().parents[2] / 'rviz' / 'lerf.rviz'
MESSAGES = {'PointCloud2': 'sensor_msgs/msg/PointCloud2', 'Image': 'sensor_msgs/msg/Image',
            'MarkerArray': 'visualization_msgs/msg/MarkerArray',
            'PoseArray': 'geometry_msgs/msg/PoseArray'}
POLICIES = {'Reliable': 'RELIABLE', 'Best Effort': 'BEST_EFFORT', 'Volatile': 'VOLATILE',
            'Transient Local': 'TRANSIENT_LOCAL', 'Keep Last': 'KEEP_LAST'}


def displays():
    """Class without its package, and Topic, of every display that subscribes."""
    manager = yaml.safe_load(FILE.read_text())['Visualization Manager']
    return [(d['Class'].split('/')[1], d['Topic']) for d in manager['Displays'] if 'Topic' in d]


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
    assert {kind for kind, _ in displays()} == set(MESSAGES)
    assert {topic['Value'] for _, topic in displays()} >= {'/lerf/map', '/lerf/relevancy'}
    manager = yaml.safe_load(FILE.read_text())['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == MapperNodeConfig().map_frame
    assert all(d['Enabled'] for d in manager['Displays'])


def test_the_image_is_the_one_that_the_mapper_subscribes_to():
    assert dict(displays())['Image']['Value'] == '/' + MapperNodeConfig().image_topic


def test_every_topic_is_advertised_with_that_type_and_a_compatible_qos():
    rclpy.init()
    node = QueryNode(FakeMap)
    try:
        # the node's own publishers, not the ROS graph, which learns of them a moment later
        advertised = {p.topic_name: message_name(p.msg_type) for p in node.publishers}
        offered = {p.topic_name: p.qos_profile for p in node.publishers}
        for kind, topic in displays():
            name = topic['Value']
            if kind == 'Image':
                continue
            assert advertised[name] == MESSAGES[kind]
            level, reason = qos_check_compatible(offered[name], wanted_qos(topic))
            assert level == QoSCompatibility.OK, f'{name}: {reason}'
    finally:
        node.destroy_node()
        rclpy.shutdown()


POINTS = np.array([[5.0, 0, 0], [5, 0.5, 0], [5, 0, 0.25]])


class Loaded(FakeMap):
    """A map whose first refresh loads three points."""

    loaded = False

    def refresh(self):
        fresh, self.loaded = not self.loaded, True
        return fresh

    def surface(self):
        return POINTS, np.full((3, 3), (1, 2, 3), np.uint8)


def test_before_any_question_the_map_is_shown_and_its_view_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    rclpy.init()
    nodes = [QueryNode(Loaded, namespace='/robot_a'), Node('viewer', namespace='/robot_a')]
    try:
        client = nodes[1].create_client(Trigger, topics.RVIZ_CONFIG)
        assert spin_until(nodes, client.service_is_ready)

        def asked():
            future = client.call_async(Trigger.Request())
            assert spin_until(nodes, future.done)
            return future.result()
        assert asked().message.startswith('NOT_ACTIVE: query_node is not active')
        assert nodes[0].start_alone(), nodes[0].failure
        clouds = []     # who comes late sees it as well
        nodes[1].create_subscription(PointCloud2, topics.MAP, clouds.append, topics.MAP_QOS)
        assert spin_until(nodes, lambda: clouds)
        assert clouds[0].header.frame_id == 'map'
        assert [field.name for field in clouds[0].fields] == ['x', 'y', 'z', 'rgb']
        rows = np.frombuffer(clouds[0].data, '<f4').reshape(-1, 4)
        np.testing.assert_array_equal(rows[:, :3], POINTS)
        assert rows[:, 3].copy().view('<u4').tolist() == [0x010203] * 3
        response = asked()
        assert response.success and response.message == f'{tmp_path}/lerf_ros/robot_a.rviz'
        manager = yaml.safe_load(Path(response.message).read_text())['Visualization Manager']
        assert manager['Views']['Current']['Focal Point']['X'] == pytest.approx(5.0)
        assert manager['Displays'][1]['Topic']['Value'] == '/robot_a/lerf/map'
    finally:
        for node in nodes:
            node.destroy_node()
        rclpy.shutdown()


def test_the_image_qos_matches_a_reliable_camera():
    level, reason = qos_check_compatible(topics.profile(topics.IMAGE_DEPTH),
                                         wanted_qos(dict(displays())['Image']))
    assert level == QoSCompatibility.OK, reason
