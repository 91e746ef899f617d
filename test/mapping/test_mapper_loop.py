# SPDX-License-Identifier: Apache-2.0
"""What the mapping process does, step by step in this process: commands, full disks, repeats."""

import errno
import queue
import threading
from dataclasses import replace

import numpy as np
import pytest
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros.errors import LockedError
from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.mapping import loop as loop_module
from lerf_ros.mapping.loop import Loop
from lerf_ros.mapping.messages import (
    INBOX_SIZE,
    Channels,
    FollowJump,
    Load,
    MapperStatus,
    MoveKeyframes,
    Pause,
    Reply,
    Request,
    Reset,
    Save,
    SetClock,
    Stop,
)
from lerf_ros.storage.lock import no_snapshot
from lerf_ros.storage.map_directory import MapDirectory

CONFIG = SMALL.override({'map.snapshot_interval': 1000.0, 'map.checkpoint_interval': 1000.0,
                         'training.settle_steps': 0})
FRAMES = [photograph(T, i) for i, T in enumerate(orbit(6))]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Loops on one map directory; each is released when the next one is made."""
    monkeypatch.setattr(loop_module, 'load_encoder', lambda *_: ColorEncoder())
    monkeypatch.setattr(loop_module, 'TRAIN_SLICE_S', 0.01)
    monkeypatch.setattr(loop_module, 'TAKE_S', 60.0)    # all that waits, on the slowest machine
    made = []

    def make(release=True):
        if made and release:
            made[-1].lock.release()
        made.append(Loop(CONFIG, str(tmp_path / 'map'), 'map', True,
                         Channels(queue.Queue(), queue.Queue(), queue.Queue())))
        return made[-1]
    yield make
    for loop in made:
        loop.lock.release()


def feed(loop, frames):
    for frame in frames:
        loop.channels.inbox.put(frame)
    loop.take(0.0)
    while len(loop.mapper.waiting) and (loop.mapper.trainer or len(loop.mapper.waiting) >= 4):
        loop.learn()


def count_step(loop):
    """Stands for a step of training where only the number of steps counts."""
    loop.mapper.trainer.radiance.steps += 1


def said(loop, kind):
    """The newest of that kind in the outbox."""
    found = None
    while not loop.channels.outbox.empty():
        message = loop.channels.outbox.get()
        found = message if isinstance(message, kind) else found
    return found


def asked(loop, command, handed_over=0):
    loop.channels.commands.put(Request(command, 7, handed_over))
    loop.obey()
    return said(loop, Reply)


def test_all_that_wait_are_stored_before_any_is_learned(make):
    loop = make()
    for frame in FRAMES:
        loop.channels.inbox.put(frame)
    loop.take(0.0)
    loop.report('waiting')
    status = said(loop, MapperStatus)
    assert (status.stored, status.taken, status.keyframes) == (6, 6, 0)


def test_frames_that_come_too_fast_keep_it_from_nothing_else(make, monkeypatch):
    loop = make()
    monkeypatch.setattr(loop_module, 'TAKE_S', 0.0)     # as if storing one took all of the time
    for frame in FRAMES:
        loop.channels.inbox.put(frame)
    for stored in (1, 2, 3):
        loop.take(0.0)
        loop.report('waiting')
        assert said(loop, MapperStatus).stored == stored


def test_it_is_in_a_hurry_while_many_wait(make, monkeypatch):
    loop = make()
    monkeypatch.setattr(loop_module, 'TAKE_S', 0.0)
    assert not loop.mapper.hurried
    for _ in range(INBOX_SIZE // 2 + 2):
        loop.channels.inbox.put(FRAMES[0])
    hurried = []
    for _ in range(3):
        loop.take(0.0)
        hurried.append(loop.mapper.hurried)     # of what waits beside the one that is stored
    assert hurried == [True, False, False]


def test_a_frame_that_comes_again_after_a_restart_is_stored_once(make):
    feed(make(), FRAMES[:4])
    loop = make()
    feed(loop, FRAMES[3:5])
    assert loop.taken == 2 and MapDirectory(loop.path).keyframes.indices() == [0, 1, 2, 3, 4]


def test_a_second_mapper_is_locked_out(make):
    loop = make()
    loop.lock.path.write_text('{"pid": 1, "parent": 1, "leaving": false}')
    with pytest.raises(LockedError):
        make(release=False)


def test_save_reset_and_load(make, tmp_path):
    loop, root = make(), str(tmp_path / 'saved')
    assert asked(loop, Save(root, 'a', overwrite=False)).code == 'NO_SNAPSHOT'
    feed(loop, FRAMES)
    loop.train()
    reply = asked(loop, Save(root, 'a', overwrite=False))
    assert reply == Reply(7, path=f'{root}/a')
    steps = loop.mapper.steps
    assert asked(loop, Save(root, 'a', overwrite=False)).code == 'NAME_TAKEN'
    assert asked(loop, Reset()) == Reply(7)
    assert loop.mapper.steps == 0 and MapDirectory(loop.path).newest() is None
    assert asked(loop, Load(root, 'b')).code == 'NO_SUCH_MAP'
    assert asked(loop, Load(root, 'a')) == Reply(7, keyframes=6)
    while loop.mapper.restoring:
        loop.learn()
    assert loop.mapper.steps == steps and loop.saving.snapshot_id == 1
    loop.train()
    assert loop.mapper.steps > steps


def test_a_map_of_other_settings_is_not_loaded(make, tmp_path, monkeypatch):
    loop, root = make(), str(tmp_path / 'saved')
    feed(loop, FRAMES)
    loop.train()
    assert not asked(loop, Save(root, 'a', overwrite=False)).code
    loop.mapper.config = CONFIG.override({'training.rays': 77})
    reply = asked(loop, Load(root, 'a'))
    assert reply.code == 'INVALID_SETTING' and 'training.rays' in reply.message


def test_a_full_disk_is_a_word_in_the_status_and_training_goes_on(make, monkeypatch):
    loop = make()
    feed(loop, FRAMES)
    loop.train()
    loop.saving.snapshot()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as patched:
        patched.setattr('lerf_ros.storage.snapshots.write_json', full)
        steps = loop.mapper.steps
        loop.train()
        loop.saving.snapshot()
        loop.report('mapping')
        status = said(loop, MapperStatus)
        assert status.code == 'STORAGE' and 'No space left on device' in status.message
        assert 'mapping goes on' in status.message and status.snapshot_id == 1
        loop.train()
        assert loop.mapper.steps > steps
    loop.saving.snapshot()
    loop.report('mapping')
    status = said(loop, MapperStatus)
    assert (status.code, status.message, status.snapshot_id) == ('', '', 2)


def test_checkpoints_keep_what_may_be_lost_within_the_interval(make, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr('lerf_ros.mapping.saving.time.monotonic', lambda: clock[0])
    monkeypatch.setattr(loop_module, 'TRAIN_SLICE_S', 0.0)
    loop = make()
    loop.saving.config = CONFIG.override({'map.checkpoint_interval': 30.0}).map
    feed(loop, FRAMES)
    durable, worst = 0.0, 0.0
    for _ in range(200):
        count_step(loop)
        clock[0] += 0.5
        loop.saving.tick()
        newest = next(MapDirectory(loop.path).training_states(), None)
        if newest and newest.info['steps'] == loop.mapper.steps:
            durable = clock[0]
        worst = max(worst, clock[0] - durable)
    assert 25.0 < worst <= 30.5     # the first half second passes before the first look


def test_checkpoints_that_take_long_leave_nine_tenths_of_the_time_to_training(make, monkeypatch):
    clock, written = [0.0], []
    monkeypatch.setattr('lerf_ros.mapping.saving.time.monotonic', lambda: clock[0])
    monkeypatch.setattr(loop_module, 'TRAIN_SLICE_S', 0.0)
    loop = make()
    loop.saving.config = CONFIG.override({'map.checkpoint_interval': 30.0,
                                          'map.snapshot_interval': 86400.0}).map

    def slow():
        written.append(clock[0])
        clock[0] += 8.0

    monkeypatch.setattr(loop.mapper, 'checkpoint', slow)
    feed(loop, FRAMES)
    for _ in range(1000):
        count_step(loop)
        clock[0] += 0.5
        loop.saving.tick()
    # One of 8 s is due each 80 s, from the start of one to the end of the next.
    assert len(written) >= 4
    gaps = [after - before for before, after in zip(written[1:], written[2:], strict=False)]
    assert all(70 <= gap <= 80 for gap in gaps), gaps


@pytest.mark.parametrize('before, since, left', [
    (0, 0, 100), (0, 30, 70), (20, 0, 80), (50, 0, 50), (400, 0, 50), (400, 49, 1), (400, 60, 0)])
def test_steps_before_the_newest_keyframe_count_for_half_of_the_steps_to_rest(
        make, before, since, left):
    mapper = make().mapper
    mapper.config = CONFIG.override({'training.settle_steps': 100})
    feed_mapper_to(mapper, before, since)
    assert mapper.steps_to_settle() == left
    assert mapper.settled == (left == 0)
    mapper.config = CONFIG.override({'training.settle_steps': 0})
    assert mapper.steps_to_settle() == float('inf') and not mapper.settled


def feed_mapper_to(mapper, before, since):
    """Lets a mapper have taken so many steps before its newest keyframe, and since."""
    for frame in FRAMES:
        mapper.add_frame(frame)
    mapper.steps_at_newest = before
    mapper.trainer.radiance.steps = before + since


@pytest.mark.parametrize('settle_steps, rays_per_second, frames, written', [
    (0, 32.0, 6, [21, 42]),     # it never settles: one whenever the interval is over
    (50, 16.0, 6, [21, 50]),    # a step a second: 29 s are left at the first, 8 at the next
    (50, 32.0, 6, [41, 50]),    # 15 s are left at the first: it waits, but for one interval alone
    (0, 32.0, 7, [41])])        # a keyframe waits, and the snapshot for it, as long
def test_a_snapshot_waits_for_keyframes_and_for_the_map_to_settle(
        make, monkeypatch, settle_steps, rays_per_second, frames, written):
    clock, loop = [0.0], make()
    monkeypatch.setattr('lerf_ros.mapping.saving.time.monotonic', lambda: clock[0])
    feed(loop, FRAMES)
    for T in orbit(7)[:frames - 6]:
        loop.mapper.store(photograph(T, 100))
    mapper, saving = loop.mapper, loop.saving
    mapper.config = CONFIG.override({'training.settle_steps': settle_steps})
    saving.config = CONFIG.override({'map.snapshot_interval': 20.0}).map
    mapper.trainer.radiance.rays = 16
    mapper.rays_per_second, numbers = rays_per_second, []
    for step in range(51):
        saving.tick()
        if saving.snapshot_steps not in (0, *numbers):
            numbers.append(saving.snapshot_steps)
        if step < 50:
            mapper.guard.step()
            clock[0] += 1.0
    assert numbers == written


class ManualClock:
    """Stands for the module `time`: it passes as it is told to."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def slow_disk(make, monkeypatch):
    """A loop whose snapshots take 60 s each, with an interval of 20 s, and its clock."""
    clock, loop = ManualClock(), make()
    monkeypatch.setattr('lerf_ros.mapping.saving.time', clock)
    snapshot = loop.mapper.snapshot

    def slow():
        clock.now += 60.0
        return snapshot()
    monkeypatch.setattr(loop.mapper, 'snapshot', slow)
    loop.saving.config = CONFIG.override({'map.snapshot_interval': 20.0}).map
    return loop, clock


