# SPDX-License-Identifier: Apache-2.0
"""The keyframes of a map by slot: which one makes room, which have moved, what they contradict.

A slot is a place for one keyframe in training or among the held-out ones. When there is room for
no more, a new keyframe takes the slot of one that is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.camera import PinholeCamera
from lerf_ros.config import KeyframeConfig
from lerf_ros.keyframes.forgetting import most_redundant
from lerf_ros.keyframes.frame import Keyframe
from lerf_ros.keyframes.pose_jump import Placed
from lerf_ros.keyframes.selection import motion
from lerf_ros.training.world_changes import WorldChanges

GROWTH = 1.25       # tables that are too small become larger by a quarter (training/growing.py)
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

    def placed(self) -> list[Placed]:
        """Where and when the keyframes were taken."""
        return [Placed(view.index, view.stamp_ns, view.T_world_camera) for view in self.views]

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
