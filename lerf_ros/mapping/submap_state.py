# SPDX-License-Identifier: Apache-2.0
"""What is asked of all submaps together: their keyframes, their quality, how far they moved."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.config import LerfConfig
from lerf_ros.errors import MapUnreadableError
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.pose_jump import StampedPose
from lerf_ros.geometry.camera import depth_to_points, invert_pose, transform_points
from lerf_ros.index.resolution import nearer_half
from lerf_ros.mapping.keyframes import same_pose
from lerf_ros.mapping.messages import INBOX_SIZE
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.storage.keyframe_files import KeyframeFiles
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training.quality import Quality

EVERY = 8       # pixels from one to the next that tell what a keyframe looks at
log = logging.getLogger(__name__)


class Submaps(Protocol):
    """What the two views below are of."""

    active: dict[int, SingleMap]

    @property
    def count(self) -> int:
        """The number of submaps."""

    def indices_of(self, number: int) -> frozenset[int]:
        """Returns the keyframes of a submap that are on the disk, by index."""

    def placed(self) -> list[StampedPose]:
        """Returns where in the map, and when, all keyframes were taken."""


class WaitingEverywhere:
    """The keyframes that wait in submaps in memory; none waits in one that is closed."""

    def __init__(self, submaps: Submaps) -> None:
        self._submaps = submaps
        self.next_index = 0

    def __len__(self) -> int:
        return sum(len(mapper.waiting) for mapper in self._submaps.active.values())

    @property
    def fault(self) -> str:
        """Why keyframes cannot be stored; empty when they can."""
        return next(filter(None, (m.waiting.fault for m in self._submaps.active.values())), '')

    @property
    def learned_until(self) -> int:
        """The index of the first keyframe that is not learned everywhere, or still to come."""
        return min((m.waiting.learned_until for m in self._submaps.active.values()
                    if len(m.waiting)), default=self.next_index)

    def store_again(self) -> bool:
        """Stores what the disk did not take before; returns whether all is stored now."""
        return all([m.waiting.store_again() for m in self._submaps.active.values()])

    def placed(self) -> list[StampedPose]:
        """Returns nothing: those that wait are among the ones that `LearnedEverywhere` places."""
        return []


class LearnedEverywhere:
    """The keyframes of all submaps."""

    def __init__(self, submaps: Submaps) -> None:
        self._submaps = submaps

    def __len__(self) -> int:
        submaps, found = self._submaps, set[int]()
        for number in range(submaps.count):
            mapper = submaps.active.get(number)
            found |= {known.index for known in mapper.learned} if mapper else \
                submaps.indices_of(number)
        return len(found)

    @property
    def forgotten(self) -> int:
        """Keyframes that had to go for others, in submaps in memory."""
        return sum(mapper.learned.forgotten for mapper in self._submaps.active.values())

    def placed(self) -> list[StampedPose]:
        """Returns where in the map, and when, all keyframes were taken."""
        return self._submaps.placed()


def learn_all(mapper: SingleMap) -> None:
    """Learns all keyframes that wait in a submap; one that cannot be read is left out."""
    while len(mapper.waiting):
        try:
            if not mapper.learn_next():
                return
        except MapUnreadableError as error:
            log.warning('a keyframe is left out: %s', error)


def newest_stamps(files: KeyframeFiles) -> Iterator[tuple[int, int]]:
    """Yields stamp (ns) and index of the newest keyframes, which may be sent again."""
    for index in files.indices()[-INBOX_SIZE:]:
        if index in files:
            yield files.pose(index)[0], index


def unfinished(directory: MapDirectory, config: LerfConfig) -> bool:
    """Returns whether the newest snapshot of a submap lacks keyframes, or training."""
    indices = directory.keyframes.indices()
    newest = directory.newest() if directory.exists() else None
    if newest is None or not indices:
        return bool(indices)
    state = next(directory.training_states(), None)
    later = state is not None and state.info['steps'] > newest.info['steps']
    return (later or indices[-1] >= newest.info.get('learned_until', 0)
            or (config.training.settle_steps > 0 and not newest.info.get('settled')))


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """Returns the mean of what is known; NaN where nothing is."""
    def mean(values: list[float]) -> float:
        known = [value for value in values if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan
    return Quality(mean([q.psnr for q in qualities]), mean([q.depth_error for q in qualities]))


def rigid_move(before: Mapping[int, np.ndarray], poses: Mapping[int, np.ndarray],
               middle: np.ndarray) -> np.ndarray | None:
    """Returns the motion (4, 4), map frame, of a submap around `middle` (3,); None for none.

    It is the mean of what its keyframes do, from their poses `before` (4, 4) to better ones, all
    by index; those without a better pose stay.
    """
    moves = [poses[i] @ invert_pose(T) if i in poses else np.eye(4) for i, T in before.items()]
    if not any(i in poses for i in before):
        return None
    T_move = np.eye(4)
    T_move[:3, :3] = Rotation.from_matrix(np.stack([T[:3, :3] for T in moves])).mean().as_matrix()
    to = np.mean([T[:3, :3] @ middle + T[:3, 3] for T in moves], axis=0)
    T_move[:3, 3] = to - T_move[:3, :3] @ middle
    return None if same_pose(T_move, np.eye(4)) else T_move


def looked_at(frame: Frame) -> np.ndarray:
    """Returns points (N, 3), map frame, of the nearer half of what a frame measured."""
    return nearer_half(*points_of(frame))


def points_of(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (N, 3), map frame, that a frame measured, and their z-depths (N,)."""
    if frame.depth_m is None:
        return np.zeros((0, 3)), np.zeros(0)
    points_camera = depth_to_points(frame.camera, frame.depth_m, frame.valid, EVERY)
    return transform_points(frame.T_world_camera, points_camera), points_camera[:, 2]
