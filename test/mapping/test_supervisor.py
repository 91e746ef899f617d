# SPDX-License-Identifier: Apache-2.0
"""A mapping process that dies is started again, so many times, and loses no keyframe."""

import os
import signal
import time

import pytest
from test_end_to_end import SMALL
from test_mapper_process import conse, wait_for  # noqa: F401 (conse is a fixture)
from tiny_world import orbit, photograph

from lerf_ros.errors import LockedError
from lerf_ros.mapping import supervisor
from lerf_ros.mapping.messages import MapperStatus, Pause, Reply, Save, Stop
from lerf_ros.mapping.supervisor import MapperSupervisor, wait_for_leaving
from lerf_ros.storage.lock import FolderLock
from lerf_ros.storage.map_directory import MapDirectory


class Child:
    """A mapping process that does what a test says."""

    made = []

    def __init__(self, *_):
        self.in_flight, self.calls, self.alive, self.exit_code = {}, [], False, None
        self.report = MapperStatus(state='mapping')
        Child.made.append(self)

    def start(self):
        self.alive = True

    def add(self, frame):
        self.in_flight[len(self.in_flight)] = frame
        return int('full' in self.calls)

    def send(self, command, number=0):
        self.calls.append(command)

    def reply(self, number):
        return Reply(number) if 'answers' in self.calls else None

    def status(self):
        return self.report

    def die(self, exit_code=-9, **words):
        self.alive, self.exit_code = False, exit_code
        self.report = MapperStatus(state='failed', **words)

    def join(self, timeout_s):
        return Stop() in self.calls and 'slow' not in self.calls

    def stop(self, timeout_s):
        self.calls.append('stop')

    def close(self):
        self.calls.append('close')


@pytest.fixture
def supervised():
    Child.made = []
    process = MapperSupervisor(None, '', 'map', True, restarts=2, make=Child)
    process.start()
    return process


def test_a_dead_process_is_replaced_and_gets_what_was_under_way(supervised):
    supervised.pause(True)
    supervised.add('a')
    supervised.add('b')
    Child.made[0].die()
    status = supervised.status()
    assert status.state == 'loading' and status.in_flight == 2
    assert 'signal SIGKILL' in status.message and '1 of 2' in status.message
    first, second = Child.made
    assert list(second.in_flight.values()) == ['a', 'b']
    assert second.calls == [Pause(True)] and second.alive
    assert 'close' in first.calls
    assert 'was restarted, 1 of 2' in supervised.status().message     # for a while


def test_what_does_not_fit_into_the_inbox_of_the_next_process_is_counted(supervised):
    supervised.add('a')
    Child.made[0].die()
    make = supervised._make

    def full():
        child = make()
        child.calls.append('full')
        return child

    supervised._make = full
    assert supervised.status().in_flight == 0
    Child.made[1].calls.remove('full')
    assert (supervised.add('b'), supervised.add('c')) == (1, 0)


def test_enough_is_enough(supervised):
    for child in range(3):
        Child.made[child].die(message='no luck')
        status = supervised.status()
    assert len(Child.made) == 3
    assert status.state == 'failed' and 'restarted 2 times' in status.message
    assert supervised.status().state == 'failed' and len(Child.made) == 3


def test_old_deaths_are_forgotten(supervised, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(supervisor.time, 'monotonic', lambda: now[0])
    for child in range(4):
        Child.made[child].die()
        assert supervised.status().state == 'loading'
        now[0] += supervisor.WINDOW_S


def test_a_failure_that_would_repeat_is_not_repeated(supervised):
    Child.made[0].die(1, message='another encoder', code='ENCODER_MISMATCH', final=True)
    assert supervised.status().code == 'ENCODER_MISMATCH' and len(Child.made) == 1


def test_a_command_is_answered_or_named_as_lost(supervised):
    number = supervised.ask(Save('', 'a', False))
    assert supervised.reply(number) is None
    Child.made[0].calls.append('answers')
    assert supervised.reply(number) == Reply(number)
    lost = supervised.ask(Save('', 'b', False))
    Child.made[0].calls.remove('answers')
    Child.made[0].die(message='killed')
    reply = supervised.reply(lost)
    assert reply.code == 'INTERNAL' and 'ended before it was done: killed' in reply.message


def test_one_that_still_writes_goes_on_alone_and_is_waited_for(supervised):
    Child.made[0].calls.append('slow')
    supervised.stop(0.1)
    assert 'stop' not in Child.made[0].calls
    wait_for_leaving(0.1)
    assert Child.made[0].calls[-1] == 'stop'


def test_one_that_has_left_meanwhile_is_closed_by_its_successor(supervised):
    child = Child.made[0]
    child.calls.append('slow')
    supervised.stop(0.1)
    assert 'close' not in child.calls
    successor = MapperSupervisor(None, '', 'map', True, make=Child)
    successor.start()
    assert 'close' not in child.calls       # it still writes
    child.alive = False
    successor.status()
    assert child.calls[-1] == 'close'
    wait_for_leaving(0.1)
    assert 'stop' not in child.calls


# The lock ------------------------------------------------------------------------------------

def test_a_map_directory_has_one_writer(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.path.parent.mkdir(exist_ok=True)
    first.acquire()
    os.truncate(first.path, 0)
    first.path.write_text(f'{{"pid": 1, "parent": {os.getpid()}, "leaving": false}}')
    with pytest.raises(LockedError, match='in use by another mapper'):
        second.acquire(5.0)
    first.release()
    second.acquire()
    second.release()


def test_a_writer_that_leaves_is_waited_for(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    first.announce(leave=True)
    start = time.monotonic()
    with pytest.raises(LockedError):
        second.acquire(0.3)
    assert time.monotonic() - start >= 0.3
    first.release()
    second.acquire(0.3)


# For real ------------------------------------------------------------------------------------

def test_a_real_process_that_is_killed_goes_on(tmp_path, conse, caplog):  # noqa: F811
    config = SMALL.override({'training.settle_steps': 40, 'training.threads': 1,
                             'map.checkpoint_interval': 4.0})
    process = MapperSupervisor(config, tmp_path, 'map', True)
    process.start()
    try:
        for i, T in enumerate(orbit(8)):
            assert process.add(photograph(T, i)) == 0
        wait_for(process, lambda s: s.steps >= 20 and s.stored == 8 and not s.in_flight)
        saved = [s.info['steps'] for s in MapDirectory(tmp_path).training_states()]
        assert process.add(photograph(orbit(1, 0.2)[0], 99)) == 0
        os.kill(process.pid, signal.SIGKILL)
        status = wait_for(process, lambda s: s.keyframes == 9 and s.steps > max(saved, default=0))
        assert 'was restarted, 1 of 5' in caplog.text and status.taken == 1
        assert MapDirectory(tmp_path).keyframes.indices() == list(range(9))
    finally:
        process.stop(30.0)
        wait_for_leaving(5.0)
