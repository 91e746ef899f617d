# SPDX-License-Identifier: Apache-2.0
"""What comes back from the query node: every field of the response, frames, standing prompts."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from full_answer import GRASP, full_answer, shifted
from geometry_msgs.msg import Pose, PoseArray, PoseStamped, TransformStamped, Vector3
from rclpy.node import Node
from robot.rooms import known_space, mug_hit
from ros_bench import FakeMap, answer, overrides, spin_until
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import NoSnapshotError
from lerf_ros.msg import Answer as AnswerMsg
from lerf_ros.msg import ErrorCode
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import pose_to_matrix, stamp_to_ns
from lerf_ros.nodes.common.conversions.clouds import CLOUD_FIELDS
from lerf_ros.nodes.common.topics import profile
from lerf_ros.nodes.demo.client import answer_from_response
from lerf_ros.nodes.query.messages import fill_response, prompt_to_request, snapshot_age, to_hit
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.query.answer import ConfirmingView, PhraseAnswer, Presence
from lerf_ros.query.request import QueryRequest
from lerf_ros.srv import Query

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
Response = Query.Response


@pytest.fixture
def bench(nodes):
    def make(result, **settings):
        kind = type('Map', (FakeMap,), {'result': result})
        node = QueryNode(kind, parameter_overrides=overrides(**settings))
        other = Node('other')
        nodes.extend((node, other))
        b = SimpleNamespace(node=node, other=other, nodes=(node, other),
                            client=other.create_client(Query, topics.QUERY))
        assert node.start_alone(), node.failure
        assert spin_until(b.nodes, b.client.service_is_ready)
        return b

    return make


def ask(b, **request):
    future = b.client.call_async(Query.Request(**request))
    assert spin_until(b.nodes, future.done)
    return future.result()


def test_every_field_of_the_response(bench):
    b = bench(full_answer())
    response = ask(b, texts=['mug', 'cup'], return_cloud=True)
    assert (response.success, response.presence, response.query_id) == (True, Presence.PRESENT, 1)
    assert (response.probability, response.observed) == (0.875, 0.5)
    assert (response.hits[0].label, response.hits[0].probability) == ('cup', 0.75)
    assert (response.encode_time, response.search_time, response.grasp_time) == (
        0.25, 0.125, 0.0625)
    (grasp,) = response.grasps
    assert grasp.opening_width == pytest.approx(0.06)
    assert [p.position.z for p in (grasp.pose, grasp.pregrasp_pose, grasp.gripper_pose)] == [
        3.0, 2.9, 2.8]
    assert [grasp.score, grasp.semantic_score, grasp.geometric_score] == pytest.approx(
        [0.9, 0.95, 0.5])
    assert response.has_target and response.target_pose.pose == grasp.pose
    assert response.no_target_reason == ''
    now_ns = stamp_to_ns(response.target_pose.header.stamp)
    assert response.map_age.sec == (now_ns - 5 * 10**9) // 10**9
    labels = np.frombuffer(response.cloud.data, '<u4').reshape(-1, len(CLOUD_FIELDS))[:, 5]
    assert labels.tolist() == [1, 0]


def test_without_calibration_the_probabilities_are_nan(bench):
    response = ask(bench(answer()), text='red mug')
    assert math.isnan(response.probability) and math.isnan(response.hits[0].probability)
    assert math.isnan(response.observed)


def test_a_thing_that_cannot_be_grasped_says_why(bench):
    result = replace(answer(), T_world_target=None, no_target_reason='too wide: 0.30 m')
    response = ask(bench(result), text='sofa')
    assert (response.presence, response.has_target) == (Presence.PRESENT, False)
    assert response.no_target_reason == 'too wide: 0.30 m' and '0.30 m' in response.message


def test_not_observed_is_told_from_absent(bench):
    result = replace(answer(found=False), presence=Presence.NOT_OBSERVED, observed=0.25)
    response = ask(bench(result), text='mug')
    assert response.success and response.presence == Presence.NOT_OBSERVED
    assert '25%' in response.message


def test_the_age_of_a_map_from_the_future_is_zero():
    response = Response()
    fill_response(response, answer(), Header().stamp)
    assert (response.map_age.sec, response.map_age.nanosec) == (0, 0)
    stamp = Header().stamp
    stamp.sec, stamp.nanosec = 7, 250
    assert (snapshot_age(5 * 10**9, stamp).sec, snapshot_age(5 * 10**9, stamp).nanosec) == (2, 250)


def test_the_map_frame_by_name_needs_no_tf(bench):
    b = bench(answer())
    assert ask(b, text='mug', frame_id='map').success
    assert ask(b, text='mug', frame_id='/map').success
    assert not [s for s in b.node.subscriptions if s.topic_name.startswith('/tf')]


def test_an_unknown_frame_is_named(bench):
    b = bench(answer(), frame_timeout=0.3)
    response = ask(b, text='mug', frame_id='base_link')
    assert response.error_code == ErrorCode.NO_TRANSFORM
    assert 'base_link' in response.message and 'nothing arrived' in response.message
    response = ask(b, text='mug', frame_id='x' * 300)
    assert response.error_code == ErrorCode.INVALID_REQUEST


def test_an_answer_and_its_region_in_another_frame(bench):
    b = bench(full_answer())
    publisher = b.other.create_publisher(TFMessage, '/tf', topics.TF_QOS)
    edge = TransformStamped(child_frame_id='base_link')
    edge.header.frame_id = 'map'
    edge.transform.translation.x = 1.0                      # base_link is at (1, 0, 0),
    edge.transform.rotation.z = edge.transform.rotation.w = 0.5 ** 0.5   # turned left by 90 deg
    b.other.create_timer(0.05, lambda: publisher.publish(TFMessage(transforms=[edge])))
    targets = []
    b.other.create_subscription(PoseStamped, topics.TARGET_POSE, targets.append,
                                topics.TARGET_POSE_QOS)
    assert spin_until(b.nodes, lambda: b.node.publisher.target.get_subscription_count())
    region = Pose()
    region.position.x = 2.0
    response = ask(b, text='mug', frame_id='base_link', return_cloud=True, region_pose=region,
                   region_size=Vector3(x=1.0, y=1.0, z=1.0))
    assert response.success, response.message
    assert response.target_pose.header == response.header == response.cloud.header
    assert response.header.frame_id == 'base_link'
    # the map's (1, 2, 3) is 2 m straight ahead of it
    for position in (response.hits[0].box.center.position, response.target_pose.pose.position,
                     response.grasps[0].pose.position):
        np.testing.assert_allclose([position.x, position.y, position.z], [2, 0, 3], atol=1e-12)
    cloud = np.frombuffer(response.cloud.data, '<f4').reshape(-1, len(CLOUD_FIELDS))[:, :3]
    np.testing.assert_allclose(cloud, [[2, 0, 3], [0, 1, 0]], atol=1e-6)
    # and 2 m ahead of base_link is the map's (1, 2, 0)
    asked = b.node.map.requests[0].region
    np.testing.assert_allclose(asked.T_world_region[:3, 3], [1, 2, 0], atol=1e-12)
    # what everybody sees stays in the map frame
    assert spin_until(b.nodes, lambda: targets)
    assert (targets[0].header.frame_id, targets[0].pose.position.y) == ('map', 2.0)
    response = ask(b, text='mug', frame_id='elsewhere')
    assert response.error_code == ErrorCode.NO_TRANSFORM and 'base_link' in response.message


def test_grasps_are_a_topic(bench):
    b = bench(full_answer())
    heard = []
    b.other.create_subscription(PoseArray, topics.GRASPS, heard.append, topics.GRASPS_QOS)
    assert spin_until(b.nodes, lambda: b.other.count_publishers('/lerf/grasps'))
    assert spin_until(b.nodes, lambda: ask(b, text='mug') and heard)
    assert [p.position.z for p in heard[0].poses] == [3.0]


def test_the_points_of_the_best_hit_are_a_topic(bench):
    shown = full_answer()
    numbers = np.arange(len(shown.points_world)) % 2 + 1
    b = bench(replace(shown, hit_numbers=numbers.astype(np.uint32)))
    heard = []
    b.other.create_subscription(PointCloud2, topics.TARGET_CLOUD, heard.append,
                                topics.TARGET_CLOUD_QOS)
    assert spin_until(b.nodes, lambda: b.other.count_publishers('/lerf/target_cloud'))
    assert spin_until(b.nodes, lambda: ask(b, text='mug') and heard)
    assert heard[0].width == np.count_nonzero(numbers == 1) and heard[0].header.frame_id == 'map'
    points = np.frombuffer(heard[0].data, '<f4').reshape(heard[0].width, -1)[:, :3]
    np.testing.assert_allclose(points, shown.points_world[numbers == 1], atol=1e-6)


def test_a_standing_prompt_is_answered_again_after_each_snapshot(bench):
    class Growing(FakeMap):
        result, fresh = answer(), False

        def refresh(self):
            fresh, self.fresh = self.fresh, False
            self.snapshot_id += fresh
            return fresh

    b = bench(answer(), refresh_period=0.05)
    map_ = b.node.map = Growing('')
    clouds = []
    b.other.create_subscription(PointCloud2, topics.RELEVANCY, clouds.append, topics.RELEVANCY_QOS)
    prompts = b.other.create_publisher(String, topics.PROMPTS, 10)     # as `ros2 topic pub` is
    assert spin_until(b.nodes, prompts.get_subscription_count)
    prompts.publish(String(data='red mug; cup'))
    assert spin_until(b.nodes, lambda: len(clouds) == 1)
    assert map_.requests == [QueryRequest(texts=('red mug', 'cup'))]
    assert not spin_until(b.nodes, lambda: len(clouds) > 1, timeout_s=0.5)
    for count in (2, 3):
        map_.fresh = True
        assert spin_until(b.nodes, lambda count=count: len(clouds) == count)
    prompts.publish(String(data=''))
    assert spin_until(b.nodes, lambda: b.node.prompt.request is None)
    map_.fresh = True
    assert not spin_until(b.nodes, lambda: len(clouds) > 3, timeout_s=0.5)


def test_where_a_base_stands_is_planned_when_it_is_asked_for(bench, monkeypatch):
    room = known_space()
    hit = replace(mug_hit(), label='mug')
    b = bench(replace(answer(), hits=(hit,)))
    poses = []
    b.other.create_subscription(PoseStamped, topics.STAND_OFF_POSE, poses.append, profile(10))
    monkeypatch.setattr(b.node.space, 'of', lambda map_, around: room)
    assert spin_until(b.nodes, lambda: b.other.count_publishers('/lerf/stand_off_pose'))
    assert not ask(b, text='mug').has_stand_off
    response = ask(b, text='mug', plan_stand_off=True)
    assert response.has_stand_off and response.stand_off_note == ''
    assert response.stand_off_pose.header == response.header
    T = pose_to_matrix(response.stand_off_pose.pose)
    np.testing.assert_allclose(T, room.stand_off(hit).T_world_base, atol=1e-9)
    assert T[2, 3] == pytest.approx(0.0, abs=0.01)              # on the floor
    ahead = np.array(hit.position[:2]) - T[:2, 3]
    np.testing.assert_allclose(T[:2, 0], ahead / np.linalg.norm(ahead), atol=1e-9)
    assert spin_until(b.nodes, lambda: ask(b, text='mug', plan_stand_off=True) and poses)
    assert poses[0].pose == response.stand_off_pose.pose
    monkeypatch.setattr(b.node.space, 'of', lambda map_, around: None)   # no snapshot
    response = ask(b, text='mug', plan_stand_off=True)
    assert not response.has_stand_off and 'no snapshot' in response.stand_off_note


def turned_target(yaw_deg=0.0, **shift):
    T = shifted(**shift)
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    T[:2, :2] = [[c, -s], [s, c]]
    return replace(answer(), T_world_target=T)


def test_the_target_of_a_standing_prompt_is_sent_when_it_is_another_one(bench):
    b = bench(answer(), refresh_period=0.05)
    targets, answers = [], []
    b.other.create_subscription(PoseStamped, topics.TARGET_POSE, targets.append, profile(10))
    b.other.create_subscription(AnswerMsg, topics.ANSWER, answers.append, topics.ANSWER_QOS)
    assert spin_until(b.nodes, lambda: b.node.publisher.target.get_subscription_count()
                      and b.other.count_publishers('/lerf/answer'))
    # The target that each answer has, and how many were sent by then.
    steps = [(turned_target(), 1), (turned_target(x=0.009), 1), (turned_target(x=0.02), 2),
             (turned_target(x=0.02, yaw_deg=4.0), 2), (turned_target(x=0.02, yaw_deg=10.0), 3),
             (answer(found=False), 3), (turned_target(x=0.02, yaw_deg=10.0), 4)]
    for count, (result, sent) in enumerate(steps, 1):
        b.node.map.result = result
        if count == 1:
            b.node.prompt.on_prompt(String(data='red mug'))
        else:
            b.node.prompt.due = True
        assert spin_until(b.nodes, lambda count=count: len(answers) == count)
        assert spin_until(b.nodes, lambda sent=sent: len(targets) >= sent)
        assert len(targets) == sent, count
    assert all(a.standing and a.text == 'red mug' for a in answers)
    assert [a.presence for a in answers[4:]] == [Presence.PRESENT, Presence.ABSENT,
                                                 Presence.PRESENT]
    ask(b, text='red mug')          # who asks gets it, whatever was sent before
    assert spin_until(b.nodes, lambda: len(targets) == 5)


def test_answers_on_the_topic_say_whose_they_are_and_refusals_are_among_them(bench):
    b = bench(replace(full_answer(), phrases=(
        PhraseAnswer('mug', Presence.ABSENT, looks_more_like=('bowl',)),
        PhraseAnswer('cup', Presence.PRESENT, full_answer().hits, 0.875))))
    answers = []
    b.other.create_subscription(AnswerMsg, topics.ANSWER, answers.append, topics.ANSWER_QOS)
    assert spin_until(b.nodes, lambda: b.other.count_publishers('/lerf/answer'))
    # Until the subscription is matched the first answers may go to nobody.
    assert spin_until(b.nodes, lambda: ask(b, texts=['mug', 'cup']) and answers)
    heard = answers[-1]
    assert (heard.text, heard.standing, heard.success) == ('mug; cup', False, True)
    assert heard.header.frame_id == 'map' and heard.header == heard.target_pose.header
    assert [(p.text, p.presence, len(p.hits)) for p in heard.phrases] == [
        ('mug', Presence.ABSENT, 0), ('cup', Presence.PRESENT, 1)]
    assert list(heard.phrases[0].looks_more_like) == ['bowl']
    b.node.map.result = NoSnapshotError('wait for the mapper')
    response = ask(b, text='mug')
    assert spin_until(b.nodes, lambda: not answers[-1].success)
    heard = answers[-1]
    assert (heard.query_id, heard.error_code) == (response.query_id, ErrorCode.NO_SNAPSHOT)
    assert heard.presence == response.presence == Presence.NOT_OBSERVED
    assert heard.message == 'wait for the mapper' and heard.header.stamp.sec > 0


def test_a_hit_says_when_it_was_last_seen_and_which_keyframes_confirm_it():
    hit = replace(answer().hits[0], last_seen_ns=12 * 10**9 + 5, confirmed_by=(
        ConfirmingView(7, (10.25, 20.0, 30.5, 40.0), 0.75),))
    msg = to_hit(hit)
    assert (msg.last_seen.sec, msg.last_seen.nanosec) == (12, 5)
    (view,) = msg.confirmed_by
    assert (view.keyframe, view.relevancy) == (7, 0.75)
    assert (view.roi.x_offset, view.roi.y_offset, view.roi.width, view.roi.height) == (
        10, 20, 21, 20)      # the whole pixels around the box


@pytest.mark.parametrize(('text', 'request_'), [
    ('red mug', QueryRequest('red mug')), ('a; b ;', QueryRequest(texts=('a', 'b'))),
    ('  ', None), (';;', None), ('', None)])
def test_prompts_in_words(text, request_):
    assert prompt_to_request(String(data=text)) == request_


def test_a_prompt_that_cannot_be_answered_leaves_the_node_alive(bench):
    b = bench(RuntimeError('a bug'))
    b.node.prompt.on_prompt(String(data='mug'))
    assert spin_until(b.nodes, lambda: b.node.map.requests)
    assert ask(b, text='mug').error_code == ErrorCode.INTERNAL


def test_the_node_serves_the_page_while_it_is_active(bench):
    pytest.importorskip('viser', reason='viser is not installed: pip install .[view]')
    import socket
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    b = bench(answer(), viewer_port=port, refresh_period=0.1)
    page = b.node.page
    assert page.url == f'http://127.0.0.1:{port}'
    session = page.open(page.server)
    session.submit('red mug')
    assert spin_until(b.nodes, lambda: session.answer is not None and session.words.content
                      .startswith("'red mug': 1 place") and not page.waiting)
    b.node.trigger_deactivate()
    assert b.node.page is None


def test_a_response_is_read_back_as_the_answer():
    answered = full_answer()
    response = Response()
    fill_response(response, answered, Header().stamp)
    read = answer_from_response('mug, cup', response)
    assert (read.probability, read.observed, read.timing) == (0.875, 0.5, answered.timing)
    assert (read.hits[0].label, read.hits[0].probability) == ('cup', 0.75)
    assert read.grasps[0].score == pytest.approx(0.9)
    np.testing.assert_allclose(read.grasps[0].T_world_gripper, GRASP.T_world_gripper)
    np.testing.assert_allclose(read.T_world_target, GRASP.T_world_grasp)


def test_a_response_tells_of_every_phrase():
    answered = full_answer()
    response = Response()
    fill_response(response, replace(answered, phrases=(
        PhraseAnswer('mug', Presence.ABSENT, probability=0.25,
                     not_found_reason='the best place has relevancy 0.41, threshold 0.55'),
        PhraseAnswer('cup', Presence.PRESENT, answered.hits, 0.875))), Header().stamp)
    assert response.presence == Presence.PRESENT
    assert response.message.startswith("'cup': 1 place, best at (1.00, 2.00, 3.00) m in 'map'")
    assert ("'mug' was not found: the best place has relevancy 0.41, threshold 0.55, in the map "
            'with probability 0.25') in response.message
