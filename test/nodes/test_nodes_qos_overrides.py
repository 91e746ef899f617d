# SPDX-License-Identifier: Apache-2.0
"""`qos_overrides./topic...` change what the nodes ask for and offer; others are refused."""

import gc
import logging

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from ros_bench import Camera, FakeProcess, overrides, spin_until

from lerf_ros.errors import ConfigError
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.lifecycle import CORE_LOGGER
from lerf_ros.nodes.common.qos_overrides import publisher, subscribe
from lerf_ros.nodes.mapper_node import MapperNode

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
IMAGE = '/camera/color/image_raw'


@pytest.fixture
def make(tmp_path, nodes):
    def make(given):
        parameters = overrides(map_directory=str(tmp_path), status_period=60.0)
        nodes.append(MapperNode(FakeProcess, parameter_overrides=[
            *parameters, *(Parameter(name, value=value) for name, value in given.items())]))
        return nodes[-1]
    return make


def asked(node, topic, count=1):
    assert spin_until([node], lambda: len(node.get_subscriptions_info_by_topic(topic)) == count)
    return [info.qos_profile for info in node.get_subscriptions_info_by_topic(topic)]


def test_subscriptions_and_publishers_take_their_overrides(make):
    mapper = make({'qos_overrides./camera/color/camera_info.subscription.reliability': 'reliable',
                   'qos_overrides./tf.subscription_fast.reliability': 'reliable',
                   'qos_overrides./lerf/status.publisher.durability': 'transient_local'})
    assert mapper.start_alone(), mapper.failure
    (info,) = asked(mapper, '/camera/color/camera_info')
    assert info.reliability == ReliabilityPolicy.RELIABLE
    assert {qos.reliability for qos in asked(mapper, '/tf', 2)} == {ReliabilityPolicy.RELIABLE}
    (offer,) = mapper.get_publishers_info_by_topic('/lerf/status')
    assert offer.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    # The profiles of the package are those of everybody else.
    assert topics.STATUS_QOS.durability == DurabilityPolicy.VOLATILE
    assert topics.CAMERA_INFO_QOS.reliability == ReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize('given', [True, False])
def test_an_override_of_the_images_is_not_changed_by_what_their_publisher_offers(make, given):
    """Without it the subscription follows a best-effort camera."""
    name = f'qos_overrides.{IMAGE}.subscription.reliability'
    mapper = make({name: 'reliable'} if given else {})
    camera = Camera(Node('camera'), reliable=False)
    assert mapper.start_alone(), mapper.failure
    nodes = [mapper, camera.node]
    assert spin_until(nodes, lambda: mapper.get_publishers_info_by_topic(IMAGE))
    mapper.inputs.follow()
    expected = ReliabilityPolicy.RELIABLE if given else ReliabilityPolicy.BEST_EFFORT
    assert mapper.inputs.images[0].qos().reliability == expected
    assert mapper.inputs.monitors[0].qos().reliability == expected
    camera.node.destroy_node()


@pytest.mark.parametrize(('name', 'value', 'words'), [
    ('/lerf/status.publisher.reliability', 'sometimes', 'sometimes'),
    ('/lerf/status.publisher.depth', 'many', 'depth'),
    ('/lerf/status.publisher.speed', 'high', "no QoS policy 'speed', only")])
def test_what_is_no_value_is_refused_by_name(make, name, value, words):
    listening = len(logging.getLogger(CORE_LOGGER).handlers)
    with pytest.raises(ConfigError, match=words):
        make({f'qos_overrides.{name}': value})
    gc.collect()
    # The node that was not made passes no log of the core on.
    assert len(logging.getLogger(CORE_LOGGER).handlers) == listening


def test_an_override_that_nothing_uses_is_named(make, capfd):
    mapper = make({'qos_overrides./camera/colour.subscription.depth': 3})
    assert mapper.start_alone()
    assert 'qos_overrides./camera/colour.subscription.depth: this node has no' in capfd.readouterr(
        ).err


def test_policies_that_are_not_shown_hold_where_they_are_given():
    from std_msgs.msg import String
    node = Node('n', parameter_overrides=[
        Parameter('qos_overrides./x.publisher.deadline', value=10**9),
        Parameter('qos_overrides./y.subscription_b.depth', value=7)])
    assert publisher(node, String, 'x', topics.profile(1)).qos_profile.deadline.nanoseconds == 10**9
    depths = [subscribe(node, String, 'y', print, topics.profile(1), identity).qos_profile.depth
              for identity in (None, 'b')]
    assert depths == [1, 7]
    node.destroy_node()
