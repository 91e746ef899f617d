# SPDX-License-Identifier: Apache-2.0
"""A bounded queue of frames from one process to another, through shared memory that cannot leak.

The memory has no name: the system frees it with the last process that has it open, however that
ends. Only a frame's camera, pose and sizes go through a pipe. When the queue is full, the oldest
frame is dropped for the newest: what a robot sees now is worth more than what it saw.
"""

from __future__ import annotations

import mmap
import os
import queue
import tempfile
import time
from collections.abc import Sequence
from ctypes import c_ulonglong
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.context import BaseContext
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import RawValue
from multiprocessing.synchronize import Lock
from typing import Protocol

import numpy as np

from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera

# Room for the pixels of one frame; only what is written takes memory. A larger frame goes through
# the pipe.
SLOT_BYTES = 1 << 27
# Beside those that wait, one is being written and one being read.
SPARE_SLOTS = 2
# How long each side waits for the other, which may have been killed while it took a frame, and how
# long the reader sleeps between two looks into the queue.
PATIENCE_S, LOOK_S = 0.1, 0.02


Layout = tuple[tuple[int, tuple[int, ...], str] | None, ...]


@dataclass(frozen=True)
class _Message:
    """A frame without its pixels.

    arrays: offset in the slot, shape and type of image, depth and mask, None for one that is
    missing. whole: the frame itself where its pixels do not fit into a slot.
    """

    number: int
    stamp_ns: int
    camera: PinholeCamera
    T_world_camera: np.ndarray
    arrays: Layout
    whole: Frame | None = None


class _Descriptor(Protocol):
    """A file descriptor on its way to a child process."""

    def detach(self) -> int: ...


class FrameChannel:
    """A bounded queue of frames for one writer and one reader, in two processes.

    It is handed to the reader as an argument of its process. No pixels are pickled. Frames use the
    slots in turn: the reader copies a frame before it takes the next one, and the writer drops
    none meanwhile, so no slot is written while it is read.
    """

    def __init__(self, context: BaseContext, size: int) -> None:
        """size: the most frames that wait."""
        self._queue: Queue[_Message] = context.Queue(size)
        # Frames that nobody reads any more must not keep the writer from ending.
        self._queue.cancel_join_thread()
        # Held by the side that takes a frame out; always acquired with a timeout.
        self._taking: Lock = context.Lock()
        self._slots, self._number = size + SPARE_SLOTS, 0
        # How many the writer has handed over, and up to which number the reader has taken them.
        self._handed_over, self._taken = RawValue('Q', 0), 0
        self._open(anonymous_file(self._slots * SLOT_BYTES))

    def _open(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, self._slots * SLOT_BYTES)

    def __getstate__(self) -> tuple[Queue[_Message], Lock, int, c_ulonglong, _Descriptor]:
        return (self._queue, self._taking, self._slots, self._handed_over,
                reduction.DupFd(self._descriptor))

    def __setstate__(self, state: tuple[Queue[_Message], Lock, int, c_ulonglong,
                                        _Descriptor]) -> None:
        self._queue, self._taking, self._slots, self._handed_over, descriptor = state
        self._taken = 0
        self._number = 0
        self._open(descriptor.detach())

    def put(self, frame: Frame) -> tuple[int | None, int | None]:
        """Hands a frame over; returns its number, and that of the frame that was dropped for it.

        Both may be None: the former where the frame is lost, since the reader was killed while it
        took one out.
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
        """Hands a frame over and returns its number. Raises queue.Full."""
        pixels = (frame.image, frame.depth_m, frame.valid)
        fits = sum(aligned(a.nbytes) for a in pixels if a is not None) <= SLOT_BYTES
        message = _Message(self._number, frame.stamp_ns, frame.camera, frame.T_world_camera,
                           self._write(pixels) if fits else (), None if fits else frame)
        self._queue.put_nowait(message)
        self._number += 1
        self._handed_over.value = self._number
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

    def qsize(self) -> int:
        """Returns, on the reader's side, how many frames have come since the newest that it took.
        """
        return max(self._handed_over.value - self._taken, 0)

    def get(self, timeout: float) -> Frame:
        """Returns the next frame; raises queue.Empty when none comes within `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self.get_nowait()
            except queue.Empty:
                if time.monotonic() >= end:
                    raise
            time.sleep(LOOK_S)

    def get_nowait(self) -> Frame:
        """Returns the next frame; raises queue.Empty when there is none."""
        if not self._taking.acquire(timeout=PATIENCE_S):
            raise queue.Empty
        try:
            return self._read(self._queue.get_nowait())
        finally:
            self._taking.release()

    def _read(self, message: _Message) -> Frame:
        self._taken = message.number + 1
        if message.whole is not None:
            return message.whole
        self._number = message.number
        image, depth_m, valid = (
            None if a is None else self._array(*a).copy() for a in message.arrays)
        assert image is not None
        return Frame(message.stamp_ns, image, message.camera, message.T_world_camera, depth_m,
                     valid)

    def _array(self, at: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Returns an array in the slot of the present number, without a copy."""
        return np.ndarray(shape, dtype, self._memory,
                          self._number % self._slots * SLOT_BYTES + at)

    def close(self) -> None:
        """Closes the queue and the memory on this side."""
        self._queue.close()
        self._memory.close()
        os.close(self._descriptor)


def aligned(size: int) -> int:
    """Rounds a size up to a multiple of a cache line."""
    return -(-size // 64) * 64


def anonymous_file(size: int) -> int:
    """Opens a file without a name, in memory where the system can, and returns its descriptor."""
    if hasattr(os, 'memfd_create'):
        descriptor = os.memfd_create('lerf_frames')
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
