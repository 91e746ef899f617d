# SPDX-License-Identifier: Apache-2.0
"""Save, load, list, reset, pause and resume over Fast DDS, with a process that answers at will."""

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

import itertools
import subprocess
import sys
import time
from types import SimpleNamespace

from rclpy.node import Node
from ros_bench import FakeProcess, overrides, spin_until
from std_srvs.srv import Trigger

from lerf_ros.mapping.messages import MapperStatus, Reply, Reset, Save
from lerf_ros.msg import ErrorCode, FieldStatus
from lerf_ros.nodes import mapper_node
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.mapper_node import MapperNode
from lerf_ros.srv import ListMaps, LoadMap, SaveMap

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
KINDS = {topics.SAVE_MAP: SaveMap, topics.LOAD_MAP: LoadMap, topics.LIST_MAPS: ListMaps,
         topics.RESET: Trigger, topics.UNDO_MOVE: Trigger,
         topics.PAUSE: Trigger, topics.RESUME: Trigger}


@pytest.fixture
def bench(tmp_path, nodes):
    """A mapper node with a fake process, and `call(service, **fields)`."""
    mapper = MapperNode(FakeProcess, parameter_overrides=overrides(
        map_directory=str(tmp_path / 'map'), map_root=str(tmp_path / 'saved'),
        status_period=0.05))
    user = Node('user')
    clients = {name: user.create_client(kind, name) for name, kind in KINDS.items()}
    nodes += [mapper, user]
    assert spin_until(nodes, lambda: all(c.service_is_ready() for c in clients.values()))

    def call(service, /, **fields):
        future = clients[service].call_async(KINDS[service].Request(**fields))
        assert spin_until(nodes, future.done)
        return future.result()
    call.nodes, call.user, call.clients = nodes, user, clients
    return mapper, call


def test_all_but_the_list_need_an_active_node(bench):
    _, call = bench
    for name in KINDS:
        response = call(name)
        assert response.success == (name == topics.LIST_MAPS)
        if KINDS[name] is Trigger:
            assert response.message.startswith('NOT_ACTIVE: mapper_node is not active')
        else:
            assert response.error_code == (
                ErrorCode.NONE if response.success else ErrorCode.NOT_ACTIVE)


def test_save_answers_when_the_process_has(bench, tmp_path):
    mapper, call = bench
    assert mapper.start_alone()
    reports = []
    call.user.create_subscription(FieldStatus, topics.STATUS, reports.append, topics.STATUS_QOS)
    future = call.clients[topics.SAVE_MAP].call_async(SaveMap.Request(name='kitchen'))
    saving = Save(str(tmp_path / 'saved'), 'kitchen', overwrite=False)

    def answered():
        """The node goes on while the process saves."""
        if saving in mapper.process.calls and len(reports) > 2 and not mapper.process.answers:
            assert not future.done() or future.result().success
            mapper.process.answers.append(lambda n: Reply(n, path='/saved/kitchen'))
        return future.done()
    assert spin_until(call.nodes, answered)
    assert future.result().success and future.result().path == '/saved/kitchen'


def test_errors_of_the_process_come_back_by_name(bench):
    mapper, call = bench
    assert mapper.start_alone()
    for code, expected in (('STORAGE', ErrorCode.STORAGE),
                           ('INVALID_SETTING', ErrorCode.MAP_UNREADABLE),
                           ('?', ErrorCode.INTERNAL)):
        mapper.process.answers.append(lambda n, code=code: Reply(n, code, 'in words'))
        response = call(topics.LOAD_MAP, name='hall')
        assert (response.success, response.error_code, response.message) == (
            False, expected, 'in words')


def test_undo_says_how_many_went_back_or_that_there_is_nothing(bench):
    mapper, call = bench
    assert mapper.start_alone()
    mapper.process.answers += [lambda n: Reply(n, keyframes=46),
                               lambda n: Reply(n, 'NOTHING_TO_UNDO', 'none has moved')]
    response = call(topics.UNDO_MOVE)
    assert response.success and response.message.startswith('46 keyframes are where')
    response = call(topics.UNDO_MOVE)
    assert (response.success, response.message) == (False, 'NOTHING_TO_UNDO: none has moved')


