# SPDX-License-Identifier: Apache-2.0
"""What the core logs in a node's process is the node's: level, stamp and /rosout."""

import logging

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

import rclpy
from rcl_interfaces.msg import Log
from rclpy.logging import LoggingSeverity, set_logger_level
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_bench import FakeMap, spin_until

from lerf_ros.nodes.query_node import QueryNode

pytestmark = pytest.mark.ros
core = logging.getLogger('lerf_ros.mapping.saving')


@pytest.fixture
def nodes():
    rclpy.init()
    made = [QueryNode(FakeMap), Node('listener')]
    yield made
    for node in made:
        node.destroy_node()
    rclpy.shutdown()


def test_lines_of_the_core_reach_rosout_with_their_level(nodes):
    heard = []
    nodes[1].create_subscription(Log, '/rosout', heard.append, QoSProfile(
        depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    core.info('snapshot %d', 7)
    core.warning('no space')
    core.debug('not asked for')

    def lines():
        return [m for m in heard if m.name == 'query_node' and 'mapping.saving' in m.msg]
    assert spin_until(nodes, lambda: len(lines()) >= 2)
    assert [(m.level, m.msg) for m in lines()] == [
        (int(LoggingSeverity.INFO), '[mapping.saving] snapshot 7'),
        (int(LoggingSeverity.WARN), '[mapping.saving] no space')]
    assert all(m.stamp.sec > 0 for m in lines())


@pytest.fixture
def log_level():
    yield
    # Jazzy keeps the level of --log-level after rclpy.shutdown, for every node of the process.
    set_logger_level('', LoggingSeverity.INFO)


def test_the_log_level_of_a_node_is_that_of_the_core(capfd, log_level):
    rclpy.init(args=['--ros-args', '--log-level', 'error'])
    node = QueryNode(FakeMap)
    core.warning('too low')
    core.error('high enough')
    node.destroy_node()
    rclpy.shutdown()
    said = ''.join(capfd.readouterr())
    assert 'high enough' in said and 'too low' not in said
    assert said.count('high enough') == 1


def test_a_destroyed_node_hears_no_more(capfd, nodes):
    nodes[0].destroy_node()
    core.info('nobody listens')
    assert 'nobody listens' not in ''.join(capfd.readouterr())
