# SPDX-License-Identifier: Apache-2.0
"""READ FIRST of grasping: points of a hit -> proposals -> they fit -> they hold -> ranked grasps.

The surface is smoothed, and the support of the object is found. Then thousands of hand poses are
tried at once in numpy. They aim at points of the hit, close along normals or across the extent,
and approach from the allowed directions. Whatever lies between two gaps for the fingers can be
gripped if both sides face the fingers within the friction cone, and if neither fingers nor hand
meet a point of the map, at the grasp or on the way to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.config import GraspConfig
from lerf_ros.grasping.contacts import (
    CHUNK,
    FingerFit,
    GraspScores,
    fit_fingers,
    hits_hand,
    in_hand,
    score_proposals,
)
from lerf_ros.grasping.proposals import SHAKES, Proposals, propose, shaken
from lerf_ros.grasping.surface import LocalSurface, find_support, near_points, smoothed
from lerf_ros.query.answer import Grasp

TOO_WIDE = 'too wide'             # nowhere narrow enough for the gripper, or no two facing sides
NO_CLEARANCE = 'no clearance'     # it would fit without the points beside, below or above it
TOO_FEW_POINTS = 'too few points'
NOT_METRIC = 'map not metric'     # set by the caller: grasps need a map in metres

SAME_DISTANCE = 0.01              # metres, and cosine, within which two grasps are the same
SAME_COSINE = np.cos(np.radians(30))
SATURATION = 0.4                  # relevancies above this fraction of the best count as equal
BEST_QUANTILE = 0.9               # quantile of the relevancy of the hit that counts as its best
ROUNDS = 3                        # of proposals until one holds; the last round is blind
SAMPLE_POINTS = 200               # points of an object that show whether the hand is inside of it
MIN_REACH = 0.003                 # metres that fingertips reach beyond a point that they touch
CONTENDERS = 32                   # different grasps whose poses nearby are tried, too
ROUNDING = 1e-6                   # metres
SEED = 0


@dataclass(frozen=True)
class GraspPlan:
    """Grasps, best first; without grasps the reason, which is one of the constants above."""

    grasps: tuple[Grasp, ...]
    reason: str = ''


def plan_grasps(points: np.ndarray, normals: np.ndarray, members: np.ndarray,
                relevancy: np.ndarray, config: GraspConfig) -> GraspPlan:
    """Plans grasps of a hit in a metric map whose z axis points up.

    points: (N, 3) of the whole map, metres. normals: (N, 3) unit, outward. members: (M,) indices of
    the points of the hit. relevancy: (N,) of all points, 0..1. Every call gives the same result.
    """
    if len(members) < config.min_points:
        return GraspPlan((), TOO_FEW_POINTS)
    member = np.zeros(len(points), bool)
    member[members] = True
    best = max(SATURATION * float(np.quantile(relevancy[members], BEST_QUANTILE)), 1e-6)
    near = near_points(points, points[members], config)
    support = find_support(points[near], normals[near], member[near])
    # Fingers keep off the plane of the support, so its noisy points are dropped.
    near = near[member[near] | (points[near, 2] > support.height + support.noise)]
    smooth, outward = smoothed(points[near].astype(np.float64), normals[near].astype(np.float64))
    low, high = np.percentile(smooth[member[near]], (2, 98), axis=0)
    # Near this origin single precision is exact to micrometres, wherever the map frame is.
    origin = np.array([*low[:2], support.height])
    surface = LocalSurface(smooth - origin, outward, member[near],
                           np.clip(relevancy[near] / best, 0, 1), (low + high) / 2 - origin)
    hit, rng = surface.part(surface.member), np.random.default_rng(SEED)
    for k in range(ROUNDS):
        proposals = propose(hit.points, hit.normals, config, rng)
        proposals = worth_trying(above_support(proposals, config), surface, config, rng)
        grasps = find_grasps(surface, proposals, origin, config, blind=k == ROUNDS - 1)
        if grasps:
            return GraspPlan(grasps)
    alone = find_grasps(hit, proposals, origin, config, blind=False)
    return GraspPlan((), NO_CLEARANCE if alone else TOO_WIDE)


def above_support(proposals: Proposals, config: GraspConfig) -> Proposals:
    """Draws fingertips back to keep off the plane z = 0.

    Proposals that would then end above what they aim at are dropped.
    """
    z = proposals.rotations[:, 2, 2]
    tilted = np.abs(proposals.rotations[:, 2, 0]) * config.finger_width / 2
    room = (proposals.anchors[:, 2] - tilted - config.clearance) / np.maximum(-z, 1e-3)
    kept = room > MIN_REACH
    return replace(proposals, reaches=np.minimum(proposals.reaches, room))[kept]


def worth_trying(proposals: Proposals, surface: LocalSurface, config: GraspConfig,
                 rng: np.random.Generator) -> Proposals:
    """Returns the first `config.samples` proposals whose hand keeps off the object itself.

    A sample of its points decides. Most proposals fail that aim at the lower part of an object that
    is higher than the fingers are long.
    """
    some = rng.permutation(surface.points[surface.member])[:SAMPLE_POINTS]
    free = [part[~hits_hand(in_hand(some, proposals[part]), config)]
            for part in np.array_split(np.arange(len(proposals)), max(1, len(proposals) // CHUNK))]
    return proposals[np.concatenate(free)[:config.samples]]


def find_grasps(surface: LocalSurface, proposals: Proposals, origin: np.ndarray,
           config: GraspConfig, blind: bool) -> tuple[Grasp, ...]:
    """Returns the proposals that fit and hold as grasps, best first.

    origin: (3,) of the surface in the world. blind: see score_proposals.
    """
    fit = fit_fingers(surface.points, proposals, config)
    fits = (fit.room > 0) & (fit.width <= config.max_opening - 2 * config.clearance)
    proposals = centred(proposals[fits], FingerFit(fit.low[fits], fit.high[fits], fit.room[fits]))
    fit = FingerFit(fit.low[fits], fit.high[fits], fit.room[fits])
    proposals = off_support(proposals, fit, config)
    if not len(proposals):
        return ()
    scores = score_proposals(surface, proposals, fit, config, blind)
    order = np.flatnonzero(scores.holds & keeps_off(proposals, fit, config))
    order = order[np.argsort(-weighted(scores, config)[order], kind='stable')]
    kept = np.array(best_free(surface.points, proposals, order, config), int)
    if not len(kept):
        return ()
    proposals = proposals[kept]
    fit = FingerFit(fit.low[kept], fit.high[kept], fit.room[kept])
    scores = expected(surface, proposals, scores[kept], config, blind)
    score = weighted(scores, config)
    best = np.argsort(-score, kind='stable')[:config.max_candidates]
    return tuple(as_grasp(i, proposals, fit, scores, score, origin, config) for i in best)


def weighted(scores: GraspScores, config: GraspConfig) -> np.ndarray:
    """Returns the weighted mean (C,) of the semantic and geometric scores."""
    score = config.semantic_weight * scores.semantic + config.geometric_weight * scores.geometric
    return score / max(config.semantic_weight + config.geometric_weight, 1e-9)


def expected(surface: LocalSurface, proposals: Proposals, scores: GraspScores,
             config: GraspConfig, blind: bool) -> GraspScores:
    """Returns the scores (C,) with the mean geometric score of poses near each proposal.

    A pose that does not fit or hold counts as 0, so a grasp that a small error of the map would
    undo comes last.
    """
    nearby = shaken(proposals)
    fit = fit_fingers(surface.points, nearby, config)
    fits = (fit.room > 0) & (fit.width <= config.max_opening - 2 * config.clearance)
    fit = FingerFit(fit.low[fits], fit.high[fits], fit.room[fits])
    near = score_proposals(surface, centred(nearby[fits], fit), fit, config, blind)
    found = np.zeros(len(nearby))
    found[fits] = near.geometric * near.holds
    total = found.reshape(len(proposals), -1).sum(1) + scores.geometric
    return replace(scores, geometric=total / (1 + len(SHAKES)))


def best_free(points: np.ndarray, proposals: Proposals, order: np.ndarray,
              config: GraspConfig) -> list[int]:
    """Returns the first proposals of the order that differ and whose hand meets no point.

    It stops as soon as there are CONTENDERS, or the `config.max_candidates` if these are more.
    """
    kept: list[int] = []
    count = max(CONTENDERS, config.max_candidates)
    for block in np.array_split(order, max(1, len(order) // CHUNK)):
        free = block[~hits_hand(in_hand(points, proposals[block]), config)]
        kept = different(proposals, [*kept, *free.tolist()], count)
        if len(kept) == count:
            break
    return kept


def off_support(proposals: Proposals, fit: FingerFit, config: GraspConfig) -> Proposals:
    """Draws proposals back until both fingers keep off the plane z = 0, however they lean."""
    outer = fit.width / 2 + config.clearance + config.finger_thickness
    missing = np.abs(proposals.rotations[:, 2, 1]) * outer - above_plane(proposals, config)
    back = np.maximum(missing, 0) / np.maximum(-proposals.rotations[:, 2, 2], 1e-3)
    return replace(proposals, reaches=proposals.reaches - back)


def above_plane(proposals: Proposals, config: GraspConfig) -> np.ndarray:
    """Returns how far (C,) a finger may be lower than the middle of the fingertips, metres."""
    x, z = proposals.rotations[:, 2, 0], proposals.rotations[:, 2, 2]
    tips = proposals.anchors[:, 2] + proposals.reaches * z
    return tips - np.abs(x) * config.finger_width / 2 - config.clearance


def keeps_off(proposals: Proposals, fit: FingerFit, config: GraspConfig) -> np.ndarray:
    """Returns whether (C,) open fingers and hand keep off the plane, and tips reach the object."""
    x, y, z = np.moveaxis(proposals.rotations[:, 2], 1, 0)
    outer = opening(proposals, fit, config) / 2 + config.finger_thickness
    fingers = above_plane(proposals, config) - np.abs(y) * outer
    hand = proposals.anchors[:, 2] + (proposals.reaches - config.finger_depth) * z \
        - np.abs([x, y]).T @ config.hand_box[:2] / 2 - config.clearance
    return (np.minimum(fingers, hand) >= -ROUNDING) & (proposals.reaches > MIN_REACH)


def opening(proposals: Proposals, fit: FingerFit, config: GraspConfig) -> np.ndarray:
    """Returns the opening (C,) of the approaching fingers: with some spare where there is room."""
    lean = np.maximum(np.abs(proposals.rotations[:, 2, 1]), 1e-6)
    plane = above_plane(proposals, config) / lean - config.finger_thickness - fit.width / 2
    room = np.minimum(fit.room - config.finger_thickness - config.clearance, plane)
    spare = np.clip(room, config.clearance, config.spare_opening)
    return np.minimum(fit.width + 2 * spare, config.max_opening)


def centred(proposals: Proposals, fit: FingerFit) -> Proposals:
    """Moves proposals along the closing line, so that both fingers touch at the same time."""
    middle = (fit.low + fit.high) / 2
    moved = proposals.anchors + middle[:, None] * proposals.rotations[:, :, 1]
    return replace(proposals, anchors=moved)


def different(proposals: Proposals, order: Sequence[int], count: int) -> list[int]:
    """Returns the first `count` of the order that differ; half a turn makes no difference."""
    kept: list[int] = []
    anchors, axes = proposals.anchors, proposals.rotations
    for i in order:
        near = np.linalg.norm(anchors[kept] - anchors[i], axis=1) < SAME_DISTANCE
        alike = axes[kept, :, 2] @ axes[i, :, 2] > SAME_COSINE
        alike &= np.abs(axes[kept, :, 1] @ axes[i, :, 1]) > SAME_COSINE
        if not (near & alike).any():
            kept.append(i)
        if len(kept) == count:
            break
    return kept


def as_grasp(i: int, proposals: Proposals, fit: FingerFit, scores: GraspScores, score: np.ndarray,
             origin: np.ndarray, config: GraspConfig) -> Grasp:
    """Returns proposal i as a grasp in the world."""
    T, back = np.eye(4), np.eye(4)
    T[:3, :3] = proposals.rotations[i]
    T[:3, 3] = proposals.anchors[i] + proposals.reaches[i] * T[:3, 2] + origin
    back[2, 3] = -config.pregrasp
    return Grasp(T, T @ back, T @ tcp_to_gripper(config),
                 float(opening(proposals, fit, config)[i]), float(score[i]),
                 float(scores.semantic[i]), float(scores.geometric[i]))


def tcp_to_gripper(config: GraspConfig) -> np.ndarray:
    """Returns the pose (4, 4) of the gripper's own frame in the grasp frame."""
    T = np.eye(4)
    T[:3, 3] = config.tcp_to_gripper[:3]
    T[:3, :3] = Rotation.from_quat(config.tcp_to_gripper[3:]).as_matrix()
    return T
