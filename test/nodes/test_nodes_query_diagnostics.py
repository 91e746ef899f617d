# SPDX-License-Identifier: Apache-2.0
"""/diagnostics of the query node: the map and its age, and what becomes of queries."""

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from ros_bench import FakeMap, overrides, spin_until

from lerf_ros.errors import MapUnreadableError
from lerf_ros.msg import ErrorCode
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.query.diagnostics import (
    QueryNodeState,
    QueryStatistics,
    map_status,
)
from lerf_ros.nodes.query.messages import error_name
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.srv import Query

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]


def values(status):
    return {value.key: value.value for value in status.values}


def test_counts_rate_and_latency_of_made_up_answers():
    now = [100.0]
    statistics = QueryStatistics(lambda: now[0])
    assert statistics.report(0).message == 'none yet'
    for i in range(1, 6):       # five answers in five seconds, of 10 to 50 ms
        now[0] += 1.0
        statistics.add(ErrorCode.NONE, 0.01 * i)
    statistics.add(ErrorCode.EMPTY_TEXT, 0.0)
    status = statistics.report(waiting=3)
    assert status.level == DiagnosticStatus.OK      # an empty phrase is the asker's fault
    # The window of the rate, 5 s, begins just after the first of the five.
    assert values(status) == {
        'answered': '5', 'failed': '1', 'busy': '0', 'waiting': '3', 'rate (Hz)': '1',
        'latency p50 (ms)': '30', 'latency max (ms)': '50', 'age of the last answer (s)': '0',
        'failed: EMPTY_TEXT': '1'}


@pytest.mark.parametrize('code', ['BUSY', 'INTERNAL'])
def test_failures_of_the_node_itself_are_a_warning_for_a_while(code):
    now = [0.0]
    statistics = QueryStatistics(lambda: now[0])
    statistics.add(getattr(ErrorCode, code), 0.0)
    status = statistics.report(0)
    assert status.level == DiagnosticStatus.WARN and code in status.message
    assert values(status)['busy'] == str(int(code == 'BUSY'))
    assert values(status)['failed'] == str(int(code == 'INTERNAL'))
    now[0] += 11.0
    assert statistics.report(0).level == DiagnosticStatus.OK


def test_error_codes_have_their_names():
    assert [error_name(code) for code in (
        ErrorCode.NONE, ErrorCode.EMPTY_TEXT, ErrorCode.STORAGE, ErrorCode.INTERNAL, 99)] == [
        'NONE', 'EMPTY_TEXT', 'STORAGE', 'INTERNAL', '99']


def test_the_map_and_the_age_of_its_snapshot():
    map_ = FakeMap('nowhere')       # snapshot 1, taken at 5 s
    status = map_status(QueryNodeState(map_, True, '', 0), now_ns=17 * 10**9)
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'snapshot 1 answers')
    assert values(status) == {'loaded': 'True', 'snapshot': '1', 'map frame': 'map',
                              'snapshot age (s)': '12'}
    assert map_status(QueryNodeState(map_, True, 'damaged', 0), 0).level == DiagnosticStatus.WARN
    map_.ready = False
    assert map_status(QueryNodeState(map_, True, '', 0), 0).level == DiagnosticStatus.WARN
    empty = map_status(QueryNodeState(map_, True, 'damaged', 0), 0)
    assert (empty.level, empty.message) == (DiagnosticStatus.ERROR, 'no snapshot yet; damaged')
    assert values(empty)['snapshot age (s)'] == ''


class Damaged(FakeMap):
    def refresh(self):
        self.ready = False
        raise MapUnreadableError('index.safetensors is damaged')


@pytest.fixture
def bench(tmp_path, nodes):
    other, heard = Node('other'), {}
    nodes.append(other)

    def take(msg):
        heard.update({status.name: status for status in msg.status})

    def make(kind=FakeMap, **settings):
        node = QueryNode(kind, namespace='/arm', parameter_overrides=overrides(
            map_directory=str(tmp_path), **settings))
        nodes.append(node)
        return node, other, heard

    other.create_subscription(DiagnosticArray, '/diagnostics', take, topics.DIAGNOSTICS_QOS)
    return make


def test_diagnostics_over_dds_in_every_state(bench):
    node, other, heard = bench()

    def says(words):
        return lambda: words in getattr(heard.get('arm/query_node: map'), 'message', '')

    assert spin_until((node, other), says('not configured'))
    node.trigger_configure()
    assert spin_until((node, other), says('not active'))
    node.trigger_activate()
    assert spin_until((node, other), says('snapshot 1 answers'))
    client = other.create_client(Query, '/arm/lerf/query')
    assert spin_until((node, other), client.service_is_ready)
    for result in (node.map.result, node.map.result, RuntimeError('a bug')):
        node.map.result = result
        future = client.call_async(Query.Request(text='mug'))
        assert spin_until((node, other), future.done)
    assert spin_until((node, other), lambda: {
        'answered': '2', 'failed: INTERNAL': '1'}.items() <= values(
            heard['arm/query_node: queries']).items())
    assert heard['arm/query_node: queries'].level == DiagnosticStatus.WARN


def test_a_damaged_map_is_an_error_there_too(bench):
    node, other, heard = bench(Damaged, refresh_period=0.05)
    assert node.start_alone()
    assert spin_until((node, other), lambda: 'arm/query_node: map' in heard)
    status = heard['arm/query_node: map']
    assert status.level == DiagnosticStatus.ERROR and 'index.safetensors' in status.message
