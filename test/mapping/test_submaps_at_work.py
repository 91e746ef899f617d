# SPDX-License-Identifier: Apache-2.0
"""Submaps under the main loop, after kill -9, after a loop closure, and saved under a name."""

import contextlib
import multiprocessing
import os
import queue
import signal

import numpy as np
import pytest
from test_end_to_end import SMALL
from test_submaps import HERE, request, there
from tiny_world import CUBES, ColorEncoder, orbit, photograph

from lerf_ros.errors import ConfigError, NothingToUndoError
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.mapping import loop as loop_module
from lerf_ros.mapping.loop import Loop
from lerf_ros.mapping.making import make_map
from lerf_ros.mapping.messages import Channels, Load, MapperStatus, Reply, Request, Reset, Save
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.saved_maps import SavedMaps
from lerf_ros.storage.submaps import SubmapFolder
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.submap_query import SubmapQuery

CONFIG = SMALL.override({
    'submaps.use': True, 'submaps.most_active': 2, 'map.snapshot_interval': 1000.0,
    'map.checkpoint_interval': 1000.0})
FRAMES = [*HERE[:4], *there(HERE[:4])]


def mapper_on(folder):
    return make_map(CONFIG, folder, ColorEncoder(), 'map', True)


def killed(folder, count, pipe):
    """Stores frames until the parent, which hears of each, kills this process."""
    mapper = mapper_on(folder)
    mapper.restore()
    for number, frame in enumerate(FRAMES[:count]):
        mapper.store(frame)
        mapper.learn_next()
        mapper.train_for(60.0, mapper.steps + 2)
        if number % 3 == 2:
            mapper.snapshot()
        pipe.send(number)
    os.kill(os.getpid(), signal.SIGKILL)


def test_kill_9_loses_no_keyframe_that_was_counted(tmp_path):
    context = multiprocessing.get_context('spawn')
    mine, theirs = context.Pipe()
    child = context.Process(target=killed, args=(tmp_path / 'map', 5, theirs))
    child.start()
    theirs.close()
    told = -1
    with contextlib.suppress(EOFError):
        while True:
            told = mine.recv()
    child.join()
    assert child.exitcode == -signal.SIGKILL and told == 4
    again = mapper_on(tmp_path / 'map')
    again.restore()
    assert {pose.stamp_ns for pose in again.placed()} == {frame.stamp_ns for frame in FRAMES[:5]}
    for frame in FRAMES:        # the first five are sent again, and are not taken twice
        again.store(frame)
    assert again.stored == 8
    while again.learn_next():
        pass
    assert len(again.learned) == 8 and again.steps > 0 and again.ready


def test_a_kill_between_two_submaps_is_mended_by_the_frame_that_comes_again(tmp_path):
    mapper = mapper_on(tmp_path / 'map')
    mapper.store(HERE[0])
    mapper.opened(mapper.open_new(mapper.submaps, (1, 0, 0)))
    before = mapper.stored
    again = mapper_on(tmp_path / 'map')
    again.restore()
    again.opened(1)
    again._learning = lambda *_: [1, 0]     # as if the frame had belonged to both
    again.store(HERE[0])
    assert again.stored == before == 1
    assert [again.directory(n).keyframes.indices() for n in (0, 1)] == [[0], [0]]


@pytest.fixture
def loop(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, 'load_encoder', lambda *_: ColorEncoder())
    monkeypatch.setattr(loop_module, 'TRAIN_SLICE_S', 0.01)
    monkeypatch.setattr(loop_module, 'TAKE_S', 60.0)    # all that waits, on the slowest machine
    made = Loop(CONFIG, str(tmp_path / 'map'), 'map', True,
                Channels(queue.Queue(), queue.Queue(), queue.Queue()))
    yield made
    made.lock.release()


def asked(loop, command):
    loop.channels.commands.put(Request(command, 7, 0))
    loop.obey()
    found = None
    while not loop.channels.outbox.empty():
        message = loop.channels.outbox.get()
        found = message if isinstance(message, Reply) else found
    return found


