# SPDX-License-Identifier: Apache-2.0
"""What a query returns: immutable, in world coordinates, without ROS."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from lerf_ros.config import GraspConfig
from lerf_ros.geometry.camera import transform_points

NEUTRAL = 0.5   # the relevancy at which a phrase and its strongest negative fit equally well
EVEN = 0.5      # a probability below it: likelier not


class Presence(enum.IntEnum):
    """Whether the thing is there. The values are those of msg/Presence."""

    ABSENT = 0
    PRESENT = 1
    NOT_OBSERVED = 2


class ConfirmingView(NamedTuple):
    """A keyframe, by index, in which a second look saw what was asked for.

    box: where, (x0, y0, x1, y1) in pixels. relevancy: of the crops around it, 0..1.
    """

    keyframe: int
    box: tuple[float, ...]
    relevancy: float


@dataclass(frozen=True)
class Hit:
    """One place where the phrase was found.

    position: (3,) world, centre of the box. rotation: (3, 3), columns are the box axes in the
    world. size: (3,) edge lengths of the box, world units. relevancy: score of the hit, 0..1.
    scale: physical width (world units) at which the phrase matched best. points: number of index
    points in the hit. keyframes: how many keyframes saw a point, median over the points.
    label: the phrase that was found here. probability: 0..1; NaN without a calibration.
    confirmed_by: the second looks at it that fit the phrase, best first. last_keyframe: the newest
    keyframe that saw it, by index, and last_seen_ns: its stamp; -1 and 0 where that is not known.
    rivals: how many words of the encoder's vocabulary fit it better than the phrase does.
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
    confirmed_by: tuple[ConfirmingView, ...] = ()
    last_keyframe: int = -1
    last_seen_ns: int = 0
    rivals: int = 0

    def corners(self) -> np.ndarray:
        """Returns the corners (8, 3), world, of the box; bit 0 of the index is the end in z."""
        signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
        return self.position + (signs * self.size) @ np.asarray(self.rotation).T


@dataclass(frozen=True)
class Grasp:
    """One way to grasp a hit with a parallel gripper, world frame, metres.

    T_world_grasp (4, 4): origin between the fingertips, +z is the approach direction, the fingers
    close along y. T_world_pregrasp: the same, drawn back along -z. T_world_gripper: pose of the
    gripper's own frame at the grasp. opening_width: distance of the fingers before they close.
    The scores are 0..1.
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
    """Seconds that each stage of an answer took."""

    encode: float = 0.0
    search: float = 0.0
    grasp: float = 0.0


@dataclass(frozen=True)
class PhraseAnswer:
    """What is said of one of several phrases that were asked together, as if it was asked alone.

    hits: its own, best first. probability: of the thing being there; NaN without a calibration.
    not_found_reason: the number that decided that it was not found; empty where it was.
    understood: how the phrase was read, such as 'mug, red, on table'. not_understood: why it was
    asked as a whole although it seems to say more; empty where it does not. looks_more_like: words
    that fit its best place better than it does, the best first. best: relevancy of its best place,
    however low; 0 where nothing beats the negatives, and where nobody told.
    """

    text: str
    presence: Presence
    hits: tuple[Hit, ...] = ()
    probability: float = math.nan
    not_found_reason: str = ''
    understood: str = ''
    not_understood: str = ''
    looks_more_like: tuple[str, ...] = ()
    best: float = 0.0

    @property
    def found(self) -> bool:
        """Returns whether at least one place reaches the threshold."""
        return self.presence == Presence.PRESENT


@dataclass(frozen=True)
class Answer:
    """Ranked hits and the relevancy of every index point.

    presence: PRESENT when the best hit reaches `threshold`. points_world: (N, 3). relevancy: (N,)
    in 0..1. colors: (N, 3) uint8 RGB of the surface. T_world_target: (4, 4) pose of the best grasp
    (see Grasp); None when nothing was found or can be grasped, and no_target_reason says why.
    metric: whether world units are metres. labels (N,): index of the text that fits each point
    best; empty means the first text everywhere. hit_numbers (N,): which of the hits, from 1, each
    point is part of, 0 for none; empty where that is not known. probability: of the thing being
    there at all; NaN without a calibration. observed: fraction of the region that was seen well
    enough. not_found_reason: the number that decided that nothing was found. learning: why the map
    lags behind its keyframes; empty when it does not. finger_depth: finger length of the gripper
    that grasps were planned for, metres. phrases: each phrase's own answer; hits holds those of
    all, presence and probability are those of the surest. doubt: why a phrase may not have been
    understood; empty where there is no doubt. too_coarse: what is mapped too coarsely to say that a
    thing is absent; empty where nothing is. T_world_stand_off (4, 4): where a base stands before
    the best hit, x ahead; None where that was not asked for, or stand_off_note says why.
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
    hit_numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    grasps: tuple[Grasp, ...] = ()
    no_target_reason: str = ''
    not_found_reason: str = ''
    learning: str = ''
    finger_depth: float = GraspConfig().finger_depth
    probability: float = math.nan
    observed: float = math.nan
    timing: Timing = Timing()
    phrases: tuple[PhraseAnswer, ...] = ()
    doubt: str = ''
    too_coarse: str = ''
    T_world_stand_off: np.ndarray | None = None
    stand_off_note: str = ''

    @property
    def found(self) -> bool:
        """Returns whether at least one place reaches the threshold."""
        return self.presence == Presence.PRESENT


