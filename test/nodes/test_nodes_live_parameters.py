# SPDX-License-Identifier: Apache-2.0
"""Parameters over real DDS: what `ros2 param dump, list, describe, set` see of both nodes."""

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

import rclpy
import yaml
from hand_made_map import COLORS, WordEncoder, write_map
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
)
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from ros_bench import FakeMap, FakeProcess, overrides, spin_until
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

import lerf_ros.map_query
from lerf_ros.config import LerfConfig
from lerf_ros.map_query import MapQuery
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.node_config import MapperNodeConfig, QueryNodeConfig
from lerf_ros.nodes.mapper_node import MapperNode
from lerf_ros.nodes.query_node import AnswerConfig, QueryNode
from lerf_ros.settings import flat_fields
from lerf_ros.srv import Query
from lerf_ros.storage.map_directory import MapDirectory

pytestmark = pytest.mark.ros


@pytest.fixture(autouse=True)
def ros():
    rclpy.init()
    yield
    rclpy.shutdown()


class Client:
    """Calls services of a node, from another one."""

    def __init__(self, node):
        self.node, self.own = node, Node('ros2cli')
        self.nodes = (node, self.own)

    def call(self, kind, name, request):
        client = self.own.create_client(kind, name)
        assert spin_until(self.nodes, client.service_is_ready)
        future = client.call_async(request)
        assert spin_until(self.nodes, future.done)
        return future.result()

    def of_node(self, kind, service, **request):
        return self.call(kind, f'{self.node.get_name()}/{service}', kind.Request(**request))

    def dump(self):
        """What `ros2 param dump` does: all names, then all values in one request."""
        names = self.of_node(ListParameters, 'list_parameters').result.names
        values = self.of_node(GetParameters, 'get_parameters', names=names).values
        return {name: parameter_value_to_python(value)
                for name, value in zip(names, values, strict=bool(values))}

    def set(self, name, value, kind=None):
        parameter = Parameter(name, kind, value) if kind else Parameter(name, value=value)
        (result,) = self.of_node(SetParameters, 'set_parameters', parameters=[
            parameter.to_parameter_msg()]).results
        return result

    def close(self):
        for node in self.nodes:
            node.destroy_node()


@pytest.fixture
def client():
    made = []

    def make(node):
        made.append(Client(node))
        return made[-1]
    yield make
    for one in made:
        one.close()


def settings_of(*configs):
    return {name: list(value) if isinstance(value, tuple) else value
            for config in configs for name, _, value in flat_fields(config)}


@pytest.mark.parametrize(('make', 'configs'), [
    (lambda **more: MapperNode(FakeProcess, **more), (MapperNodeConfig(), LerfConfig())),
    (lambda **more: QueryNode(FakeMap, **more), (QueryNodeConfig(), AnswerConfig()))])
def test_a_dump_holds_every_parameter_and_can_be_loaded_again(client, tmp_path, make, configs):
    c = client(make())
    dumped, expected = c.dump(), settings_of(*configs)
    assert {name: dumped[name] for name in expected} == expected
    types = c.of_node(GetParameterTypes, 'get_parameter_types', names=list(expected)).types
    assert ParameterType.PARAMETER_NOT_SET not in types
    described = c.of_node(DescribeParameters, 'describe_parameters', names=list(expected))
    assert [d.type for d in described.descriptors] == list(types)
    assert all(d.description for d in described.descriptors)
    # As ros2 param dump writes it, and a params file of the next start.
    file = tmp_path / 'dump.yaml'
    own = {name: value for name, value in dumped.items() if not name.startswith('qos_overrides')}
    file.write_text(yaml.safe_dump({'/**': {'ros__parameters': own}}))
    again = make(cli_args=['--ros-args', '--params-file', str(file)])
    for name, value in expected.items():
        found = again.get_parameter(name).value
        assert (list(found) if isinstance(value, list) else found) == value, name
    again.destroy_node()


@pytest.mark.parametrize(('name', 'value', 'why'), [
    ('map_directory', '/elsewhere', 'start it again with the new value'),
    ('features.encoder', 'openclip', 'the encoder is that of the map'),
    ('preset', 'online', 'the encoder is that of the map'),
    ('query.threshold', 1.5, 'range'),
    ('query.boxes', 'round', 'choose one of upright, minimal'),
    ('grasp.approach', 'below', 'choose one of top_down'),
    ('grasp.hand_box', [0.1, 0.1], 'give x, y, z')])