def test_the_loop_maps_saves_resets_and_loads_submaps(loop, tmp_path):
    for frame in FRAMES:
        loop.channels.inbox.put(frame)
    loop.take(0.0)
    while len(loop.mapper.waiting):
        loop.learn()
    while not all(mapper.steps for mapper in loop.mapper.active.values()):
        loop.train()
    status = [m for m in iter_all(loop.channels.outbox) if isinstance(m, MapperStatus)][-1]
    assert (status.state, status.keyframes, status.stored, status.taken) == ('mapping', 8, 8, 8)
    assert status.message == ''
    root = str(tmp_path / 'saved')
    assert asked(loop, Save(root, 'hall', False)).code == ''
    assert loop.saving.snapshot_id == 2 and SavedMaps(root).names() == ['hall']
    assert asked(loop, Reset()).code == ''
    assert (loop.mapper.count, loop.mapper.stored, loop.mapper.steps) == (0, 0, 0)
    assert asked(loop, Load(root, 'hall')).keyframes == 8
    assert loop.mapper.count == 2 and loop.mapper.stored == 8
    query = SubmapQuery(loop.path, encoder=ColorEncoder())
    query.refresh()
    assert (query.snapshot_id, query.info['keyframes']) == (2, 8)
    assert asked(loop, Save(root, 'hall', False)).code == 'NAME_TAKEN'


def iter_all(outbox):
    while not outbox.empty():
        yield outbox.get()


def test_a_map_that_is_there_goes_on_as_what_it_is(tmp_path):
    single = SMALL.override({'submaps.use': False})
    kinds = []
    for first, then in ((single, CONFIG), (CONFIG, single)):
        folder = tmp_path / str(len(kinds))
        make_map(first, folder, ColorEncoder(), 'map', True).store(HERE[0])
        kinds.append(type(make_map(then, folder, ColorEncoder(), 'map', True)))
    assert kinds == [SingleMap, SubmapMapper]
    with pytest.raises(ConfigError, match='submaps need depth'):
        mapper_on(tmp_path / 'new').store(photograph(orbit(1)[0], with_depth=False))


def test_a_query_is_the_same_for_a_map_of_one_frame(tmp_path):
    query = SubmapQuery(tmp_path / 'map', encoder=ColorEncoder())
    assert not query.refresh() and not query.ready
    mapper = SingleMap(SMALL, MapDirectory(tmp_path / 'map', True), ColorEncoder(), 'map', True)
    mapper.learn(HERE, 30)
    assert query.refresh() and query.ready and query.snapshot_id == 1
    assert query.map_id == mapper.directory.identity()[0]
    assert query.ask(request('red')).snapshot_id == 1


# A robot drives 32 m round a hall, past four places, and its poses drift: by 1 m and 5 degrees in
# the end. It then recognises the first place, and is told where it has been.
WAY, DRIFT, TURN_DEG = (0.0, 10.0, 20.0, 30.0), np.array([0.6, -0.8, 0.0]), 5.0


def drift(share):
    """How far off (4, 4) poses are after this part of the way."""
    T, angle = np.eye(4), np.radians(TURN_DEG * share)
    T[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    T[:3, 3] = DRIFT * share
    return T


def test_a_loop_closure_moves_submaps_and_what_stands_in_them_without_training(tmp_path):
    mapper, true = mapper_on(tmp_path / 'map'), {}
    for number, at in enumerate(WAY):
        T_place = np.eye(4)
        T_place[0, 3] = at
        for k, T in enumerate(orbit(8)):
            frame = photograph(T, 1000 * number + k)
            true[len(true)] = T_place @ T
            share = (at + 2.0 * k / 8) / 32.0
            mapper.add_frame(type(frame)(frame.stamp_ns, frame.image, frame.camera,
                                         drift(share) @ T_place @ T, frame.depth_m))
            mapper.train_for(60.0, mapper.steps + 25)
    mapper.snapshot()
    for number in list(mapper.active):
        mapper.close(number)
    before = errors(tmp_path / 'map')
    steps = mapper.steps
    assert mapper.move_keyframes(true) == 32 and mapper.steps == steps
    after = errors(tmp_path / 'map')
    assert np.median(before) > 0.2 and max(before) > 1.0
    assert np.median(after) < 0.1 and max(after) < 0.2, after
    assert mapper.stored == 32
    off = [np.linalg.norm((invert_pose(true[p.index]) @ p.T_world_camera)[:3, 3])
           for p in mapper.placed()]
    assert np.median(off) < 0.1
    assert mapper.undo_move() == 32
    assert errors(tmp_path / 'map') == pytest.approx(before, abs=1e-6)
    with pytest.raises(NothingToUndoError):
        mapper.undo_move()
    assert len(SubmapFolder(tmp_path / 'map').read().places) == mapper.count


def errors(folder):
    """How far each cube at each place is from the nearest hit, metres."""
    query = SubmapQuery(folder, {'query.max_hits': 20}, encoder=ColorEncoder())
    query.refresh()
    out = []
    for name, (low, high) in CUBES.items():
        hits = np.stack([hit.position for hit in query.ask(request(name)).hits])
        for at in WAY:
            middle = (np.array(low) + np.array(high)) / 2 + [at, 0, 0]
            out.append(float(np.linalg.norm(hits - middle, axis=1).min()))
    return out