def passed(loop, clock, seconds):
    """Trains a step a second, and says after how many steps snapshots were written."""
    written = []
    for _ in range(seconds):
        before = loop.saving.snapshot_id
        count_step(loop)
        clock.now += 1.0
        loop.saving.tick()
        written += [loop.mapper.steps] if loop.saving.snapshot_id > before else []
    return written


def test_slow_snapshots_are_at_most_three_intervals_apart(slow_disk):
    """15 % of the time would be one every 400 s: queries would be answered from 22 steps."""
    loop, clock = slow_disk
    feed(loop, FRAMES)
    assert passed(loop, clock, 200) == [22, 83, 144]    # 60 s after the end of the one before


def test_when_the_capture_ends_its_last_keyframes_get_a_snapshot_soon(slow_disk):
    loop, clock = slow_disk
    feed(loop, FRAMES[:5])
    assert passed(loop, clock, 30) == [22]
    feed(loop, FRAMES[5:])
    assert passed(loop, clock, 8) == [37]       # 6 s after the keyframe was seen
    newest = MapDirectory(loop.path).newest()
    assert newest.info['learned_until'] == 6 and newest.info['settled']     # it never rests


def test_a_snapshot_says_up_to_where_it_has_learned_and_whether_training_rests(make):
    loop = make()
    loop.mapper.config = CONFIG.override({'training.settle_steps': 10})
    feed(loop, FRAMES[:5])
    loop.mapper.guard.step()
    loop.mapper.store(FRAMES[5])
    loop.saving.snapshot()
    info = MapDirectory(loop.path).newest().info
    assert (info['learned_until'], info['settled']) == (5, False)
    loop.learn()
    while not loop.mapper.settled:
        loop.mapper.guard.step()
    loop.saving.snapshot()
    info = MapDirectory(loop.path).newest().info
    assert (info['learned_until'], info['settled']) == (6, True)


