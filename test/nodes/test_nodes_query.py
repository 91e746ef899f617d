# SPDX-License-Identifier: Apache-2.0
"""The query node over Fast DDS: every failure has a code, every answer its messages."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from ros_bench import FakeMap, answer, overrides, spin_until
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from lerf_ros.errors import EncoderMismatchError, EncoderUnavailableError
from lerf_ros.map_query import MapQuery
from lerf_ros.msg import ErrorCode, Presence
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions.clouds import CLOUD_FIELDS
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.query.request import QueryRequest
from lerf_ros.srv import Query

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
Response = Query.Response


class Bench:
    """One query node and one client."""

    def __init__(self, map_factory, namespace='', start=True, **settings):
        self.node = QueryNode(map_factory, namespace=namespace,
                              parameter_overrides=overrides(**settings))
        self.client_node = Node('client', namespace=namespace)
        self.nodes = (self.node, self.client_node)
        self.client = self.client_node.create_client(Query, topics.QUERY)
        if start:
            assert self.node.start_alone(), self.node.failure

    def ask(self, text, **request):
        assert spin_until(self.nodes, self.client.service_is_ready)
        future = self.client.call_async(Query.Request(text=text, **request))
        assert spin_until(self.nodes, future.done)
        return future.result()

    def listen(self, kind, topic, qos):
        heard = []
        self.client_node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def close(self):
        for node in self.nodes:
            node.destroy_node()


@pytest.fixture
def bench():
    benches = []

    def make(*args, **kwargs):
        benches.append(Bench(*args, **kwargs))
        return benches[-1]

    yield make
    for b in benches:
        b.close()


def fake(result):
    return type('Map', (FakeMap,), {'result': result})


def test_query_before_the_first_snapshot_and_empty_text(bench, tmp_path):
    b = bench(MapQuery, map_directory=str(tmp_path))
    response = b.ask('red mug')
    assert (response.success, response.error_code) == (False, ErrorCode.NO_SNAPSHOT)
    assert str(tmp_path) in response.message
    for text in ('', '  \t'):
        assert b.ask(text).error_code == ErrorCode.EMPTY_TEXT
    assert b.ask('mug', threshold=2.0).error_code == ErrorCode.INVALID_THRESHOLD
    assert b.ask('mug', negatives=['things', ' ']).error_code == ErrorCode.EMPTY_NEGATIVE
    assert b.ask('mug').query_id == 6


def test_unreadable_map_directory(bench, tmp_path):
    (tmp_path / 'meta.json').write_text('{ not json')
    (tmp_path / 'snapshots' / '000001').mkdir(parents=True)
    (tmp_path / 'snapshots' / '000001' / 'manifest.json').write_text('{ not json')
    b = bench(MapQuery, map_directory=str(tmp_path))
    response = b.ask('red mug')
    assert (response.success, response.error_code) == (False, ErrorCode.MAP_UNREADABLE)
    assert response.message


def test_a_map_directory_that_is_a_file(bench, tmp_path):
    (tmp_path / 'map').write_text('x')
    b = bench(MapQuery, map_directory=str(tmp_path / 'map'))
    assert b.ask('red mug').error_code in (ErrorCode.MAP_UNREADABLE, ErrorCode.NO_SNAPSHOT)


@pytest.mark.parametrize(('error', 'code'), [
    (EncoderUnavailableError('install it'), ErrorCode.ENCODER_UNAVAILABLE),
    (EncoderMismatchError('another'), ErrorCode.ENCODER_MISMATCH),
    (RuntimeError('a bug'), ErrorCode.INTERNAL)])
def test_errors_have_codes_and_the_node_lives_on(bench, error, code):
    b = bench(fake(error))
    response = b.ask('red mug')
    assert (response.success, response.error_code) == (False, code)
    assert str(error) in response.message
    assert response.presence == Presence.NOT_OBSERVED and np.isnan(response.probability)
    assert b.ask('red mug').query_id == 2


def test_not_active(bench):
    b = bench(fake(answer()), start=False)
    assert b.ask('red mug').error_code == ErrorCode.NOT_ACTIVE
    b.node.trigger_configure()
    assert b.ask('red mug').error_code == ErrorCode.NOT_ACTIVE
    b.node.trigger_activate()
    assert b.ask('red mug').success
    b.node.trigger_deactivate()
    assert b.ask('red mug').error_code == ErrorCode.NOT_ACTIVE


def test_the_request_reaches_the_map(bench):
    b = bench(fake(answer()))
    b.ask('red mug', negatives=['cup'], rather_than=['red bowl'], part='handle', threshold=0.75,
          max_hits=3, plan_grasps=False)
    b.ask('', texts=['mug', 'cup'])
    assert b.node.map.requests == [
        QueryRequest('red mug', negatives=('cup',), rather_than=('red bowl',), part='handle',
                     threshold=0.75, max_hits=3, plan_grasps=False),
        QueryRequest(texts=('mug', 'cup'))]


def test_an_answer_on_all_topics(bench):
    b = bench(fake(answer()))
    early = b.listen(PoseStamped, topics.TARGET_POSE, topics.TARGET_POSE_QOS)
    assert spin_until(b.nodes, lambda: b.node.publisher.target.get_subscription_count())
    response = b.ask('red mug', return_cloud=True)
    assert response.success and response.has_target and response.metric
    assert response.presence == Presence.PRESENT
    assert response.error_code == ErrorCode.NONE and response.snapshot_stamp.sec == 5
    (hit,) = response.hits
    assert (hit.box.center.position.x, hit.box.size.z) == (1.0, 0.4)
    assert (hit.points, hit.keyframes) == (1, 4)
    assert hit.relevancy == pytest.approx(0.8)
    target = response.target_pose
    assert (target.header.frame_id, target.pose.position.z) == ('map', 3.0)
    age_s = b.node.get_clock().now().nanoseconds * 1e-9 - target.header.stamp.sec
    assert 0 <= age_s < 30      # the time of the answer, not that of the snapshot (5 s)
    assert spin_until(b.nodes, lambda: early) and early[0] == target

    # Who comes late gets what is displayed, but no old target to move to.
    late_target = b.listen(PoseStamped, topics.TARGET_POSE, topics.TARGET_POSE_QOS)
    clouds = b.listen(PointCloud2, topics.RELEVANCY, topics.RELEVANCY_QOS)
    markers = b.listen(MarkerArray, topics.MARKERS, topics.MARKERS_QOS)
    assert spin_until(b.nodes, lambda: clouds and markers)
    assert clouds[0] == response.cloud and not late_target
    relevancy = np.frombuffer(clouds[0].data, '<f4').reshape(-1, len(CLOUD_FIELDS))[:, 4]
    np.testing.assert_allclose(relevancy, [0.8, 0.1], rtol=1e-6)
    by_name = {marker.ns: marker for marker in markers[0].markers}
    assert set(by_name) == {'', 'boxes', 'edges', 'labels', 'target', 'gripper'}
    box, label, gripper = (by_name[name] for name in ('boxes', 'labels', 'gripper'))
    assert (gripper.type, len(gripper.points)) == (Marker.LINE_LIST, 8)     # four lines
    assert (by_name[''].action, box.type, label.type) == (
        Marker.DELETEALL, Marker.CUBE, Marker.TEXT_VIEW_FACING)
    assert (box.scale.x, box.scale.z, label.text) == (0.1, 0.4, 'red mug 0.80')
    assert 0 < box.color.a < 1


def test_absent_is_an_answer_without_a_target(bench):
    b = bench(fake(answer(found=False)))
    targets = b.listen(PoseStamped, topics.TARGET_POSE, topics.TARGET_POSE_QOS)
    markers = b.listen(MarkerArray, topics.MARKERS, topics.MARKERS_QOS)
    assert spin_until(b.nodes, lambda: b.node.publisher.target.get_subscription_count())
    response = b.ask('unicorn')
    assert (response.success, response.has_target) == (True, False)
    assert response.presence == Presence.ABSENT
    assert 'not found' in response.message and response.header.frame_id == 'map'
    assert response.cloud.width == 0
    assert spin_until(b.nodes, lambda: markers)
    assert [m.action for m in markers[0].markers] == [Marker.DELETEALL, Marker.ADD]
    assert markers[0].markers[1].text == 'red mug: not found' and not targets


def test_a_map_without_metres_says_so(bench):
    b = bench(fake(answer(metric=False)))
    response = b.ask('red mug')
    assert not response.metric and 'not metric' in response.message
    assert 'not metric' not in bench(fake(answer()), namespace='/m').ask('red mug').message


def test_two_robots_do_not_mix(bench):
    a = bench(fake(answer('a')), namespace='/a')
    b = bench(fake(answer(found=False)), namespace='/b')
    assert a.ask('red mug').presence == Presence.PRESENT
    assert b.ask('red mug').presence == Presence.ABSENT
    assert (a.node._queries, b.node._queries) == (1, 1)


def test_a_newer_snapshot_is_loaded_by_the_timer(bench):
    class Growing(FakeMap):
        result = answer()

        def refresh(self):
            self.snapshot_id += 1
            return True

    b = bench(Growing, refresh_period=0.05)
    assert spin_until(b.nodes, lambda: b.node.map.snapshot_id > 3)
