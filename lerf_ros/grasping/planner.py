# SPDX-License-Identifier: Apache-2.0
"""READ FIRST of grasping: points of a hit -> hands -> fingers fit -> they hold -> ranked grasps.

Poses of the hand are tried by the hundred, all at once (numpy): aimed at points of the hit, closing
along their normals or across the extent, from the allowed directions. What lies between two gaps
for the fingers is gripped when both sides face the fingers within the friction cone, and neither
fingers nor hand meet a point of the map, at the grasp or on the way to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.config import GraspConfig
from lerf_ros.grasping.fingers import Fit, fit_fingers
from lerf_ros.grasping.judging import Judged, Scene, judge
from lerf_ros.grasping.proposals import Proposals, propose
from lerf_ros.query.answer import Grasp

TOO_WIDE = 'too wide'             # nowhere narrow enough for the gripper, or no two sides face
NO_CLEARANCE = 'no clearance'     # it would fit, were nothing beside, below or above it
TOO_FEW_POINTS = 'too few points'
NOT_METRIC = 'map not metric'     # said by whoever knows: a map without a metre is not grasped in

SAME_DISTANCE = 0.01              # metres and cosine within which two grasps are one
SAME_COSINE = np.cos(np.radians(30))
BEST_PART = 0.95                  # of the best relevancy that is as good as it: the rest is noise
BEST_SHARE = 0.9                  # quantile of the hit's relevancy that counts as its best
FAR_VOXEL = 0.01                  # metres: one point at most where no finger comes
LEAST_REACH = 0.003               # metres that fingertips reach beyond a point that they touch
SEED = 0


@dataclass(frozen=True)
class GraspPlan:
    """Grasps, best first, or none and the reason in words (one of the constants above)."""

    grasps: tuple[Grasp, ...]
    reason: str = ''


def plan_grasps(points: np.ndarray, normals: np.ndarray, members: np.ndarray,
                relevancy: np.ndarray, config: GraspConfig) -> GraspPlan:
    """Grasps of a hit in a metric map whose z is up.

    points (N, 3): the whole map, metres, world. normals (N, 3): unit, outward. members (M,):
    indices of the hit's points. relevancy (N,) of all points, 0..1. The same on every call.
    """
    if len(members) < config.min_points:
        return GraspPlan((), TOO_FEW_POINTS)
    hit = np.asarray(points, np.float64)[members]
    tries = propose(hit, np.asarray(normals, np.float64)[members], config,
                    np.random.default_rng(SEED))
    member = np.zeros(len(points), bool)
    member[members] = True
    near = near_points(points, hit, config)
    best = max(BEST_PART * float(np.quantile(relevancy[members], BEST_SHARE)), 1e-6)
    low, high = np.percentile(hit, (2, 98), axis=0)
    scene = Scene(points[near] - low, normals[near], member[near],
                  np.clip(relevancy[near] / best, 0, 1), (high - low) / 2)
    tries = above_support(tries, float(low[2]), config)
    # Near the origin single precision is exact to micrometres, wherever the map frame is.
    tries = replace(tries, anchors=tries.anchors - low)
    grasps = search(scene, tries, low, config)
    if grasps:
        return GraspPlan(grasps)
    m = scene.member
    alone = Scene(scene.points[m], scene.normals[m], m[m], scene.relevancy[m], scene.middle)
    return GraspPlan((), NO_CLEARANCE if search(alone, tries, low, config) else TOO_WIDE)


def above_support(tries: Proposals, height: float, config: GraspConfig) -> Proposals:
    """The tries with fingertips drawn back to the hit's lowest points, where something bears it;
    those that would end above what they aim at are left out."""
    z = tries.rotations[:, 2, 2]
    tilted = np.abs(tries.rotations[:, 2, 0]) * config.finger_width / 2
    room = (tries.anchors[:, 2] - tilted - height - config.clearance) / np.maximum(-z, 1e-3)
    kept = room > LEAST_REACH
    return replace(tries, reaches=np.minimum(tries.reaches, room))[kept]


def near_points(points: np.ndarray, hit: np.ndarray, config: GraspConfig) -> np.ndarray:
    """Indices of the points that a hand at the hit (M, 3) could meet.

    Those that only the hand itself can reach, which is large, are thinned.
    """
    fingers = config.max_opening + config.finger_thickness
    hand = config.finger_depth + config.hand_box[2] + config.pregrasp + config.max_opening
    low, high = hit.min(0), hit.max(0)
    close = ((points >= low - fingers) & (points <= high + fingers)).all(1)
    far = np.flatnonzero(((points >= low - hand) & (points <= high + hand)).all(1) & ~close)
    cells = np.floor((points[far] - low) / FAR_VOXEL).astype(np.int64)
    key = (cells - cells.min(0, initial=0)) @ [1 << 40, 1 << 20, 1]
    return np.concatenate([np.flatnonzero(close), far[np.unique(key, return_index=True)[1]]])


def search(scene: Scene, tries: Proposals, origin: np.ndarray,
           config: GraspConfig) -> tuple[Grasp, ...]:
    """The tries that fit and hold, ranked; origin (3,): of the scene in the world."""
    fit = fit_fingers(scene.points, tries, config)
    fits = (fit.room > 0) & (fit.width <= config.max_opening - 2 * config.clearance)
    tries = centred(tries[fits], Fit(fit.low[fits], fit.high[fits], fit.room[fits]))
    fit = Fit(fit.low[fits], fit.high[fits], fit.room[fits])
    if not len(tries):
        return ()
    judged = judge(scene, tries, fit, config)
    score = config.semantic_weight * judged.semantic + config.geometric_weight * judged.geometric
    score /= max(config.semantic_weight + config.geometric_weight, 1e-9)
    order = np.flatnonzero(judged.holds)
    order = order[np.argsort(-score[order], kind='stable')]
    return tuple(as_grasp(i, tries, fit, judged, score, origin, config)
                 for i in different(tries, order, config.max_candidates))


def centred(tries: Proposals, fit: Fit) -> Proposals:
    """The tries moved along the closing line, so that both fingers touch at the same time."""
    middle = (fit.low + fit.high) / 2
    return replace(tries, anchors=tries.anchors + middle[:, None] * tries.rotations[:, :, 1])


def different(tries: Proposals, order: np.ndarray, count: int) -> list[int]:
    """The first `count` of the order that are not nearly the same; a half turn is the same."""
    kept: list[int] = []
    for i in order:
        a = tries.rotations[i]
        for k in kept:
            b = tries.rotations[k]
            near = np.linalg.norm(tries.anchors[i] - tries.anchors[k]) < SAME_DISTANCE
            if (near and a[:, 2] @ b[:, 2] > SAME_COSINE
                    and abs(a[:, 1] @ b[:, 1]) > SAME_COSINE):
                break
        else:
            kept.append(int(i))
        if len(kept) == count:
            break
    return kept


def as_grasp(i: int, tries: Proposals, fit: Fit, judged: Judged, score: np.ndarray,
             origin: np.ndarray, config: GraspConfig) -> Grasp:
    """Try i as it is handed out."""
    T, back = np.eye(4), np.eye(4)
    T[:3, :3] = tries.rotations[i]
    T[:3, 3] = tries.anchors[i] + tries.reaches[i] * T[:3, 2] + origin
    back[2, 3] = -config.pregrasp
    spare = np.clip(fit.room[i] - config.finger_thickness - config.clearance, config.clearance,
                    config.spare_opening)
    return Grasp(T, T @ back, T @ tcp_to_gripper(config),
                 float(min(fit.width[i] + 2 * spare, config.max_opening)), float(score[i]),
                 float(judged.semantic[i]), float(judged.geometric[i]))


def tcp_to_gripper(config: GraspConfig) -> np.ndarray:
    """The gripper's own frame in the grasp frame (4, 4)."""
    T = np.eye(4)
    T[:3, 3] = config.tcp_to_gripper[:3]
    T[:3, :3] = Rotation.from_quat(config.tcp_to_gripper[3:]).as_matrix()
    return T