def test_snapshots_are_stamped_with_the_clock_of_the_node(make):
    loop = make()
    feed(loop, FRAMES)
    loop.channels.commands.put(Request(SetClock(12_000_000_000)))
    loop.obey()
    loop.mapper.guard.step()
    loop.saving.snapshot()
    assert loop.saving.snapshot_stamp_ns == 12_000_000_000
    assert MapDirectory(loop.path).newest().info['stamp_ns'] == 12_000_000_000


def test_those_who_ask_too_early_learn_what_the_mapper_does(make):
    loop = make()
    assert 'loading models' in no_snapshot(loop.path)
    loop.report('waiting')
    assert 'waiting for images' in no_snapshot(loop.path)
    feed(loop, FRAMES[:1])
    loop.report('waiting')
    status = said(loop, MapperStatus)
    assert '1 of the 4 keyframes' in status.message and 'move the camera' in status.message
    assert '1 of the 4 keyframes' in no_snapshot(loop.path)
    loop.lock.release()
    loop.lock.path.write_text('{"pid": 999999999}')
    assert 'no mapper seems to work on it' in no_snapshot(loop.path)
    assert 'does not exist' in no_snapshot(loop.path / 'nowhere')


def test_the_more_keyframes_wait_the_less_is_trained_between_them(make, monkeypatch):
    loop, slices = make(), []
    for frame in FRAMES:
        loop.channels.inbox.put(frame)
    loop.take(0.0)
    monkeypatch.setattr(loop_module, 'TRAIN_SLICE_S', 1.0)
    monkeypatch.setattr(loop.mapper, 'train_for', slices.append)
    for _ in FRAMES:
        loop.learn()
        slices.clear() if not loop.mapper.ready else loop.train()
    assert slices == [1 / 5, 1 / 5, 1 / 4, 1 / 3, 1 / 2, 1.0]      # 5, 4, 3, 2, 1, 0 wait


