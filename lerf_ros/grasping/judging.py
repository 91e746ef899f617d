# SPDX-License-Identifier: Apache-2.0
"""Which of the hands that fit would hold, and how well: contacts, the hand's own room, relevancy.

The semantic score and the weights are LERF-TOGO's (CoRL 2023); the geometric score stands in for
the network that it takes its grasps from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.config import GraspConfig
from lerf_ros.grasping.fingers import Fit, in_hand, regions
from lerf_ros.grasping.proposals import Proposals

PATCH = 0.007          # metres behind the outermost point within which the surface is touched
FACING = 0.3           # cosine from which a point of the patch belongs to the side that is touched
SHARPNESS = 4          # power of the cosine by which points of a patch count
SHOWN = 4              # such points that a side needs to count as seen
EDGE = 0.65            # mean cosine with the way back to the hand of an edge like that
BELOW_EDGE = 0.01      # metres below a fingertip where the thing may not go on: that is no edge
BLUR = np.radians(10)   # by which an edge's normals may be off, where that alone leaves a grasp
MIN_BETWEEN = 6        # points between the fingers
MIN_SHARE = 0.35       # of them that belong to the hit: the rest is another object
UNSEEN = 0.0           # score of a side that no point shows: it holds, but what is seen is better
# Parts of the geometric score, one in all: see geometric_score.
FACE_SHARE, LEVER_SHARE, DEEP_SHARE, ROOM_SHARE, DOWN_SHARE = 0.32, 0.17, 0.09, 0.2, 0.22
LEVER = 0.06           # metres beside the middle at which a grasp is worth 1/e
ENGAGED = 0.02         # metres of the object along the fingers that are enough


@dataclass(frozen=True)
class Scene:
    """What hands are judged against. points, normals (P, 3); member (P,) whether a point is the
    hit's; relevancy (P,), 1 for the best of the hit; middle (3,) of the hit."""

    points: np.ndarray
    normals: np.ndarray
    member: np.ndarray
    relevancy: np.ndarray
    middle: np.ndarray

    def part(self, keep: np.ndarray) -> Scene:
        """Of some points, by index or mask."""
        return Scene(self.points[keep], self.normals[keep], self.member[keep],
                     self.relevancy[keep], self.middle)


@dataclass(frozen=True)
class Judged:
    """holds (C,): whether both contacts are good. semantic, geometric (C,) 0..1."""

    holds: np.ndarray
    semantic: np.ndarray
    geometric: np.ndarray


def judge(scene: Scene, tries: Proposals, fit: Fit, config: GraspConfig,
          blind: bool = False) -> Judged:
    """Judges C tries whose fingers fit; they are centred between what the fingers touch.

    One side may never have been seen, and both where `blind`: sides of thin things show no points.
    """
    holds, out = np.zeros(len(tries), bool), np.zeros((2, len(tries)))
    reach = float(np.linalg.norm([config.finger_width / 2, config.max_opening / 2,
                                  config.finger_depth]))
    for part, near in regions(scene.points, tries, reach):
        holds[part], out[0, part], out[1, part] = _judge(
            scene.part(near), tries[part], fit.width[part], fit.room[part], config, blind)
    return Judged(holds, *out)


