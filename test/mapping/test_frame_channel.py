# SPDX-License-Identifier: Apache-2.0
"""Frames through shared memory: what comes out is what went in, in order, and nothing is left."""

import multiprocessing
import os
import queue
import signal
from pathlib import Path

import numpy as np
import pytest

import lerf_ros.mapping.frame_channel
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.mapping.frame_channel import FrameChannel

CONTEXT = multiprocessing.get_context('spawn')
SIZE = 4


def frame(number, width=20, height=10, depth=True, valid=True):
    rng = np.random.default_rng(number)
    return Frame(number, rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
                 PinholeCamera(width, height, 9.0, 9.0, width / 2, height / 2), np.eye(4),
                 rng.random((height, width), np.float32) if depth else None,
                 rng.random((height, width)) > 0.5 if valid else None)


def same(a, b):
    def equal(x, y):
        return y is None if x is None else x.dtype == y.dtype and np.array_equal(x, y)
    return (a.stamp_ns, a.camera) == (b.stamp_ns, b.camera) and all(
        equal(getattr(a, name), getattr(b, name))
        for name in ('image', 'depth_m', 'valid', 'T_world_camera'))


def echo(channel, answers, count):
    for _ in range(count):
        answers.put(channel.get(timeout=60.0))


def sleep_forever(channel):
    channel.get(timeout=60.0)
    os.kill(os.getpid(), signal.SIGSTOP)


def test_another_process_gets_the_frames_in_order():
    channel, answers = FrameChannel(CONTEXT, SIZE), CONTEXT.Queue()
    # More than there are slots, of changing sizes, with and without depth and mask.
    frames = [frame(i, 20 + i, 10, i % 2 == 0, i % 3 == 0) for i in range(3 * SIZE)]
    child = CONTEXT.Process(target=echo, args=(channel, answers, len(frames)))
    child.start()
    received = []
    for sent in frames:
        while True:
            try:
                channel.put_nowait(sent)
                break
            except queue.Full:
                received.append(answers.get(timeout=60))
    while len(received) < len(frames):
        received.append(answers.get(timeout=60))
    child.join(60)
    assert all(same(a, b) for a, b in zip(frames, received, strict=True))
    channel.close()


def test_a_full_channel_refuses_and_overwrites_nothing():
    channel = FrameChannel(CONTEXT, SIZE)
    for i in range(SIZE):
        channel.put_nowait(frame(i))
    for _ in range(3):
        with pytest.raises(queue.Full):
            channel.put_nowait(frame(99))
    reader = reader_of(channel)
    assert all(same(reader.get(timeout=10.0), frame(i)) for i in range(SIZE))
    with pytest.raises(queue.Empty):
        reader.get_nowait()
    channel.close()


def test_in_a_full_channel_the_oldest_gives_way():
    channel = FrameChannel(CONTEXT, SIZE)
    numbers = [channel.put(frame(i)) for i in range(3 * SIZE)]
    assert numbers == [(i, None) for i in range(SIZE)] + [
        (i, i - SIZE) for i in range(SIZE, 3 * SIZE)]
    reader = reader_of(channel)
    assert all(same(reader.get(timeout=10.0), frame(i)) for i in range(2 * SIZE, 3 * SIZE))
    with pytest.raises(queue.Empty):
        reader.get_nowait()
    channel.close()


def test_nothing_is_dropped_while_a_frame_is_read(monkeypatch):
    """A reader that was killed while it took a frame holds the lock: the writer goes on."""
    monkeypatch.setattr(lerf_ros.mapping.frame_channel, 'PATIENCE_S', 0.01)
    channel = FrameChannel(CONTEXT, SIZE)
    for i in range(SIZE):
        channel.put(frame(i))
    with channel._taking:
        assert channel.put(frame(SIZE)) == (None, None)
    assert channel.put(frame(SIZE + 1)) == (SIZE, 0)
    reader = reader_of(channel)
    assert [reader.get(timeout=10.0).stamp_ns for _ in range(SIZE)] == [1, 2, 3, SIZE + 1]
    channel.close()


def reader_of(channel):
    """The other end, in this process."""
    other = object.__new__(FrameChannel)
    other.__dict__.update(_queue=channel._queue, _taking=channel._taking, _slots=channel._slots,
                          _number=0, _taken=0, _handed_over=channel._handed_over)
    other._open(os.dup(channel._descriptor))
    return other


def test_the_reader_knows_how_many_came_since():
    channel = FrameChannel(CONTEXT, 3)
    reader = reader_of(channel)
    assert reader.qsize() == 0
    for number in range(4):             # the first one is dropped for the last
        channel.put(frame(number))
    waiting = []
    for _ in range(3):
        reader.get(timeout=10.0)
        waiting.append(reader.qsize())
    assert waiting == [2, 1, 0]
    channel.close()


def test_what_was_read_does_not_change_any_more():
    channel = FrameChannel(CONTEXT, 1)
    reader = reader_of(channel)
    channel.put_nowait(frame(0))
    first = reader.get(timeout=10.0)
    for i in range(1, 6):
        channel.put_nowait(frame(i))
        assert same(reader.get(timeout=10.0), frame(i))
    assert same(first, frame(0))
    channel.close()


def test_a_frame_too_large_for_a_slot_goes_through_the_pipe(monkeypatch):
    monkeypatch.setattr(lerf_ros.mapping.frame_channel, 'SLOT_BYTES', 4096)
    channel = FrameChannel(CONTEXT, SIZE)
    reader = reader_of(channel)
    for sent in (frame(0, 8, 8), frame(1, 100, 100), frame(2, 8, 8)):
        channel.put_nowait(sent)
    assert all(same(reader.get(timeout=10.0), sent)
               for sent in (frame(0, 8, 8), frame(1, 100, 100), frame(2, 8, 8)))
    channel.close()


@pytest.mark.skipif(not Path('/proc/self/fd').is_dir(), reason='needs /proc')
def test_nothing_is_left_when_both_ends_are_gone():
    shared = Path('/dev/shm')
    before, opened = set(shared.iterdir()), open_memory()
    channel = FrameChannel(CONTEXT, SIZE)
    child = CONTEXT.Process(target=sleep_forever, args=(channel,))
    child.start()
    channel.put_nowait(frame(0))
    child.kill()
    child.join(60)
    assert open_memory() > opened
    channel.close()
    assert open_memory() == opened
    # Beside semaphores of the queue, which the standard library unlinks at once, nothing new.
    assert not {p for p in set(shared.iterdir()) - before if p.stat().st_size > 4096}


def open_memory():
    """How many descriptors of frames' memory this process holds."""
    return sum('lerf_frames' in os.readlink(path) for path in Path('/proc/self/fd').iterdir()
               if os.path.lexists(path))
