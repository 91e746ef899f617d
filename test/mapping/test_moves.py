# SPDX-License-Identifier: Apache-2.0
"""Keyframes move where depth does not speak against it, and every move can be undone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_mapper_loop import asked, feed, make  # noqa: F401 - the fixture
from tiny_world import orbit, photograph

from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.mapping.messages import FollowJump, MoveKeyframes, StartSession, UndoMove
from lerf_ros.mapping.moves import fit_of_move
from lerf_ros.mapping.world_changes import DepthGrid
from lerf_ros.storage.map_directory import MapDirectory

COUNT = 12
FRAMES = [photograph(T, 1000 + i) for i, T in enumerate(orbit(COUNT))]
LATER = [photograph(T, 2000 + i) for i, T in enumerate(orbit(COUNT, start=0.2))]


def shift(metres=1.5, degrees=20.0):
    """As a localisation that starts anew at another place."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('z', degrees, degrees=True).as_matrix()
    T[0, 3] = metres
    return T


def moved(frames, T):
    return [replace(frame, T_world_camera=T @ frame.T_world_camera) for frame in frames]


def poses(loop):
    """What is on the disk, by index."""
    files = MapDirectory(loop.path).keyframes
    return {i: files.pose(i)[1] for i in files.indices()}


def assert_at(loop, frames, T=None):
    found = poses(loop)
    assert sorted(found) == list(range(len(frames)))
    for i, frame in enumerate(frames):
        expected = frame.T_world_camera if T is None else T @ frame.T_world_camera
        np.testing.assert_allclose(found[i], expected, atol=1e-9)
    for view in loop.mapper.learned:
        np.testing.assert_allclose(view.T_world_camera, found[view.index], atol=1e-9)


def jump_at(until_ns, T=None, spread=False):
    return PoseJump(shift() if T is None else T, 0, until_ns, spread)


@pytest.mark.parametrize('spread', [True, False])
def test_a_restart_of_the_localisation_moves_no_earlier_keyframe(make, spread):  # noqa: F811
    """Two days of mapping; on the third TF jumps by 1.5 m and 20 degrees before the first image."""
    feed(make(), FRAMES)
    feed(make(), LATER)
    loop = make()
    while loop.mapper.learn_next():
        pass
    asked(loop, StartSession())
    assert asked(loop, FollowJump(jump_at(3000, spread=spread))).keyframes == 0
    assert_at(loop, [*FRAMES, *LATER])


def test_a_new_session_of_one_process_keeps_what_was_before(make):  # noqa: F811
    """Also with the clock of a simulator that begins at 0 again: the stamps are those of before."""
    loop = make()
    feed(loop, FRAMES)
    asked(loop, StartSession(), handed_over=COUNT)
    assert asked(loop, FollowJump(jump_at(1000 + COUNT))).keyframes == 0
    assert_at(loop, FRAMES)


def test_a_move_that_depth_speaks_against_is_not_made(make):  # noqa: F811
    """Half of the keyframes would leave the other half, with which they agree."""
    loop = make()
    feed(loop, FRAMES)
    half = jump_at(1000 + COUNT // 2, shift(0.3, 5.0))
    assert asked(loop, FollowJump(half)).keyframes == 0
    assert_at(loop, FRAMES)
    assert 'depth would agree less' in loop.mapper.moves.message


def test_a_move_that_depth_speaks_for_is_made_and_can_be_undone_after_a_restart(make):  # noqa: F811
    """The first half was taken with an error that the jump puts right."""
    error, loop = shift(0.3, 5.0), make()
    wrong = [*moved(FRAMES[:COUNT // 2], error), *FRAMES[COUNT // 2:]]
    feed(loop, wrong)
    right = jump_at(1000 + COUNT // 2 - 1, np.linalg.inv(error))
    assert asked(loop, FollowJump(right)).keyframes == COUNT // 2
    assert_at(loop, FRAMES)
    record = MapDirectory(loop.path).keyframes.record(0)
    assert record['original'] == record['moves'][0]['before'] and len(record['moves']) == 1
    loop = make()
    while loop.mapper.learn_next():
        pass
    assert asked(loop, UndoMove()).keyframes == COUNT // 2
    assert_at(loop, wrong)
    assert asked(loop, UndoMove()).code == 'NOTHING_TO_UNDO'
    assert_at(loop, wrong)


def test_keyframes_that_come_later_undo_a_move(make):  # noqa: F811
    """All move together, which depth between them cannot judge; the next images can."""
    loop, away = make(), shift(0.3, 5.0)
    feed(loop, FRAMES)
    assert asked(loop, FollowJump(jump_at(1000 + COUNT, away))).keyframes == COUNT
    assert_at(loop, FRAMES, away)
    feed(loop, LATER)
    assert_at(loop, [*FRAMES, *LATER])
    assert 'is undone: depth of keyframes that came later' in loop.mapper.moves.message


def test_a_move_that_later_keyframes_agree_with_stays(make):  # noqa: F811
    loop = make()
    feed(loop, FRAMES)
    asked(loop, FollowJump(jump_at(1000 + COUNT)))
    feed(loop, moved(LATER, shift()))
    assert_at(loop, [*FRAMES, *LATER], shift())


def test_moves_are_undone_one_after_another_and_also_of_those_that_wait(make):  # noqa: F811
    loop = make()
    for frame in FRAMES[:3]:    # too few to learn
        loop.channels.inbox.put(frame)
    loop.take(0.0)
    for x in (1.0, 2.0):
        asked(loop, MoveKeyframes({f.stamp_ns: shift(x, 0.0) @ f.T_world_camera
                                   for f in FRAMES[:3]}))
    assert_at(loop, FRAMES[:3], shift(2.0, 0.0))
    assert asked(loop, UndoMove()).keyframes == 3
    assert_at(loop, FRAMES[:3], shift(1.0, 0.0))
    assert asked(loop, UndoMove()).keyframes == 3
    assert_at(loop, FRAMES[:3])
    assert asked(loop, UndoMove()).code == 'NOTHING_TO_UNDO'


def test_the_fit_falls_with_the_error_and_is_not_known_without_others():
    grids = {i: DepthGrid.of(frame) for i, frame in enumerate(FRAMES)}
    fits = []
    for metres in (0.05, 0.1, 0.3):
        move = {i: shift(metres, 0.0) @ FRAMES[i].T_world_camera for i in range(COUNT // 2)}
        fits.append(fit_of_move(grids, move))
    assert all(fit.before > 0.6 for fit in fits), fits
    assert fits[0].after > fits[1].after > fits[2].after
    everything = {i: shift() @ frame.T_world_camera for i, frame in enumerate(FRAMES)}
    assert fit_of_move(grids, everything) is None
    assert fit_of_move({}, everything) is None
