# SPDX-License-Identifier: Apache-2.0
"""All keyframes of a map by index: those that wait to be learned, and those that are learned."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lerf_ros.config import KeyframeConfig
from lerf_ros.errors import MapUnreadableError
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.frames.pose_jump import StampedPose
from lerf_ros.frames.selection import most_redundant, motion
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.mapping.world_changes import WorldChanges
from lerf_ros.storage.keyframe_files import KeyframeFiles, as_stored

# How many keyframes that the disk did not take are kept to be tried again, before the oldest is
# given up; how many of those that wait are kept in memory, before later ones are read from disk.
UNSTORED = AT_HAND = 64
log = logging.getLogger(__name__)


class KeyframeQueue:
    """Keyframes that wait to be learned, by index: on disk at once, and the first few in memory."""

    def __init__(self, files: KeyframeFiles) -> None:
        self.next_index = 0
        self.fault = ''     # why keyframes cannot be stored; empty when they can
        self._files = files
        self._waiting: deque[int] = deque()
        self._at_hand: dict[int, Keyframe] = {}
        self._unstored: deque[Keyframe] = deque()
        self.given_up = 0   # keyframes that will never be on the disk

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def learned_until(self) -> int:
        """The index of the first keyframe that is not learned yet, there or still to come."""
        return self._waiting[0] if self._waiting else self.next_index

    def add(self, frame: Frame) -> bool:
        """Takes a frame as the next keyframe; returns whether it is on the disk.

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
        """Stores what the disk did not take before; returns whether all is stored now."""
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

    def resume(self, indices: Sequence[int], next_index: int) -> None:
        """Makes stored keyframes wait to be learned again, in this order."""
        self._waiting.extend(indices)
        self.next_index = next_index

    def first(self, count: int) -> list[Keyframe]:
        """Returns the `count` that have waited longest. Raises MapUnreadableError."""
        return [self._get(index) for index, _ in zip(self._waiting, range(count), strict=False)]

    def pop(self) -> Keyframe:
        """Removes the one that has waited longest. Raises MapUnreadableError if it is damaged."""
        index = self._waiting.popleft()
        keyframe = self._get(index)
        self._at_hand.pop(index, None)
        return keyframe

    def forget(self, index: int) -> None:
        """Removes a learned keyframe from the disk; if that fails a restart learns it again."""
        try:
            self._files.remove(index)
        except (OSError, MapUnreadableError) as error:
            log.warning('keyframe %d stays on the disk: %s', index, error)

    def move(self, poses: Mapping[int, np.ndarray], learned: Mapping[int, np.ndarray],
             move: int) -> int:
        """Gives keyframes that wait better poses (4, 4) by index; returns how many have one.

        Stores these and the new poses of `learned` keyframes as the move of this number.
        """
        waiting = self._set_poses(poses)
        for index, T_world_camera in {**learned, **waiting}.items():
            self._store_pose(partial(self._files.set_pose, index, T_world_camera, move), index)
        return len(waiting)

    def undo_move(self, poses: Mapping[int, np.ndarray]) -> None:
        """Restores the poses (4, 4) by index from before the newest move, also on the disk."""
        self._set_poses(poses)
        for index in poses:
            self._store_pose(partial(self._files.undo_move, index), index)

    def _set_poses(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        waiting = {i: poses[i] for i in self._waiting if i in poses}
        for index, T_world_camera in waiting.items():
            if index in self._at_hand:
                frame = replace(self._at_hand[index].frame, T_world_camera=T_world_camera)
                self._at_hand[index] = Keyframe(index, frame)
        return waiting

    @staticmethod
    def _store_pose(store: Callable[[], None], index: int) -> None:
        try:
            store()
        except (OSError, MapUnreadableError) as error:
            log.warning('the new pose of keyframe %d is not stored: %s', index, error)

    def placed(self) -> list[StampedPose]:
        """Returns where and when those that wait were taken, but for damaged ones."""
        placed = []
        for index in self._waiting:
            if index in self._at_hand:
                frame = self._at_hand[index].frame
                placed.append(StampedPose(index, frame.stamp_ns, frame.T_world_camera))
                continue
            # `pop` names a damaged one.
            with contextlib.suppress(MapUnreadableError):
                placed.append(StampedPose(index, *self._files.pose(index)))
        return placed

    def _get(self, index: int) -> Keyframe:
        return self._at_hand.get(index) or self._files.read(index)


GPU_SHARE = 0.6     # of a GPU's free memory for pixels and features; fields and steps need the rest
GROWTH = 1.25       # tables that are too small become larger by a quarter (training/ray_batches.py)
# Poses that differ by less are the same (world units, degrees).
SAME_DISTANCE, SAME_ANGLE = 1e-4, 1e-2


@dataclass(frozen=True)
class LearnedKeyframe:
    """A keyframe in training, or held out to measure quality, without its pixels.

    index: its number in the map directory, by which all parts know it. valid (H, W) bool: pixels
    that count, None for all.
    """

    index: int
    stamp_ns: int
    camera: PinholeCamera
    T_world_camera: np.ndarray
    valid: np.ndarray | None
    held_out: bool


class LearnedKeyframes:
    """The table of all keyframes that the map is learned from now, by index."""

    def __init__(self, config: KeyframeConfig, free_megabytes: int = 0) -> None:
        """free_megabytes: what the GPU has at the start; 0 for a CPU."""
        self.config = config
        self.memory_fault = ''  # what is done since memory ran out; empty before
        self._most = config.max_count   # fewer once memory has run out
        self._megabytes = config.memory_megabytes or int(GPU_SHARE * free_megabytes)
        self.changes = WorldChanges(config.stale_views, config.stale_depth)
        self.forgotten = 0      # keyframes that had to go for others
        self._table: dict[int, LearnedKeyframe] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[LearnedKeyframe]:
        return iter(self._table.values())

    def __contains__(self, index: object) -> bool:
        return index in self._table

    def __getitem__(self, index: int) -> LearnedKeyframe:
        return self._table[index]

    def to_forget(self, keyframe: Keyframe, held_out: bool, bytes_used: int) -> int | None:
        """Returns the index of the keyframe that has to go for a new one; None if there is room.

        It is one of those with the same use. bytes_used: memory that all keyframes take now.
        """
        limit, count = self._megabytes * 2**20, len(self)
        full = count >= self._most or (
            0 < limit < GROWTH * bytes_used * (count + 1) / max(count, 1))
        return self.most_redundant(keyframe, held_out) if full else None

    @property
    def deletes(self) -> bool:
        """Whether a keyframe that has to go also goes from the disk.

        Only limits that somebody set are a reason for that, not what memory there happens to be.
        """
        return not self.memory_fault and (
            self.config.memory_megabytes > 0 or len(self) >= self.config.max_count)

    def grow_no_more(self, reason: str) -> None:
        """Lets new keyframes take the place of others from now on, because memory ran out."""
        self._most = len(self)
        self.memory_fault = (f'out of memory: {self._most} keyframes are trained on, and new ones '
                             'take the place of others; all stay on the disk')
        log.warning('%s: %s', self.memory_fault, reason.partition('\n')[0])

    def most_redundant(self, keyframe: Keyframe, held_out: bool) -> int | None:
        """Returns the index of the keyframe that a new one replaces best, of the same use."""
        alike = [known for known in self if known.held_out == held_out]
        if not alike:
            return None
        poses = np.stack([known.T_world_camera for known in alike])
        arrivals = np.array([known.index for known in alike])
        chosen = most_redundant(poses, arrivals, keyframe.frame.T_world_camera, self.config)
        return alike[chosen].index

    def add(self, keyframe: Keyframe, held_out: bool,
            instead_of: int | None = None) -> dict[int, np.ndarray]:
        """Takes a keyframe, in the place of one that is forgotten where there is one.

        Returns the stale pixels (H, W) bool by index of the keyframes where some became so.
        """
        if instead_of is not None:
            del self._table[instead_of]
            self.changes.forget(instead_of)
            self.forgotten += 1
        index, frame = keyframe.index, keyframe.frame
        self._table[index] = LearnedKeyframe(
            index, frame.stamp_ns, frame.camera, frame.T_world_camera, frame.valid, held_out)
        return self.changes.add(index, frame)

    def placed(self) -> list[StampedPose]:
        """Returns where and when the keyframes were taken."""
        return [StampedPose(known.index, known.stamp_ns, known.T_world_camera) for known in self]

    def moved(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Returns those of the poses (4, 4) by index that differ from what the keyframes have."""
        return {known.index: poses[known.index] for known in self if known.index in poses
                and not same_pose(known.T_world_camera, poses[known.index])}

    def move(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Gives keyframes better poses (4, 4) by index; returns stale pixels as `add` does."""
        for index, T_world_camera in poses.items():
            self._table[index] = replace(self._table[index], T_world_camera=T_world_camera)
        return self.changes.move(poses)


def same_pose(a: np.ndarray, b: np.ndarray) -> bool:
    """Returns whether two poses (4, 4) are equal but for rounding."""
    distance, angle = motion(a, b)
    return distance < SAME_DISTANCE and angle < SAME_ANGLE