def _judge(scene: Scene, tries: Proposals, width: np.ndarray, room: np.ndarray,
           config: GraspConfig, blind: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    local = in_hand(scene.points, tries)
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    half = width[:, None] / 2
    between = (np.abs(x) <= config.finger_width / 2) & (np.abs(y) <= half + 1e-4)
    between &= (z <= 0) & (z >= -config.finger_depth)
    count = between.sum(1)
    share = (between & scene.member).sum(1) / np.maximum(count, 1)
    lean = tries.rotations[:, :, 1].astype(np.float32) @ scene.normals.T.astype(np.float32)
    to_hand = -tries.rotations[:, :, 2].astype(np.float32) @ scene.normals.T.astype(np.float32)
    right = contact(lean, to_hand, between & (y >= half - PATCH))
    left = contact(-lean, to_hand, between & (y <= PATCH - half))
    beyond = scene.member & (np.abs(x) <= config.finger_width / 2) & (z > 0) & (z <= BELOW_EDGE)
    outer = half + config.finger_thickness
    right[(beyond & (y >= half) & (y <= outer)).any(1) & np.isnan(right)] = 0.0
    left[(beyond & (-y >= half) & (-y <= outer)).any(1) & np.isnan(left)] = 0.0
    least = np.cos(np.arctan(config.friction) + (BLUR if blind else 0.0))
    holds = (count >= MIN_BETWEEN) & (share >= MIN_SHARE)
    holds &= (right >= least) | np.isnan(right)
    holds &= (left >= least) | np.isnan(left)
    holds &= blind | ~(np.isnan(right) & np.isnan(left))
    engaged = -np.where(between, z, 0.0).min(1, initial=0.0)
    geometric = geometric_score(scene, tries, right, left, engaged, room, config)
    return holds, masked_median(scene.relevancy, between), geometric


def geometric_score(scene: Scene, tries: Proposals, right: np.ndarray, left: np.ndarray,
                    engaged: np.ndarray, room: np.ndarray, config: GraspConfig) -> np.ndarray:
    """0..1 (C,): contacts that face each other, near the middle, deep between the fingers, with
    room for an error, and rather from above."""
    least = np.cos(np.arctan(config.friction))
    faces = [np.where(np.isnan(side), UNSEEN, (side - least) / (1 - least))
             for side in (right, left)]
    tips = tries.anchors + tries.reaches[:, None] * tries.rotations[:, :, 2]
    lever = np.linalg.norm((tips - scene.middle)[:, :2], axis=1)
    spare = np.clip((room - config.finger_thickness) / (2 * config.spare_opening + 1e-9), 0, 1)
    down = np.clip(-tries.rotations[:, 2, 2], 0, 1)
    score = (FACE_SHARE * np.minimum(*faces) + LEVER_SHARE * np.exp(-lever / LEVER)
             + DEEP_SHARE * np.clip(engaged / ENGAGED, 0, 1) + ROOM_SHARE * spare
             + DOWN_SHARE * down)
    return np.clip(score, 0, 1)


def contact(lean: np.ndarray, to_hand: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Mean cosine (C,) between the outward normals of a patch (C, P) and the way out.

    Points that face the finger count most: normals near an edge lean, whatever the side does. NaN
    where the object ends at an edge whose own side was never seen: what is there faces the hand. 0
    where it ends otherwise. lean, to_hand (C, P): cosines with the way out and with the way back to
    the hand.
    """
    row, column = np.nonzero(patch)
    count = len(patch)
    out, back = lean[row, column], to_hand[row, column]
    weight = np.where(out > FACING, out, 0.0) ** SHARPNESS
    total = np.bincount(row, weight, count)
    mean = np.bincount(row, weight * out, count) / np.maximum(total, 1e-9)
    seen = np.bincount(row, minlength=count)
    up = np.bincount(row, back, count) / np.maximum(seen, 1)
    shown = np.bincount(row, out > FACING, count) >= SHOWN
    return np.where(shown, mean, np.where((seen > 0) & (up > EDGE), np.nan, 0.0))


def hits_hand(local: np.ndarray, config: GraspConfig) -> np.ndarray:
    """Whether (C,) a point (C, 3, P) is where the hand is, at the grasp or on the way to it; the
    way is as wide as the fingers need it, too."""
    fingers = config.max_opening / 2 + config.finger_thickness
    half_x = max(config.hand_box[0], config.finger_width) / 2 + config.clearance
    half_y = max(config.hand_box[1] / 2, fingers) + config.clearance
    inside = (np.abs(local[:, 0]) <= half_x) & (np.abs(local[:, 1]) <= half_y)
    inside &= local[:, 2] <= config.clearance - config.finger_depth
    inside &= local[:, 2] >= -config.finger_depth - config.hand_box[2] - config.pregrasp
    return inside.any(1)


def masked_median(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Upper medians (C,) of values (P,) where the masks (C, P) hold; 0 where they hold nowhere."""
    order = np.argsort(values, kind='stable')
    row, rank = np.nonzero(mask[:, order])
    count = mask.sum(1)
    middle = np.cumsum(count) - count + count // 2
    found = values[order][rank[np.minimum(middle, max(len(row) - 1, 0))]] if len(row) else 0.0
    return np.where(count > 0, found, 0.0)