def test_the_query_node_says_why_a_parameter_stays(client, name, value, why):
    c = client(QueryNode(FakeMap))
    before = c.dump()
    result = c.set(name, value)
    assert not result.successful and why in result.reason
    assert c.dump() == before and c.node.given == {}


@pytest.mark.parametrize(('name', 'value', 'why'), [
    ('query.threshold', 0.5, 'set it on query_node'),
    ('training.rays', 64, 'the map is made with it'),
    ('image_topic', 'x', 'mapper_node reads it when it starts')])
def test_the_mapper_node_says_why_a_parameter_stays(client, name, value, why):
    c = client(MapperNode(FakeProcess))
    result = c.set(name, value)
    assert not result.successful and name in result.reason and why in result.reason


def test_parameters_of_rclpy_still_change(client):
    c = client(QueryNode(FakeMap))
    assert c.set('use_sim_time', True).successful


@pytest.fixture
def hand_made(monkeypatch, tmp_path):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
    return write_map(tmp_path / 'map')


def test_a_threshold_counts_from_the_next_query_on(client, hand_made):
    c = client(QueryNode(MapQuery, parameter_overrides=overrides(map_directory=str(hand_made))))
    assert c.node.start_alone()

    def ask():
        return c.call(Query, topics.QUERY, Query.Request(texts=list(COLORS)))
    assert len(ask().hits) == 3
    # Of each phrase, and each has one place: none goes for another's.
    assert c.set('query.max_hits', 1).successful and len(ask().hits) == 3
    assert c.node.map.text_query.config.max_hits == 1
    assert c.set('query.threshold', 1.0).successful and not ask().hits
    assert c.set('query.negatives', [], Parameter.Type.STRING_ARRAY).successful
    assert c.dump()['query.max_hits'] == 1


def test_what_is_not_given_is_shown_as_the_map_has_it(client, hand_made):
    import json
    meta = json.loads((hand_made / 'meta.json').read_text())
    meta['config']['query'].update(threshold=0.75, max_hits=9, negatives=['object'])
    (hand_made / 'meta.json').write_text(json.dumps(meta))
    given = overrides(map_directory=str(hand_made), **{'query.max_hits': 2})
    c = client(QueryNode(MapQuery, parameter_overrides=given))
    assert c.node.start_alone()
    dumped = c.dump()
    assert (dumped['query.threshold'], dumped['query.max_hits'], dumped['query.negatives']) == (
        0.75, 2, ['object'])
    assert set(c.node.given) == {'query.max_hits'}      # shown, not given
    response = c.call(Query, topics.QUERY, Query.Request(texts=list(COLORS)))
    assert len(response.hits) == 3 and c.node.map.text_query.config.max_hits == 2


def test_a_reset_takes_the_erased_map_off_the_display(client, hand_made):
    c = client(QueryNode(MapQuery, parameter_overrides=overrides(
        map_directory=str(hand_made), refresh_period=0.05)))
    assert c.node.start_alone()
    assert c.call(Query, topics.QUERY, Query.Request(text='mug')).hits
    directory = MapDirectory(hand_made)
    meta = {k: v for k, v in directory.meta().items() if k not in ('format', 'id', 'edition')}
    directory.clear(meta)
    assert spin_until(c.nodes, lambda: not c.node.map.ready)
    clouds, markers = [], []    # who comes late gets what is latched
    c.own.create_subscription(PointCloud2, topics.RELEVANCY, clouds.append, topics.RELEVANCY_QOS)
    c.own.create_subscription(MarkerArray, topics.MARKERS, markers.append, topics.MARKERS_QOS)
    assert spin_until(c.nodes, lambda: clouds and markers)
    assert clouds[-1].width == 0 and clouds[-1].header.frame_id == 'map'
    assert [m.action for m in markers[-1].markers] == [Marker.DELETEALL]


def test_a_map_that_is_not_there_is_not_answered_from(client, tmp_path, capfd):
    c = client(QueryNode(MapQuery, parameter_overrides=overrides(
        map_directory=str(tmp_path / 'nowhere'))))
    assert c.node.start_alone()
    said = ''.join(capfd.readouterr())
    assert 'there is no map in' in said and 'answers come from' not in said
