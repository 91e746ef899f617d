# SPDX-License-Identifier: Apache-2.0
"""lerf/find over Fast DDS: sure, not there, not seen, out of time, cancelled, refused."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.action', reason='the interfaces of lerf_ros are not built')

from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from hand_made_map import WordEncoder, write_map
from rclpy.action import ActionClient
from rclpy.node import Node
from robot.rooms import known_space
from ros_bench import FakeMap, answer, overrides, spin_until

import lerf_ros.map_query
from lerf_ros.action import Find
from lerf_ros.errors import NotUnderstoodError
from lerf_ros.msg import Answer as AnswerMsg
from lerf_ros.msg import ErrorCode, Presence
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.query.find_goal import Wanted, end_of, missing_of
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.query import answer as core
from lerf_ros.srv import Query

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
R = Find.Result


def found(probability, observed=0.5, **changes):
    """A red mug at (1, 2, 3)."""
    plain = answer()
    return replace(plain, hits=(replace(plain.hits[0], probability=probability),),
                   observed=observed, **changes)


def missed(presence, observed, **changes):
    return replace(answer(found=False), presence=presence, observed=observed, **changes)


@pytest.fixture
def bench(nodes):
    """Sends goals to a query node whose map answers with `result`."""
    def make(result, start=True, **settings):
        node = QueryNode(type('Map', (FakeMap,), {'result': result}), parameter_overrides=overrides(
            find__feedback_period=0.05, **settings))
        user = Node('user')
        nodes.extend((node, user))
        client, answers = ActionClient(user, Find, topics.FIND), []
        user.create_subscription(AnswerMsg, topics.ANSWER, answers.append, topics.ANSWER_QOS)
        assert not start or node.start_alone(), node.failure
        assert spin_until(nodes, client.server_is_ready)
        b = SimpleNamespace(node=node, heard=[], answers=answers)

        def send(until=None, **goal):
            sent = client.send_goal_async(Find.Goal(**goal), lambda m: b.heard.append(m.feedback))
            assert spin_until(nodes, sent.done) and sent.result().accepted
            b.handle, result = sent.result(), sent.result().get_result_async()
            if until is not None:
                until(b)
            assert spin_until(nodes, result.done)
            return result.result().status, result.result().result
        b.send, b.spin = send, lambda condition: spin_until(nodes, condition)
        return b
    return make


def test_a_thing_that_is_found_for_sure_ends_it_at_once(bench):
    b = bench(found(0.9))
    status, result = b.send(text='red mug', colors=['red'])
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert (result.end, result.success, result.error_code) == (R.SURE, True, ErrorCode.NONE)
    assert result.answer.hits[0].box.center.position.z == 3.0 and result.answer.has_target
    assert result.answer.header.frame_id == 'map' and not result.next_views
    assert b.node.map.requests[0].colors == ('red',)
    assert b.spin(lambda: b.answers) and b.answers[0].query_id == result.answer.query_id == 1


def test_every_snapshot_is_asked_until_one_is_sure(bench):
    b = bench(found(0.5))

    def grow(b):
        assert b.spin(lambda: b.heard)
        assert len(b.node.map.requests) == 1        # the same snapshot is not asked again
        b.node.map.result = found(0.85)
        b.node.map.snapshot_id += 1
    status, result = b.send(text='red mug', until=grow, time_limit=Duration(sec=60))
    assert (status, result.end) == (GoalStatus.STATUS_SUCCEEDED, R.SURE)
    first = b.heard[0]
    assert first.best_probability == pytest.approx(0.5) and first.observed == 0.5
    assert first.best.header.frame_id == 'map' and first.best.pose.position.x == 1.0
    assert 'probability 0.50, 0.80 is wanted' in first.missing
    assert '50% of the place was seen well enough, 90% is wanted' in first.missing


def test_what_was_looked_for_everywhere_is_absent(bench):
    b = bench(missed(core.Presence.ABSENT, 0.95))
    status, result = b.send(text='unicorn')
    assert (status, result.end) == (GoalStatus.STATUS_SUCCEEDED, R.ALL_SEEN)
    assert result.answer.presence == Presence.ABSENT and not result.answer.hits
    assert result.message.startswith('everything was seen, and it is not there')


def test_what_was_not_seen_names_views_and_ends_with_the_time(bench, monkeypatch):
    b = bench(missed(core.Presence.NOT_OBSERVED, 0.25))
    room = known_space(unseen_side=True)
    monkeypatch.setattr(b.node.space, 'of', lambda map_, around: room)
    status, result = b.send(text='red mug', time_limit=Duration(nanosec=300_000_000))
    assert (status, result.end) == (GoalStatus.STATUS_SUCCEEDED, R.TIME_LIMIT)
    assert result.success and result.answer.presence == Presence.NOT_OBSERVED
    assert 'the time is up; no place was found yet; 25% of the place' in result.message
    for views in (b.heard[-1].next_views, result.next_views):
        assert views and views[0].header.frame_id == 'map'
    # The best view is where the space that it knows says.
    best = room.next_views().views[0].T_world_camera
    at = result.next_views[0].pose.position
    np.testing.assert_allclose([at.x, at.y, at.z], best[:3, 3], atol=1e-9)


def test_views_are_proposed_only_where_they_are_wanted(bench, monkeypatch):
    b = bench(missed(core.Presence.NOT_OBSERVED, 0.25))
    monkeypatch.setattr(b.node.space, 'of',
                        lambda map_, around: pytest.fail('nobody asked for views'))
    _, result = b.send(text='red mug', propose_views=False, time_limit=Duration(nanosec=10**8))
    assert result.end == R.TIME_LIMIT and not result.next_views


def test_a_cancelled_goal_has_the_last_answer(bench):
    b = bench(found(0.5))

    def cancel(b):
        assert b.spin(lambda: b.heard)
        cancelling = b.handle.cancel_goal_async()
        assert b.spin(cancelling.done) and cancelling.result().goals_canceling
    status, result = b.send(text='red mug', until=cancel)
    assert (status, result.end) == (GoalStatus.STATUS_CANCELED, R.CANCELED)
    assert result.success and result.answer.hits[0].probability == pytest.approx(0.5)


@pytest.mark.parametrize(('goal', 'code', 'words'), [
    ({'text': ' '}, ErrorCode.EMPTY_TEXT, 'say what to look for'),
    ({'text': 'mug', 'min_probability': 1.5}, ErrorCode.INVALID_REQUEST, 'min_probability is 1.5'),
    ({'text': 'mug', 'min_observed': -0.5}, ErrorCode.INVALID_REQUEST, 'min_observed is -0.5'),
    ({'text': 'mug', 'frame_id': 'moon'}, ErrorCode.NO_TRANSFORM, 'moon')])
def test_goals_that_cannot_be_asked_are_aborted_with_the_reason(bench, goal, code, words):
    status, result = bench(found(0.9), frame_timeout=0.2).send(**goal)
    assert status == GoalStatus.STATUS_ABORTED
    assert (result.end, result.success, result.error_code) == (R.FAILED, False, code)
    assert words in result.message and result.answer.presence == Presence.NOT_OBSERVED


def test_errors_of_the_map_and_of_the_node_have_their_codes(bench):
    b = bench(NotUnderstoodError('not a word'))
    assert b.send(text='xyzzy')[1].error_code == ErrorCode.NOT_UNDERSTOOD
    b.node.map.result = RuntimeError('a bug')
    assert b.send(text='mug')[1].error_code == ErrorCode.INTERNAL
    b.node.trigger_deactivate()
    status, result = b.send(text='mug')
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, ErrorCode.NOT_ACTIVE)


def test_without_a_snapshot_it_waits_for_one_and_says_so(bench):
    b = bench(found(0.9))
    b.node.map.ready = False
    _, result = b.send(text='mug', time_limit=Duration(nanosec=2 * 10**8))
    assert (result.end, result.success, result.error_code) == (
        R.TIME_LIMIT, False, ErrorCode.NO_SNAPSHOT)
    assert 'holds no snapshot yet' in result.message and 'no snapshot' in b.heard[0].missing


def test_views_and_places_come_from_the_snapshot_of_a_real_map(tmp_path, monkeypatch, nodes):
    """The room on disk, with a single keyframe in its middle; half of it was not seen."""
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
    room = known_space(unseen_side=True)
    folder = write_map(tmp_path / 'map', room.index, coverage=room.coverage.arrays())
    node, user = QueryNode(parameter_overrides=overrides(map_directory=str(folder))), Node('user')
    nodes.extend((node, user))
    assert node.start_alone(), node.failure
    asked = node.ask_for(Query.Request(text='mug'), True)
    assert not asked.answer.found and asked.frame_id == 'map'
    assert asked.views and all(T.shape == (4, 4) for T in asked.views), asked.why_none
    assert node.space.of(node.map) is node.space.of(node.map)      # made once for a snapshot
    response = Query.Response()
    node.on_query(Query.Request(text='floor', plan_stand_off=True), response)
    assert response.success and response.hits, response.message
    assert not response.has_stand_off and 'no floor under its cameras' in response.stand_off_note


@pytest.mark.parametrize(('given', 'end'), [
    (found(0.8), R.SURE), (found(0.79), None),
    (found(math.nan), R.SURE),                               # the relevancy, 0.8, counts
    (found(0.7, observed=1.0), None),                        # there, but not for sure
    (missed(core.Presence.ABSENT, 0.9), R.ALL_SEEN), (missed(core.Presence.ABSENT, 0.89), None),
    (missed(core.Presence.ABSENT, 0.95, learning='4 keyframes are not in it'), None),
    (missed(core.Presence.NOT_OBSERVED, 0.95, too_coarse='the corner'), None),
    (missed(core.Presence.ABSENT, math.nan), R.ALL_SEEN)])   # a map that cannot tell what it saw
def test_when_it_ends(given, end):
    wanted = Wanted(0.8, 0.9, 1.0)
    assert end_of(given, wanted) == end
    assert end is not None or missing_of(given, wanted)      # it never goes on without a word why
