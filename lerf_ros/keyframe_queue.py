# SPDX-License-Identifier: Apache-2.0
"""Keyframes on their way into training: stored at once, learned one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from lerf_ros.keyframes.frame import Frame, Keyframe
from lerf_ros.storage.keyframe_files import KeyframeFiles, as_stored

# Keyframes that the disk did not take are kept in memory to be tried again, so many at most.
UNSTORED = 64


class KeyframeQueue:
    """Waiting keyframes by number: new ones are at hand, those of an earlier process on disk."""

    def __init__(self, files: KeyframeFiles) -> None:
        self.next_index = 0
        self.fault = ''     # why the newest keyframe is not on the disk; empty when it is
        self._files = files
        self._waiting: deque[int] = deque()
        self._at_hand: dict[int, Keyframe] = {}
        self._unstored: deque[Keyframe] = deque(maxlen=UNSTORED)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, frame: Frame) -> bool:
        """Takes a frame as the next keyframe; whether it is on the disk.

        One that the disk does not take is learned all the same, and stored later if possible.
        """
        keyframe = Keyframe(self.next_index, as_stored(frame))
        self.next_index += 1
        self._at_hand[keyframe.index] = keyframe
        self._waiting.append(keyframe.index)
        self._unstored.append(keyframe)
        return self.store_again()

    def store_again(self) -> bool:
        """Stores what the disk did not take before; whether all is stored now."""
        try:
            while self._unstored:
                self._files.add(self._unstored[0])
                self._unstored.popleft()
        except OSError as error:
            self.fault = f'keyframes cannot be stored: {error}'
            return False
        self.fault = ''
        return True

    def recall(self, indices: Sequence[int], next_index: int) -> None:
        """Makes keyframes that are on the disk wait to be learned again, in this order."""
        self._waiting.extend(indices)
        self.next_index = next_index

    def first(self, count: int) -> list[Keyframe]:
        """The first of those that wait. Raises MapUnreadableError."""
        return [self._get(index) for index, _ in zip(self._waiting, range(count), strict=False)]

    def pop(self) -> Keyframe:
        """The one that has waited longest. Raises MapUnreadableError for one that is damaged."""
        index = self._waiting.popleft()
        keyframe = self._get(index)
        self._at_hand.pop(index, None)
        return keyframe

    def _get(self, index: int) -> Keyframe:
        return self._at_hand.get(index) or self._files.read(index)
