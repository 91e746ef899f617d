# SPDX-License-Identifier: Apache-2.0
"""Keyframes on their way into training: stored at once, learned one after another."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lerf_ros.errors import MapUnreadableError
from lerf_ros.keyframes.frame import Frame, Keyframe
from lerf_ros.keyframes.pose_jump import Placed
from lerf_ros.storage.keyframe_files import KeyframeFiles, as_stored

# Keyframes that the disk did not take are kept in memory to be tried again, so many at most: then
# the oldest is given up. Of those that wait so many are kept in memory, later ones are read again.
UNSTORED = AT_HAND = 64
log = logging.getLogger(__name__)


class KeyframeQueue:
    """Waiting keyframes by number: new ones are at hand, those of an earlier process on disk."""

    def __init__(self, files: KeyframeFiles) -> None:
        self.next_index = 0
        self.fault = ''     # why the newest keyframe is not on the disk; empty when it is
        self._files = files
        self._waiting: deque[int] = deque()
        self._at_hand: dict[int, Keyframe] = {}
        self._unstored: deque[Keyframe] = deque()
        self.given_up = 0   # keyframes that will never be on the disk

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def learned_until(self) -> int:
        """The number of the first keyframe that is not learned yet, there or still to come."""
        return self._waiting[0] if self._waiting else self.next_index

    def add(self, frame: Frame) -> bool:
        """Takes a frame as the next keyframe; whether it is on the disk.

        One that the disk does not take is learned all the same, and stored later if possible.
        """
        keyframe = Keyframe(self.next_index, as_stored(frame))
        self.next_index += 1
        self._at_hand[keyframe.index] = keyframe
        self._waiting.append(keyframe.index)
        self._unstored.append(keyframe)
        if len(self._unstored) > UNSTORED:
            self._unstored.popleft()
            self.given_up += 1
        stored = self.store_again()
        if stored and len(self._at_hand) > AT_HAND:
            del self._at_hand[keyframe.index]
        return stored

    def store_again(self) -> bool:
        """Stores what the disk did not take before; whether all is stored now."""
        try:
            while self._unstored:
                self._files.add(self._unstored[0])
                self._unstored.popleft()
        except OSError as error:
            self.fault = f'keyframes cannot be stored: {error}'
            if self.given_up:
                self.fault += f' ({self.given_up} of them never will be: more than {UNSTORED} wait)'
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

    def forget(self, index: int) -> None:
        """Removes a learned keyframe from the disk; where that fails it comes back after a restart.
        """
        try:
            self._files.remove(index)
        except (OSError, MapUnreadableError) as error:
            log.warning('keyframe %d stays on the disk: %s', index, error)

    def move(self, poses: Mapping[int, np.ndarray], learned: Mapping[int, np.ndarray],
             move: int) -> int:
        """Takes better poses (4, 4) by index for keyframes that wait; how many have one.

        Stores those, and the poses of learned keyframes by index, as those of a numbered move.
        """
        waiting = self._place(poses)
        for index, T_world_camera in {**learned, **waiting}.items():
            self._store_pose(self._files.set_pose, index, T_world_camera, move)
        return len(waiting)

    def undo_move(self, poses: Mapping[int, np.ndarray]) -> None:
        """Takes the poses (4, 4) by index from before the newest move, and strikes that out."""
        self._place(poses)
        for index in poses:
            self._store_pose(self._files.undo_move, index)

    def _place(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        waiting = {i: poses[i] for i in self._waiting if i in poses}
        for index, T_world_camera in waiting.items():
            if index in self._at_hand:
                frame = replace(self._at_hand[index].frame, T_world_camera=T_world_camera)
                self._at_hand[index] = Keyframe(index, frame)
        return waiting

    @staticmethod
    def _store_pose(store: Callable[..., None], index: int, *arguments: Any) -> None:
        try:
            store(index, *arguments)
        except (OSError, MapUnreadableError) as error:
            log.warning('the new pose of keyframe %d is not stored: %s', index, error)

    def placed(self) -> list[Placed]:
        """Where and when those that wait were taken, without those whose record is damaged."""
        placed = []
        for index in self._waiting:
            if index in self._at_hand:
                frame = self._at_hand[index].frame
                placed.append(Placed(index, frame.stamp_ns, frame.T_world_camera))
                continue
            # A damaged one is named when it is its turn to be learned.
            with contextlib.suppress(MapUnreadableError):
                placed.append(Placed(index, *self._files.pose(index)))
        return placed

    def _get(self, index: int) -> Keyframe:
        return self._at_hand.get(index) or self._files.read(index)
