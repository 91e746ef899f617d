# SPDX-License-Identifier: Apache-2.0
"""What the layout of Foxglove subscribes to, publishes and calls is what the nodes offer."""

import json
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from ros_bench import FakeMap

from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.srv import Query

pytestmark = pytest.mark.ros
LAYOUT = json.loads((Path(__file__).resolve().parents[2] / 'config' / 'lerf.foxglove.json'
                     ).read_text())
PANELS = LAYOUT['configById']
# What a panel can show.
SHOWN = {'3D': {'PointCloud2', 'MarkerArray', 'PoseStamped', 'PoseArray'},
         'Image': {'Image', 'CompressedImage'}, 'RawMessages': {'Answer'}}


def panels(kind):
    return [panel for name, panel in PANELS.items() if name.split('!')[0] == kind]


def subscribed():
    """(panel, topic) of all that is shown."""
    yield from (('3D', topic) for panel in panels('3D') for topic in panel['topics'])
    yield from (('Image', panel['imageMode']['imageTopic']) for panel in panels('Image'))
    yield from (('RawMessages', panel['topicPath']) for panel in panels('RawMessages'))


def named(part):
    """The panels in a part of the layout."""
    return [part] if isinstance(part, str) else named(part['first']) + named(part['second'])


@pytest.fixture(scope='module')
def node(ros):
    node = QueryNode(FakeMap)
    yield node
    node.destroy_node()


def test_every_panel_is_placed_once():
    assert sorted(named(LAYOUT['layout'])) == sorted(PANELS)
    assert {name.split('!')[0] for name in PANELS} == {*SHOWN, 'CallService', 'Publish'}


def test_what_is_shown_is_published_and_of_a_type_that_the_panel_shows(node):
    offered = {publisher.topic_name: publisher.msg_type.__name__ for publisher in node.publishers}
    offered['/' + MapperNodeConfig().image_topic] = 'Image'     # the camera's
    shown = list(subscribed())
    assert {topic for _, topic in shown} >= {
        '/' + name for name in (topics.MAP, topics.RELEVANCY, topics.MARKERS, topics.TARGET_POSE,
                                topics.PICTURE, topics.ANSWER)}
    for panel, topic in shown:
        assert offered[topic] in SHOWN[panel], topic


def test_the_service_and_the_prompt_have_the_types_and_fields_of_the_node(node):
    services = {'/' + service.srv_name.lstrip('/'): service.srv_type for service in node.services}
    call, publish = panels('CallService')[0], panels('Publish')[0]
    assert services[call['serviceName']] is Query
    request = Query.Request(**json.loads(call['requestPayload']))       # a wrong name is refused
    assert request.text and request.plan_stand_off
    heard = {subscription.topic_name: subscription.msg_type for subscription in node.subscriptions}
    kind = heard[publish['topicName']]
    assert publish['datatype'] == f'std_msgs/msg/{kind.__name__}'
    assert kind(**json.loads(publish['value'])).data


def test_keyframes_are_off_as_in_rviz():
    markers = panels('3D')[0]['topics']['/' + topics.MARKERS]
    assert markers['namespaces'] == {'keyframes': {'visible': False}}
