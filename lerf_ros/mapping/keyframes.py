# SPDX-License-Identifier: Apache-2.0
"""Keyframes on their way into training: stored at once, learned one after another."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lerf_ros.config import KeyframeConfig
from lerf_ros.errors import MapUnreadableError
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.frames.pose_jump import StampedPose
from lerf_ros.frames.selection import most_redundant, motion
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.storage.keyframe_files import KeyframeFiles, as_stored
from lerf_ros.training.world_changes import WorldChanges

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

    def placed(self) -> list[StampedPose]:
        """Where and when those that wait were taken, without those whose record is damaged."""
        placed = []
        for index in self._waiting:
            if index in self._at_hand:
                frame = self._at_hand[index].frame
                placed.append(StampedPose(index, frame.stamp_ns, frame.T_world_camera))
                continue
            # A damaged one is named when it is its turn to be learned.
            with contextlib.suppress(MapUnreadableError):
                placed.append(StampedPose(index, *self._files.pose(index)))
        return placed

    def _get(self, index: int) -> Keyframe:
        return self._at_hand.get(index) or self._files.read(index)


GROWTH = 1.25       # tables that are too small become larger by a quarter (training/ray_batches.py)
# Poses that differ by less are the same (world units, degrees).
SAME_DISTANCE, SAME_ANGLE = 1e-4, 1e-2


@dataclass(frozen=True)
class MappedView:
    """Where a keyframe was taken from, which of its pixels count, and its row in training.

    row: of its store, that of the held-out ones where `held_out` is set. index: the keyframe's
    number in the map directory, ascending as they came.
    """

    camera: PinholeCamera
    T_world_camera: np.ndarray
    valid: np.ndarray | None
    row: int
    held_out: bool
    index: int
    stamp_ns: int


class KeyframeSlots:
    """All keyframes that are in the map now."""

    def __init__(self, config: KeyframeConfig) -> None:
        self.config = config
        self.views: list[MappedView] = []
        self.changes = WorldChanges(config.stale_views, config.stale_depth)
        self.forgotten = 0

    def victim(self, keyframe: Keyframe, held_out: bool, bytes_used: int) -> MappedView | None:
        """The keyframe that must go for a new one, of those with the same use; None: there is room.

        bytes_used: memory that the keyframes take now.
        """
        limit, count = self.config.memory_megabytes * 2**20, len(self.views)
        full = count >= self.config.max_count or (
            0 < limit < GROWTH * bytes_used * (count + 1) / max(count, 1))
        alike = [view for view in self.views if view.held_out == held_out]
        if not full or not alike:
            return None
        poses = np.stack([view.T_world_camera for view in alike])
        arrivals = np.array([view.index for view in alike])
        return alike[most_redundant(poses, arrivals, keyframe.frame.T_world_camera, self.config)]

    def put(self, keyframe: Keyframe, held_out: bool, row: int,
            victim: MappedView | None) -> dict[int, np.ndarray]:
        """Takes a keyframe, in the slot of the victim where there is one.

        Returns the stale pixels (H, W) bool of the slots where some have become so.
        """
        frame = keyframe.frame
        view = MappedView(frame.camera, frame.T_world_camera, frame.valid, row, held_out,
                          keyframe.index, frame.stamp_ns)
        slot = len(self.views)
        if victim is None:
            self.views.append(view)
        else:
            slot = [v.index for v in self.views].index(victim.index)
            self.views[slot] = view
            self.forgotten += 1
        return self.changes.add(slot, frame)

    def indices(self, held_out: bool) -> list[int]:
        """The keyframes of one kind in the order of their rows."""
        alike = [view for view in self.views if view.held_out == held_out]
        return [view.index for view in sorted(alike, key=lambda view: view.row)]

    def placed(self) -> list[StampedPose]:
        """Where and when the keyframes were taken."""
        return [StampedPose(view.index, view.stamp_ns, view.T_world_camera) for view in self.views]

    def moved(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The slots whose keyframe's pose (4, 4) by index differs from the one it has."""
        return {slot: poses[view.index] for slot, view in enumerate(self.views)
                if view.index in poses and not same_pose(view.T_world_camera, poses[view.index])}

    def move(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Takes better poses (4, 4) by slot; returns stale pixels as `put` does, and fresh ones."""
        for slot, T_world_camera in poses.items():
            self.views[slot] = replace(self.views[slot], T_world_camera=T_world_camera)
        return self.changes.move(poses)

    def usable(self, slot: int, stale: np.ndarray) -> np.ndarray:
        """Pixels (H, W) bool of a keyframe that may be learned from."""
        valid = self.views[slot].valid
        return ~stale if valid is None else valid & ~stale


def same_pose(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two poses (4, 4) are equal but for rounding."""
    distance, angle = motion(a, b)
    return distance < SAME_DISTANCE and angle < SAME_ANGLE
