# SPDX-License-Identifier: Apache-2.0
"""What a query returns: frozen, in world coordinates, without ROS."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

import numpy as np

from lerf_ros.config import GraspConfig
from lerf_ros.geometry.camera import transform_points


class Presence(enum.IntEnum):
    """Whether the thing is there; the values are those of srv/Query."""

    ABSENT = 0
    PRESENT = 1
    NOT_OBSERVED = 2


@dataclass(frozen=True)
class Hit:
    """One place where the phrase is.

    position: (3,) world, centre of the box. rotation: (3, 3), columns are the box axes in the
    world. size: (3,) box edge lengths, world units. relevancy: in 0..1, the hit's score.
    scale: physical width (world units) at which the phrase matched best. points: how many index
    points the hit holds. keyframes: how many keyframes saw them (median over its points).
    label: the phrase that it answers. probability: calibrated, in 0..1; NaN without calibration.
    """

    position: np.ndarray
    rotation: np.ndarray
    size: np.ndarray
    relevancy: float
    scale: float
    points: int
    keyframes: int
    label: str = ''
    probability: float = math.nan


@dataclass(frozen=True)
class Grasp:
    """One way to grasp a hit with a parallel gripper, world frame, metres.

    T_world_grasp (4, 4): origin between the fingertips, +z the approach direction, +y along which
    the fingers close. T_world_pregrasp: drawn back along -z. T_world_gripper: where the gripper's
    own frame is at the grasp. opening_width: of the fingers before they close. Scores in 0..1.
    """

    T_world_grasp: np.ndarray
    T_world_pregrasp: np.ndarray
    T_world_gripper: np.ndarray
    opening_width: float
    score: float
    semantic_score: float
    geometric_score: float


@dataclass(frozen=True)
class Timing:
    """Where the time of an answer went, seconds."""

    encode: float = 0.0
    search: float = 0.0
    grasp: float = 0.0


@dataclass(frozen=True)
class Answer:
    """Ranked hits and the relevancy of every index point.

    presence is PRESENT when the best hit reaches `threshold`. points_world: (N, 3); relevancy: (N,)
    in 0..1; colors: (N, 3) uint8 of the surface; T_world_target: (4, 4) pose of the best grasp
    (origin between the fingertips, +z the approach direction, into the object), None when nothing
    was found or can be grasped, and no_target_reason then says why. metric: True when world units
    are metres. labels (N,): which of `texts` fits each point best; empty means the first for all.
    probability: that the thing is there at all, NaN without calibration. observed: part of the
    region that was seen well enough. not_found_reason: which number decided that nothing was
    found. learning: why the map is younger than its keyframes; empty when it is not. finger_depth:
    of the gripper that was planned for, metres.
    """

    text: str
    presence: Presence
    threshold: float
    hits: tuple[Hit, ...]
    points_world: np.ndarray
    relevancy: np.ndarray
    colors: np.ndarray
    T_world_target: np.ndarray | None
    frame_id: str
    metric: bool
    snapshot_id: int
    snapshot_stamp_ns: int
    texts: tuple[str, ...] = ()
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    grasps: tuple[Grasp, ...] = ()
    no_target_reason: str = ''
    not_found_reason: str = ''
    learning: str = ''
    finger_depth: float = GraspConfig().finger_depth
    probability: float = math.nan
    observed: float = math.nan
    timing: Timing = Timing()

    @property
    def found(self) -> bool:
        """Whether at least one place reaches the threshold."""
        return self.presence == Presence.PRESENT


def in_frame(answer: Answer, T_frame_world: np.ndarray, frame_id: str) -> Answer:
    """The answer with every position and pose in the frame; T_frame_world (4, 4) is rigid."""
    target = answer.T_world_target
    return replace(
        answer, frame_id=frame_id,
        hits=tuple(moved_hit(hit, T_frame_world) for hit in answer.hits),
        grasps=tuple(moved_grasp(grasp, T_frame_world) for grasp in answer.grasps),
        points_world=transform_points(T_frame_world, answer.points_world),
        T_world_target=None if target is None else T_frame_world @ target)


def moved_hit(hit: Hit, T: np.ndarray) -> Hit:
    """The hit after the rigid motion T (4, 4)."""
    return replace(hit, position=T[:3, :3] @ hit.position + T[:3, 3],
                   rotation=T[:3, :3] @ hit.rotation)


def moved_grasp(grasp: Grasp, T: np.ndarray) -> Grasp:
    """The grasp after the rigid motion T (4, 4)."""
    return replace(grasp, T_world_grasp=T @ grasp.T_world_grasp,
                   T_world_pregrasp=T @ grasp.T_world_pregrasp,
                   T_world_gripper=T @ grasp.T_world_gripper)