def test_pause_stores_but_does_not_learn(make):
    loop = make()
    for command in (Pause(True), Stop()):
        loop.channels.commands.put(Request(command))
    loop.obey()
    assert loop.paused and loop.stopping and loop.idle
    loop.channels.commands.put(Request(Pause(False)))
    loop.obey()
    assert not loop.paused


def test_a_jump_carries_what_was_handed_over_before_it(make, monkeypatch):
    monkeypatch.setattr(loop_module, 'IDLE_S', 0.01)
    loop = make()
    feed(loop, FRAMES[:4])
    shift = np.eye(4)
    shift[0, 3] = 0.25
    jump = PoseJump(shift, since_ns=0, until_ns=FRAMES[4].stamp_ns, spread=False)
    later = threading.Timer(0.05, loop.channels.inbox.put, [FRAMES[4]])
    later.start()       # the command overtakes the keyframe
    reply = asked(loop, FollowJump(jump), handed_over=5)
    assert reply.keyframes == 5
    # What comes after it is where the jump says, or it would be undone.
    feed(loop, [replace(f, T_world_camera=shift @ f.T_world_camera) for f in FRAMES[5:]])
    keyframes = MapDirectory(loop.path).keyframes
    for i, frame in enumerate(FRAMES):
        np.testing.assert_allclose(keyframes.read(i).frame.T_world_camera,
                                   shift @ frame.T_world_camera, atol=1e-9)


def test_a_move_reaches_learned_waiting_and_handed_over_keyframes_without_a_reply(make):
    loop = make()
    feed(loop, FRAMES[:4])
    loop.channels.inbox.put(FRAMES[4])
    shift = np.eye(4)
    shift[0, 3] = 0.25
    poses = {f.stamp_ns: shift @ f.T_world_camera for f in (FRAMES[0], FRAMES[4], FRAMES[5])}
    loop.channels.commands.put(Request(MoveKeyframes(poses)))
    loop.obey()
    assert said(loop, Reply) is None
    feed(loop, FRAMES[5:])      # comes after the update and keeps its own pose
    keyframes = MapDirectory(loop.path).keyframes
    for i, frame in enumerate(FRAMES):
        moved = shift if i in (0, 4) else np.eye(4)
        np.testing.assert_allclose(keyframes.read(i).frame.T_world_camera,
                                   moved @ frame.T_world_camera, atol=1e-9)
