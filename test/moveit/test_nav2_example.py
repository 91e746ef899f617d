# SPDX-License-Identifier: Apache-2.0
"""The example for Nav2 and the leaf for behaviour trees, with stand-ins for ROS and py_trees.

The stand-ins play the query node and navigate_to_pose; Nav2 itself was not there.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'
if not EXAMPLES.is_dir():
    pytest.skip('the examples are in the source tree alone', allow_module_level=True)
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6      # action_msgs/GoalStatus


class Later:
    """A future that is done from the start."""

    def __init__(self, value):
        self.value = value

    def done(self):
        return True

    def result(self):
        return self.value


class World:
    """What the query node answers and how navigate_to_pose ends; notes what it was asked."""

    def __init__(self, **answer):
        self.answer = SimpleNamespace(**{
            'success': True, 'message': '', 'presence': 1, 'has_stand_off': True,
            'stand_off_pose': 'the pose', 'stand_off_note': '', **answer})
        self.ready, self.accepted, self.status, self.moving = True, True, SUCCEEDED, 0
        self.asked, self.goals, self.canceled = [], [], 0

    def ask(self, request):
        self.asked.append(request)
        return Later(self.answer)

    def send(self, goal, hear):
        self.goals.append(goal.pose)
        hear(SimpleNamespace(feedback='1.5 m to go'))
        return Later(SimpleNamespace(accepted=self.accepted, get_result_async=self.outcome,
                                     cancel_goal_async=self.cancel))

    def cancel(self):
        self.canceled, self.status, self.moving = self.canceled + 1, CANCELED, 0

    def outcome(self):
        world = self

        class Result(Later):
            def done(self):
                world.moving -= 1
                return world.moving < 0

            def result(self):
                return SimpleNamespace(status=world.status)
        return Result(None)


@pytest.fixture
def example(monkeypatch):
    """The example with a world of stand-ins."""
    world = World()

    class Node:
        def __init__(self, name):
            self.name = name

        def create_client(self, kind, name):
            return SimpleNamespace(service_is_ready=lambda: world.ready, call_async=world.ask)

    def client(node, kind, name):
        return SimpleNamespace(server_is_ready=lambda: True, send_goal_async=world.send)

    goal = type('NavigateToPose', (), {'Goal': SimpleNamespace})
    stand_ins = {
        'rclpy': {'spin_once': lambda node, timeout_sec: None}, 'rclpy.node': {'Node': Node},
        'rclpy.action': {'ActionClient': client}, 'nav2_msgs': {},
        'nav2_msgs.action': {'NavigateToPose': goal}, 'action_msgs': {},
        'action_msgs.msg': {'GoalStatus': SimpleNamespace(STATUS_SUCCEEDED=SUCCEEDED,
                                                          STATUS_CANCELED=CANCELED)},
        'lerf_ros.msg': {'Presence': SimpleNamespace(ABSENT=0, PRESENT=1, NOT_OBSERVED=2)},
        'lerf_ros.srv': {'Query': type('Query', (), {'Request': SimpleNamespace,
                                                     'Response': object})}}
    for name, members in stand_ins.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ('navigate_to_thing', 'approach_leaf'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = importlib.import_module('navigate_to_thing')
    yield SimpleNamespace(world=world, module=found, navigator=found.ThingNavigator())
    for name in ('navigate_to_thing', 'approach_leaf'):
        sys.modules.pop(name, None)


def finish(navigator, turns=20):
    for _ in range(turns):
        if navigator.isTaskComplete():
            return navigator.getResult().name
    raise AssertionError('the task does not end')


def test_it_drives_to_where_the_answer_says(example):
    example.world.moving = 3
    assert example.navigator.goToThing('red mug')
    assert finish(example.navigator) == 'SUCCEEDED'
    request, = example.world.asked
    assert (request.text, request.plan_stand_off) == ('red mug', True)
    assert example.world.goals == ['the pose']
    assert example.navigator.getFeedback() == '1.5 m to go'


@pytest.mark.parametrize(('answer', 'reason'), [
    ({'presence': 0}, 'it is not there'), ({'presence': 2}, 'look around first'),
    ({'has_stand_off': False, 'stand_off_note': 'no room'}, 'no place to stand before it: no room'),
    ({'success': False, 'message': 'no map'}, 'no map')])
def test_it_does_not_drive_without_a_place_and_says_why(example, answer, reason):
    vars(example.world.answer).update(answer)
    example.navigator.goToThing('red mug')
    assert finish(example.navigator) == 'FAILED' and reason in example.navigator.reason
    assert example.world.goals == []


def test_a_place_that_is_refused_or_not_reached_is_a_failure(example):
    example.world.accepted = False
    example.navigator.goToThing('red mug')
    assert finish(example.navigator) == 'FAILED' and 'refused' in example.navigator.reason
    example.world.accepted, example.world.status = True, ABORTED
    example.navigator.goToThing('red mug')
    assert finish(example.navigator) == 'FAILED' and 'status 6' in example.navigator.reason
    example.world.ready = False
    assert not example.navigator.goToThing('red mug')
    assert example.navigator.reason == 'lerf/query is not there'


@pytest.mark.parametrize('turns', [0, 1, 3])
def test_a_task_can_be_cancelled_whenever(example, turns):
    example.world.moving = 50
    example.navigator.goToThing('red mug')
    for _ in range(turns):
        assert not example.navigator.isTaskComplete()
    example.navigator.cancelTask()
    assert finish(example.navigator) == 'CANCELED'
    assert example.world.canceled == (1 if turns else 0)


def test_the_leaf_runs_succeeds_fails_and_stops(example, monkeypatch):
    pytest.importorskip('py_trees', reason='the leaf is one of py_trees')
    leaf = importlib.import_module('approach_leaf').ApproachThing('mug', example.navigator)
    import py_trees

    status = py_trees.common.Status
    example.world.moving = 2

    def ticked():
        leaf.tick_once()
        return leaf.status

    seen = [ticked() for _ in range(9)]
    assert seen[0] == status.RUNNING and status.SUCCESS in seen
    vars(example.world.answer).update(presence=0)
    for _ in range(9):
        if ticked() == status.FAILURE:
            break
    assert leaf.status == status.FAILURE and leaf.feedback_message == 'it is not there'
    vars(example.world.answer).update(presence=1)
    example.world.moving = 50
    for _ in range(4):
        assert ticked() == status.RUNNING
    leaf.stop(status.INVALID)
    assert example.world.canceled == 1