@pytest.mark.parametrize('name', ['', '../../etc', '/tmp/x', '.x', 'a/../b'])
def test_names_cannot_leave_the_map_root(bench, name):
    mapper, call = bench
    assert mapper.start_alone()
    for service in (topics.SAVE_MAP, topics.LOAD_MAP):
        assert call(service, name=name).error_code == ErrorCode.INVALID_NAME
    assert mapper.process.calls == ['start', 'pause', 'resume']


def test_a_taken_name_is_refused_and_listed(bench, tmp_path):
    mapper, call = bench
    assert mapper.start_alone()
    (tmp_path / 'saved' / 'hall').mkdir(parents=True)
    (tmp_path / 'saved' / 'hall' / 'meta.json').write_text('{}')
    assert call(topics.SAVE_MAP, name='hall').error_code == ErrorCode.NAME_TAKEN
    assert call(topics.LIST_MAPS).names == ['hall']


def test_reset_chooses_the_next_image_as_a_keyframe(bench):
    mapper, call = bench
    assert mapper.start_alone()
    selectors = mapper.inputs._selectors
    mapper.process.answers.append(Reply)
    assert call(topics.RESET).success and mapper.inputs._selectors is not selectors


def test_pause_and_resume(bench):
    mapper, call = bench
    assert mapper.start_alone()
    reports = []
    call.user.create_subscription(FieldStatus, topics.STATUS, reports.append, topics.STATUS_QOS)
    assert call(topics.PAUSE).success and mapper.process.calls[-1] == 'pause'
    mapper.inputs._on_image(None, None)     # dropped without a look
    assert mapper.inputs.received == 0
    assert spin_until(call.nodes, lambda: reports and reports[-1].state == FieldStatus.PAUSED)
    assert call(topics.RESUME).success and mapper.process.calls[-1] == 'resume'
    assert spin_until(call.nodes, lambda: reports[-1].state == FieldStatus.MAPPING)


def test_a_command_that_the_cleanup_overtakes_is_answered(bench):
    mapper, call = bench
    assert mapper.start_alone()
    future = call.clients[topics.RESET].call_async(Trigger.Request())

    def cleaned_up():
        if mapper.process is not None and Reset() in mapper.process.calls:
            mapper.trigger_deactivate()
            mapper.trigger_cleanup()
        return future.done()
    assert spin_until(call.nodes, cleaned_up)
    assert future.result().message.startswith('INTERNAL: the node was cleaned up')


def test_counted_keyframes_are_on_the_disk(bench):
    mapper, call = bench
    assert mapper.start_alone()
    mapper.counts.used = 9
    mapper.process.report = MapperStatus(state='mapping', stored=7, in_flight=2, memory_bytes=5)
    reports = []
    call.user.create_subscription(FieldStatus, topics.STATUS, reports.append, topics.STATUS_QOS)
    assert spin_until(call.nodes, lambda: reports)
    assert (reports[-1].keyframes_used, reports[-1].keyframes_stored) == (7, 7)
    assert reports[-1].memory_bytes == 5


def test_models_that_load_too_long_fail_by_name_and_load_on(bench, monkeypatch):
    mapper, _ = bench
    ticks = itertools.count()
    monkeypatch.setattr(mapper_node, 'time', SimpleNamespace(
        monotonic=lambda: next(ticks) * 10.0, sleep=time.sleep))
    loading = MapperStatus(state='loading')
    monkeypatch.setattr(FakeProcess, 'status', lambda self: loading)
    mapper.trigger_configure()
    assert mapper.still_loading and 'within 30 s' in mapper.failure
    process = mapper.process
    monkeypatch.setattr(FakeProcess, 'status', lambda self: self.report)
    assert mapper.start_alone() and mapper.process is process
    assert process.calls == ['start', 'pause', 'resume']


def test_cycles_leave_nothing_behind(bench):
    mapper, _ = bench
    counts = []
    for _ in range(20):
        assert mapper.start_alone()
        mapper.trigger_deactivate()
        mapper.trigger_cleanup()
        counts.append((len(list(mapper.subscriptions)), len(list(mapper.timers)),
                       len(list(mapper.services))))
    assert len(set(counts)) == 1 and mapper.process is None


def test_the_node_needs_no_torch():
    """Models live in the mapping process; the node stays small and starts at once."""
    code = ('import sys, lerf_ros.nodes.mapper_node; '
            'sys.exit(any(m in sys.modules for m in ("torch", "safetensors", "open_clip")))')
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