def surest_presence(phrases: Sequence[PhraseAnswer]) -> Presence:
    """Returns PRESENT if any of the phrases was found, ABSENT only if none may be there."""
    given = {phrase.presence for phrase in phrases}
    return next(presence for presence in (
        Presence.PRESENT, Presence.NOT_OBSERVED, Presence.ABSENT) if presence in given)


def dated(answer: Answer, stamp_ns: Callable[[int], int]) -> Answer:
    """Returns the answer with the time when each hit was last seen.

    stamp_ns: of a keyframe, by index; 0 where that is not known.
    """
    def seen(hit: Hit) -> Hit:
        return hit if hit.last_keyframe < 0 else replace(
            hit, last_seen_ns=stamp_ns(hit.last_keyframe))

    return replace(answer, hits=tuple(map(seen, answer.hits)), phrases=tuple(
        replace(phrase, hits=tuple(map(seen, phrase.hits))) for phrase in answer.phrases))


def in_frame(answer: Answer, T_frame_world: np.ndarray, frame_id: str) -> Answer:
    """Returns the answer in another frame; T_frame_world (4, 4) must be rigid."""
    target, stand_off = answer.T_world_target, answer.T_world_stand_off

    def moved(hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
        return tuple(transform_hit(hit, T_frame_world) for hit in hits)

    return replace(
        answer, frame_id=frame_id, hits=moved(answer.hits),
        phrases=tuple(replace(phrase, hits=moved(phrase.hits)) for phrase in answer.phrases),
        grasps=tuple(transform_grasp(grasp, T_frame_world) for grasp in answer.grasps),
        points_world=transform_points(T_frame_world, answer.points_world),
        T_world_target=None if target is None else T_frame_world @ target,
        T_world_stand_off=None if stand_off is None else T_frame_world @ stand_off)


def transform_hit(hit: Hit, T: np.ndarray) -> Hit:
    """Returns the hit after the rigid motion T (4, 4)."""
    return replace(hit, position=T[:3, :3] @ hit.position + T[:3, 3],
                   rotation=T[:3, :3] @ hit.rotation)


def transform_grasp(grasp: Grasp, T: np.ndarray) -> Grasp:
    """Returns the grasp after the rigid motion T (4, 4)."""
    return replace(grasp, T_world_grasp=T @ grasp.T_world_grasp,
                   T_world_pregrasp=T @ grasp.T_world_pregrasp,
                   T_world_gripper=T @ grasp.T_world_gripper)
