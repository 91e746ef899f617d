# SPDX-License-Identifier: Apache-2.0
"""Frames from one process to another through shared memory: a bounded queue that cannot leak.

The memory has no name: the system frees it with the last process that has it open, however that
ends. What goes through the pipe is a frame's camera, pose and sizes. When as many frames wait as
may, the oldest gives way to the newest: what a robot sees now is worth more than what it has seen.
"""

from __future__ import annotations

import mmap
import os
import queue
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np

from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera

# Room for the pixels of one frame; memory is taken only where something was written. A larger
# frame goes through the pipe.
SLOT_BYTES = 1 << 27
# Beside those that wait, one is being written and one being read.
SPARE_SLOTS = 2
# How long the writer waits for a reader that is just taking a frame; one that was killed meanwhile
# never lets go. How long the reader waits for the writer, and between two looks.
PATIENCE_S, LOOK_S = 0.1, 0.02


Layout = tuple[tuple[int, tuple[int, ...], str] | None, ...]


@dataclass(frozen=True)
class _Message:
    """A frame without its pixels. arrays: (offset in the slot, shape, type) of each, or None.

    whole: the frame itself where its pixels do not fit into a slot.
    """

    number: int
    stamp_ns: int
    camera: PinholeCamera
    T_world_camera: np.ndarray
    arrays: Layout
    whole: Frame | None = None


class FrameChannel:
    """A bounded queue of frames for one writer and one reader, in two processes.

    No pixels are pickled. It is handed to the reader as an argument of its process. Frames use the
    slots in turn; since the reader copies a frame before it takes the next one, and the writer
    drops none meanwhile, no slot is written while it is read.
    """

    def __init__(self, context: BaseContext, size: int) -> None:
        """size: frames that may wait."""
        self._queue: Any = context.Queue(size)
        # Frames that nobody takes any more must not keep the writer from ending.
        self._queue.cancel_join_thread()
        # Held while a frame is taken out, by either side. Nobody waits for it without an end.
        self._taking: Any = context.Lock()
        self._slots, self._number = size + SPARE_SLOTS, 0
        self._open(anonymous_file(self._slots * SLOT_BYTES))

    def _open(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, self._slots * SLOT_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return {'_queue': self._queue, '_taking': self._taking, '_slots': self._slots,
                '_number': 0,
                'file': reduction.DupFd(self._descriptor)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        descriptor = state.pop('file').detach()
        self.__dict__.update(state)
        self._open(descriptor)

    def put(self, frame: Frame) -> tuple[int | None, int | None]:
        """Hands a frame over: its number, and that of the oldest one where it had to give way.

        The frame itself has no number, and is lost, where the reader was killed while it took one.
        """
        dropped = None
        while True:
            try:
                return self.put_nowait(frame), dropped
            except queue.Full:
                pass
            if not self._taking.acquire(timeout=PATIENCE_S):
                return None, dropped
            try:
                dropped = self._queue.get(timeout=PATIENCE_S).number
            except queue.Empty:
                return None, dropped
            finally:
                self._taking.release()

    def put_nowait(self, frame: Frame) -> int:
        """Hands a frame over; returns its number. queue.Full when as many wait as may."""
        pixels = (frame.image, frame.depth_m, frame.valid)
        fits = sum(aligned(a.nbytes) for a in pixels if a is not None) <= SLOT_BYTES
        message = _Message(self._number, frame.stamp_ns, frame.camera, frame.T_world_camera,
                           self._write(pixels) if fits else (), None if fits else frame)
        self._queue.put_nowait(message)
        self._number += 1
        return message.number

    def _write(self, pixels: Sequence[np.ndarray | None]) -> Layout:
        at = 0
        arrays: list[tuple[int, tuple[int, ...], str] | None] = []
        for array in pixels:
            if array is None:
                arrays.append(None)
                continue
            self._array(at, array.shape, array.dtype.str)[...] = array
            arrays.append((at, array.shape, array.dtype.str))
            at += aligned(array.nbytes)
        return tuple(arrays)

    def get(self, timeout: float) -> Frame:
        """The next frame; queue.Empty when none comes within `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self.get_nowait()
            except queue.Empty:
                if time.monotonic() >= end:
                    raise
            time.sleep(LOOK_S)

    def get_nowait(self) -> Frame:
        """The next frame; queue.Empty when none is there."""
        if not self._taking.acquire(timeout=PATIENCE_S):
            raise queue.Empty
        try:
            return self._read(self._queue.get_nowait())
        finally:
            self._taking.release()

    def _read(self, message: _Message) -> Frame:
        if message.whole is not None:
            return message.whole
        self._number = message.number
        image, depth_m, valid = (
            None if a is None else self._array(*a).copy() for a in message.arrays)
        assert image is not None
        return Frame(message.stamp_ns, image, message.camera, message.T_world_camera, depth_m,
                     valid)

    def _array(self, at: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Pixels in the slot of the present number."""
        return np.ndarray(shape, dtype, self._memory,
                          self._number % self._slots * SLOT_BYTES + at)

    def close(self) -> None:
        """Lets go of the queue and the memory; the other process keeps what it has open."""
        self._queue.close()
        self._memory.close()
        os.close(self._descriptor)


def aligned(size: int) -> int:
    """The next multiple of a cache line, where the next array may start."""
    return -(-size // 64) * 64


def anonymous_file(size: int) -> int:
    """The descriptor of a file in memory without a name; where there is none, on disk."""
    if hasattr(os, 'memfd_create'):
        descriptor = os.memfd_create('lerf_frames')
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
