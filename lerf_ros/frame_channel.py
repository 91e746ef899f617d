# SPDX-License-Identifier: Apache-2.0
"""Frames from one process to another through shared memory: a bounded queue that cannot leak.

The memory has no name: the system frees it with the last process that has it open, however that
ends. What goes through the pipe is a frame's camera, pose and sizes.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np

from lerf_ros.camera import PinholeCamera
from lerf_ros.keyframes.frame import Frame

# Room for the pixels of one frame; memory is taken only where something was written. A larger
# frame goes through the pipe.
SLOT_BYTES = 1 << 27
# Beside those that wait, one is being written and one being read.
SPARE_SLOTS = 2


Layout = tuple[tuple[int, tuple[int, ...], str] | None, ...]


@dataclass(frozen=True)
class _Message:
    """A frame without its pixels. arrays: (offset in the slot, shape, type) of each, or None."""

    number: int
    stamp_ns: int
    camera: PinholeCamera
    T_world_camera: np.ndarray
    arrays: Layout


class FrameChannel:
    """A bounded queue of frames for one writer and one reader, in two processes.

    To both it looks like a multiprocessing.Queue, but no pixels are pickled. It is handed to the
    reader as an argument of its process. Frames use the slots in turn; since the reader copies a
    frame before it takes the next one, no slot is written while it is read.
    """

    def __init__(self, context: BaseContext, size: int) -> None:
        """size: frames that may wait."""
        self._queue: Any = context.Queue(size)
        # Frames that nobody takes any more must not keep the writer from ending.
        self._queue.cancel_join_thread()
        self._slots, self._number = size + SPARE_SLOTS, 0
        self._open(anonymous_file(self._slots * SLOT_BYTES))

    def _open(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, self._slots * SLOT_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return {'_queue': self._queue, '_slots': self._slots, '_number': 0,
                'file': reduction.DupFd(self._descriptor)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        descriptor = state.pop('file').detach()
        self.__dict__.update(state)
        self._open(descriptor)

    def put_nowait(self, frame: Frame) -> None:
        """Hands a frame over; queue.Full when as many wait as may."""
        pixels = (frame.image, frame.depth_m, frame.valid)
        message: Frame | _Message = frame
        if sum(aligned(a.nbytes) for a in pixels if a is not None) <= SLOT_BYTES:
            message = _Message(self._number, frame.stamp_ns, frame.camera, frame.T_world_camera,
                               self._write(pixels))
        self._queue.put_nowait(message)
        self._number += 1

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
        return self._read(self._queue.get(timeout=timeout))

    def get_nowait(self) -> Frame:
        """The next frame; queue.Empty when none is there."""
        return self._read(self._queue.get_nowait())

    def _read(self, message: Frame | _Message) -> Frame:
        if isinstance(message, Frame):
            return message
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
