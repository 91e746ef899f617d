# SPDX-License-Identifier: Apache-2.0
"""READ FIRST of grasping: points of a hit -> hands -> fingers fit -> they hold -> ranked grasps.

Surfaces are smoothed and what bears the thing is found. Then poses of the hand are tried by the
thousand, all at once (numpy): aimed at points of the hit, closing along their normals or across the
extent, from the allowed directions; those with the hand in the thing are left out at once. What
lies between two gaps for the fingers is gripped when both sides face the fingers within the
friction cone, and neither fingers nor hand meet a point of the map, at the grasp or on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.config import GraspConfig
from lerf_ros.grasping.fingers import CHUNK, Fit, find_bearing, fit_fingers, in_hand, smoothed
from lerf_ros.grasping.judging import Judged, Scene, hits_hand, judge
from lerf_ros.grasping.proposals import Proposals, propose
from lerf_ros.query.answer import Grasp

TOO_WIDE = 'too wide'             # nowhere narrow enough for the gripper, or no two sides face
NO_CLEARANCE = 'no clearance'     # it would fit, were nothing beside, below or above it
TOO_FEW_POINTS = 'too few points'
NOT_METRIC = 'map not metric'     # said by whoever knows: a map without a metre is not grasped in

SAME_DISTANCE = 0.01              # metres and cosine within which two grasps are one
SAME_COSINE = np.cos(np.radians(30))
BEST_PART = 0.4                   # of the best relevancy that is as good as it: the rest is noise
BEST_SHARE = 0.9                  # quantile of the hit's relevancy that counts as its best
ROUNDS = 3                        # of tries, as many each, until one holds; the last is blind
TELLING = 200                     # points of a thing that tell whether the hand is in it
FAR_VOXEL = 0.01                  # metres: one point at most where no finger comes
LEAST_REACH = 0.003               # metres that fingertips reach beyond a point that they touch
ROUNDING = 1e-6                   # metres
SEED = 0


@dataclass(frozen=True)
class GraspPlan:
    """Grasps, best first, or none and the reason in words (one of the constants above)."""

    grasps: tuple[Grasp, ...]
    reason: str = ''


def plan_grasps(points: np.ndarray, normals: np.ndarray, members: np.ndarray,
                relevancy: np.ndarray, config: GraspConfig) -> GraspPlan:
    """Grasps of a hit in a metric map whose z is up.

    points (N, 3): the whole map, metres. normals (N, 3): unit, outward. members (M,):
    indices of the hit's points. relevancy (N,) of all points, 0..1. The same on every call.
    """
    if len(members) < config.min_points:
        return GraspPlan((), TOO_FEW_POINTS)
    member = np.zeros(len(points), bool)
    member[members] = True
    best = max(BEST_PART * float(np.quantile(relevancy[members], BEST_SHARE)), 1e-6)
    near = near_points(points, points[members], config)
    bearing = find_bearing(points[near], normals[near], member[near])
    # Fingers keep off the bearing plane as a whole; its noisy points need not be met one by one.
    near = near[member[near] | (points[near, 2] > bearing.height + bearing.noise)]
    surface, outward = smoothed(points[near].astype(np.float64), normals[near].astype(np.float64))
    hit = surface[member[near]]
    low, high = np.percentile(hit, (2, 98), axis=0)
    # Near the origin single precision is exact to micrometres, wherever the map frame is.
    origin = np.array([*low[:2], bearing.height])
    scene = Scene(surface - origin, outward, member[near],
                  np.clip(relevancy[near] / best, 0, 1), (low + high) / 2 - origin)
    rng = np.random.default_rng(SEED)
    for k in range(ROUNDS):
        tries = propose(scene.points[scene.member], scene.normals[scene.member], config, rng)
        tries = worth_trying(above_bearing(tries, config), scene, config, rng)
        grasps = search(scene, tries, origin, config, blind=k == ROUNDS - 1)
        if grasps:
            return GraspPlan(grasps)
    alone = search(scene.part(scene.member), tries, origin, config, blind=True)
    return GraspPlan((), NO_CLEARANCE if alone else TOO_WIDE)


def above_bearing(tries: Proposals, config: GraspConfig) -> Proposals:
    """The tries with fingertips drawn back to keep off the plane z = 0; those that would end above
    what they aim at are left out."""
    z = tries.rotations[:, 2, 2]
    tilted = np.abs(tries.rotations[:, 2, 0]) * config.finger_width / 2
    room = (tries.anchors[:, 2] - tilted - config.clearance) / np.maximum(-z, 1e-3)
    kept = room > LEAST_REACH
    return replace(tries, reaches=np.minimum(tries.reaches, room))[kept]


def worth_trying(tries: Proposals, scene: Scene, config: GraspConfig,
                 rng: np.random.Generator) -> Proposals:
    """The first `config.samples` of the tries whose hand keeps off the thing itself, some points of
    which tell: most that aim at the lower part of what is higher than fingers are long do not."""
    some = rng.permutation(scene.points[scene.member])[:TELLING]
    free = [part[~hits_hand(in_hand(some, tries[part]), config)]
            for part in np.array_split(np.arange(len(tries)), max(1, len(tries) // CHUNK))]
    return tries[np.concatenate(free)[:config.samples]]


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
           config: GraspConfig, blind: bool) -> tuple[Grasp, ...]:
    """The tries that fit and hold, ranked; origin (3,): of the scene in the world; blind: see
    judge."""
    fit = fit_fingers(scene.points, tries, config)
    fits = (fit.room > 0) & (fit.width <= config.max_opening - 2 * config.clearance)
    tries = centred(tries[fits], Fit(fit.low[fits], fit.high[fits], fit.room[fits]))
    fit = Fit(fit.low[fits], fit.high[fits], fit.room[fits])
    tries = off_bearing(tries, fit, config)
    if not len(tries):
        return ()
    judged = judge(scene, tries, fit, config, blind)
    score = config.semantic_weight * judged.semantic + config.geometric_weight * judged.geometric
    score /= max(config.semantic_weight + config.geometric_weight, 1e-9)
    holds = judged.holds & keeps_off(tries, fit, config)
    order = np.flatnonzero(holds)
    order = order[np.argsort(-score[order], kind='stable')]
    return tuple(as_grasp(i, tries, fit, judged, score, origin, config)
                 for i in best_free(scene.points, tries, order, config))


def best_free(points: np.ndarray, tries: Proposals, order: np.ndarray,
              config: GraspConfig) -> list[int]:
    """The first of the order whose hand meets no point, all different; no more are looked at than
    that takes."""
    kept: list[int] = []
    for block in np.array_split(order, max(1, len(order) // CHUNK)):
        free = block[~hits_hand(in_hand(points, tries[block]), config)]
        kept = different(tries, [*kept, *free.tolist()], config.max_candidates)
        if len(kept) == config.max_candidates:
            break
    return kept


def off_bearing(tries: Proposals, fit: Fit, config: GraspConfig) -> Proposals:
    """The tries drawn back until both fingers keep off the plane z = 0, however they lean."""
    outer = fit.width / 2 + config.clearance + config.finger_thickness
    missing = np.abs(tries.rotations[:, 2, 1]) * outer - above_plane(tries, config)
    back = np.maximum(missing, 0) / np.maximum(-tries.rotations[:, 2, 2], 1e-3)
    return replace(tries, reaches=tries.reaches - back)


def above_plane(tries: Proposals, config: GraspConfig) -> np.ndarray:
    """Metres (C,) that a finger may be lower than the middle of the fingertips."""
    x, z = tries.rotations[:, 2, 0], tries.rotations[:, 2, 2]
    tips = tries.anchors[:, 2] + tries.reaches * z
    return tips - np.abs(x) * config.finger_width / 2 - config.clearance


def keeps_off(tries: Proposals, fit: Fit, config: GraspConfig) -> np.ndarray:
    """Whether (C,) open fingers and hand keep off the plane and the tips reach what they aim at."""
    x, y, z = np.moveaxis(tries.rotations[:, 2], 1, 0)
    outer = opening(tries, fit, config) / 2 + config.finger_thickness
    fingers = above_plane(tries, config) - np.abs(y) * outer
    hand = tries.anchors[:, 2] + (tries.reaches - config.finger_depth) * z \
        - np.abs([x, y]).T @ config.hand_box[:2] / 2 - config.clearance
    return (np.minimum(fingers, hand) >= -ROUNDING) & (tries.reaches > LEAST_REACH)


def opening(tries: Proposals, fit: Fit, config: GraspConfig) -> np.ndarray:
    """How wide (C,) the fingers come: wider than what is between them where there is room."""
    lean = np.maximum(np.abs(tries.rotations[:, 2, 1]), 1e-6)
    plane = above_plane(tries, config) / lean - config.finger_thickness - fit.width / 2
    room = np.minimum(fit.room - config.finger_thickness - config.clearance, plane)
    spare = np.clip(room, config.clearance, config.spare_opening)
    return np.minimum(fit.width + 2 * spare, config.max_opening)


def centred(tries: Proposals, fit: Fit) -> Proposals:
    """The tries moved along the closing line, so that both fingers touch at the same time."""
    middle = (fit.low + fit.high) / 2
    return replace(tries, anchors=tries.anchors + middle[:, None] * tries.rotations[:, :, 1])


def different(tries: Proposals, order: Sequence[int], count: int) -> list[int]:
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
            kept.append(i)
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
    return Grasp(T, T @ back, T @ tcp_to_gripper(config),
                 float(opening(tries, fit, config)[i]), float(score[i]), float(judged.semantic[i]),
                 float(judged.geometric[i]))


def tcp_to_gripper(config: GraspConfig) -> np.ndarray:
    """The gripper's own frame in the grasp frame (4, 4)."""
    T = np.eye(4)
    T[:3, 3] = config.tcp_to_gripper[:3]
    T[:3, :3] = Rotation.from_quat(config.tcp_to_gripper[3:]).as_matrix()
    return T
