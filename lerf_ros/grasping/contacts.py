# SPDX-License-Identifier: Apache-2.0
"""Which proposals fit and hold: room for the fingers, contacts, the hand's own room, relevancy.

The semantic score and the weights of the scores are LERF-TOGO's (CoRL 2023). The geometric score
replaces the network from which LERF-TOGO takes its grasps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lerf_ros.config import GraspConfig
from lerf_ros.grasping.proposals import Proposals
from lerf_ros.grasping.surface import LocalSurface

BIN = 0.002            # metres: resolution of free room along the closing line
CHUNK = 128            # proposals in hand coordinates at once: what fits a processor's cache
REGION = 0.05          # metres: proposals that aim into the same cube are processed together
PATCH = 0.007          # metres behind the outermost point within which the surface is touched
FACING = 0.3           # cosine from which on a point of the patch belongs to the touched side
SHARPNESS = 4          # power of the cosine by which points of a patch are weighted
SHOWN = 2              # so many such points make a side count as seen
EDGE = 0.65            # mean cosine with the way back to the hand at an edge of an unseen side
BELOW_EDGE = 0.01      # metres below a fingertip; where the object goes on there, it is no edge
BLUR = np.radians(10)  # error of normals at edges, which a blind search allows for
MIN_BETWEEN = 6        # points between the fingers
MIN_SHARE = 0.35       # of them that belong to the hit; the rest is another object
UNSEEN = 0.0           # score of a side that no point shows: it holds, but seen sides are better
# Weights of the geometric score, one in total: see geometric_score.
FACE_WEIGHT, LEVER_WEIGHT, DEEP_WEIGHT, ROOM_WEIGHT, DOWN_WEIGHT = 0.32, 0.17, 0.09, 0.2, 0.22
LEVER = 0.06           # metres from the middle at which a grasp is worth 1/e
ENGAGED = 0.02         # metres of the object along the fingers that are enough


@dataclass(frozen=True)
class FingerFit:
    """How C proposals fit. All are (C,) in metres.

    low, high: ends of what is between the fingers, along y from the anchor. room: free room on the
    tighter side.
    """

    low: np.ndarray
    high: np.ndarray
    room: np.ndarray

    @property
    def width(self) -> np.ndarray:
        """Returns the width (C,) of what is between the fingers, metres."""
        return self.high - self.low


def in_hand(points: np.ndarray, proposals: Proposals) -> np.ndarray:
    """Returns points (P, 3) in the coordinates of each hand, (C, 3, P) float32, rows x, y, z."""
    tips = proposals.anchors + proposals.reaches[:, None] * proposals.rotations[:, :, 2]
    turned = proposals.rotations.transpose(0, 2, 1)
    offset = np.einsum('cij,cj->ci', turned, tips)
    # One large product of homogeneous points is far faster than many small ones.
    rows = np.concatenate([turned, -offset[:, :, None]], 2).astype(np.float32).reshape(-1, 4)
    behind = np.ones((4, len(points)), np.float32)
    behind[:3] = points.T
    return (rows @ behind).reshape(len(proposals), 3, len(points))


def regions(points: np.ndarray, proposals: Proposals,
            reach: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields indices of at most CHUNK proposals that aim at about the same place, and of points.

    These are the points (P, 3) within `reach` metres of what the proposals aim at.
    """
    cell = np.floor(proposals.anchors / REGION).astype(np.int64)
    cubes, cube = np.unique(cell, axis=0, return_inverse=True)
    for k, corner in enumerate(cubes):
        aimed = np.flatnonzero(cube.ravel() == k)
        middle = (corner + 0.5) * REGION
        near = np.flatnonzero((np.abs(points - middle) <= REGION / 2 + reach).all(1))
        for part in np.array_split(aimed, max(1, len(aimed) // CHUNK)):
            yield part, near


def fit_fingers(points: np.ndarray, proposals: Proposals, config: GraspConfig) -> FingerFit:
    """Finds what lies between two gaps into which the fingers fit, for each proposal.

    A gap must be free along the whole length of the fingers. So the wall of a cup, a handle and a
    whole object are all found, however much of it was seen.
    """
    span = config.max_opening + config.finger_thickness + 2 * config.clearance
    reach = float(np.linalg.norm([config.finger_width, span, config.finger_depth]))
    out = np.zeros((3, len(proposals)))
    for part, near in regions(points, proposals, reach):
        fit = _fit(in_hand(points[near], proposals[part]), config)
        out[:, part] = fit.low, fit.high, fit.room
    return FingerFit(*out)


def _fit(local: np.ndarray, config: GraspConfig) -> FingerFit:
    reach = config.max_opening + config.finger_thickness + 2 * config.clearance
    half = int(np.ceil(reach / BIN))
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    swept = (np.abs(x) <= config.finger_width / 2 + config.clearance) & (np.abs(y) < half * BIN)
    swept &= (z <= config.clearance) & (z >= -config.finger_depth)
    row, column = np.nonzero(swept)
    at = y[row, column]
    cell = np.floor(at / BIN).astype(np.int64) + half
    count = len(local)
    taken = np.zeros((count, 2 * half), bool)
    taken[row, cell] = True
    taken[:, half - 1:half + 1] = True            # the anchor itself
    needed = int(np.ceil((config.finger_thickness + 2 * config.clearance) / BIN))
    right, right_room = _next_gap(taken[:, half:], needed)
    left, left_room = _next_gap(taken[:, half - 1::-1], needed)
    low, high = half - 1 - left, half + right      # bins of the outermost points
    # The exact ends are those of the points in the outermost bins.
    inside = (cell >= low[row]) & (cell <= high[row])
    left_end, right_end = _ends(row[inside], at[inside], count)
    return FingerFit(left_end, right_end, np.minimum(left_room, right_room) * BIN)


def _ends(row: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    """Returns the lowest and the highest value (2, count) of each row, 0 included.

    at: (K,) values. row: (K,) their rows, ascending, because reducing runs is far faster than
    reducing by index.
    """
    ends = np.zeros((2, count))
    if len(row):
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        ends[0, row[starts]] = np.minimum(np.minimum.reduceat(at, starts), 0)
        ends[1, row[starts]] = np.maximum(np.maximum.reduceat(at, starts), 0)
    return ends


def _next_gap(taken: np.ndarray, needed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the last taken bin before `needed` free ones, and the number of free bins there.

    taken: (C, bins), outward from the anchor. The number is 0 without such a gap within reach.
    """
    count, bins = taken.shape
    index = np.arange(bins)
    # The next taken bin at or after each bin; `bins` where there is none.
    upcoming = np.minimum.accumulate(np.where(taken, index, bins)[:, ::-1], 1)[:, ::-1]
    after = np.concatenate([upcoming[:, 1:], np.full((count, 1), bins)], 1)
    free = after - index - 1
    # Nothing is known beyond the reach: a gap may end there, but must begin within the opening.
    wide = taken & (free >= needed)
    first = wide.argmax(1)
    rows = np.arange(count)
    return first, np.where(wide[rows, first], free[rows, first], 0)


@dataclass(frozen=True)
class GraspScores:
    """Scores of C proposals. holds: (C,) bool, both contacts are good. The others: (C,), 0..1."""

    holds: np.ndarray
    semantic: np.ndarray
    geometric: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> GraspScores:
        return GraspScores(self.holds[keep], self.semantic[keep], self.geometric[keep])


def score_proposals(surface: LocalSurface, proposals: Proposals, fit: FingerFit,
                    config: GraspConfig, blind: bool = False) -> GraspScores:
    """Scores C proposals whose fingers fit, and which are centred on what the fingers touch.

    blind: both sides may be unseen, instead of one, because thin objects show no points there.
    """
    holds, out = np.zeros(len(proposals), bool), np.zeros((2, len(proposals)))
    reach = float(np.linalg.norm([config.finger_width / 2, config.max_opening / 2,
                                  config.finger_depth]))
    for part, near in regions(surface.points, proposals, reach):
        holds[part], out[0, part], out[1, part] = _score(
            surface.part(near), proposals[part], fit.width[part], fit.room[part], config, blind)
    return GraspScores(holds, *out)


def _score(surface: LocalSurface, proposals: Proposals, width: np.ndarray, room: np.ndarray,
           config: GraspConfig, blind: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    local = in_hand(surface.points, proposals)
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    half = width[:, None] / 2
    between = (np.abs(x) <= config.finger_width / 2) & (np.abs(y) <= half + 1e-4)
    between &= (z <= 0) & (z >= -config.finger_depth)
    count = between.sum(1)
    share = (between & surface.member).sum(1) / np.maximum(count, 1)
    axes, normals = (a.astype(np.float32) for a in (proposals.rotations, surface.normals.T))
    lean, to_hand = axes[:, :, 1] @ normals, -axes[:, :, 2] @ normals
    right = contact(lean, to_hand, between & (y >= half - PATCH))
    left = contact(-lean, to_hand, between & (y <= PATCH - half))
    beyond = surface.member & (np.abs(x) <= config.finger_width / 2) & (z > 0) & (z <= BELOW_EDGE)
    outer = half + config.finger_thickness
    right[(beyond & (y >= half) & (y <= outer)).any(1) & np.isnan(right)] = 0.0
    left[(beyond & (-y >= half) & (-y <= outer)).any(1) & np.isnan(left)] = 0.0
    least = np.cos(np.arctan(config.friction) + (BLUR if blind else 0.0))
    holds = (count >= MIN_BETWEEN) & (share >= MIN_SHARE)
    holds &= (right >= least) | np.isnan(right)
    holds &= (left >= least) | np.isnan(left)
    holds &= blind | ~(np.isnan(right) & np.isnan(left))
    engaged = -np.where(between, z, 0.0).min(1, initial=0.0)
    geometric = geometric_score(surface, proposals, right, left, engaged, room, config)
    return holds, masked_median(surface.relevancy, between), geometric


def geometric_score(surface: LocalSurface, proposals: Proposals, right: np.ndarray,
                    left: np.ndarray, engaged: np.ndarray, room: np.ndarray,
                    config: GraspConfig) -> np.ndarray:
    """Returns the geometric score (C,) in 0..1.

    It is high where contacts face each other, near the middle of the object and deep between the
    fingers, with room for errors, and with an approach from above.
    """
    least = np.cos(np.arctan(config.friction))
    faces = [np.where(np.isnan(side), UNSEEN, (side - least) / (1 - least))
             for side in (right, left)]
    tips = proposals.anchors + proposals.reaches[:, None] * proposals.rotations[:, :, 2]
    lever = np.linalg.norm((tips - surface.middle)[:, :2], axis=1)
    spare = np.clip((room - config.finger_thickness) / (2 * config.spare_opening + 1e-9), 0, 1)
    down = np.clip(-proposals.rotations[:, 2, 2], 0, 1)
    score = (FACE_WEIGHT * np.minimum(*faces) + LEVER_WEIGHT * np.exp(-lever / LEVER)
             + DEEP_WEIGHT * np.clip(engaged / ENGAGED, 0, 1) + ROOM_WEIGHT * spare
             + DOWN_WEIGHT * down)
    return np.clip(score, 0, 1)


def contact(lean: np.ndarray, to_hand: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Returns the mean cosine (C,) between the outward normals of a patch and the way out.

    lean, to_hand: (C, P), cosines of normals with the way out and with the way back to the hand.
    patch: (C, P) bool, points that are touched. Points that face the finger weigh most, because
    normals lean near an edge. The result is NaN at an edge whose own side was never seen, so that
    what is there faces the hand, and 0 where the object ends otherwise.
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
    """Returns whether (C,) the hand meets a point (C, 3, P), at the grasp or on the way to it.

    The way is wide enough for the fingers, too.
    """
    fingers = config.max_opening / 2 + config.finger_thickness
    half_x = max(config.hand_box[0], config.finger_width) / 2 + config.clearance
    half_y = max(config.hand_box[1] / 2, fingers) + config.clearance
    inside = (np.abs(local[:, 0]) <= half_x) & (np.abs(local[:, 1]) <= half_y)
    inside &= local[:, 2] <= config.clearance - config.finger_depth
    inside &= local[:, 2] >= -config.finger_depth - config.hand_box[2] - config.pregrasp
    return inside.any(1)


def masked_median(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns upper medians (C,) of values (P,) under masks (C, P); 0 under an empty mask."""
    order = np.argsort(values, kind='stable')
    row, position = np.nonzero(mask[:, order])
    count = mask.sum(1)
    middle = np.cumsum(count) - count + count // 2
    found = values[order][position[np.minimum(middle, max(len(row) - 1, 0))]] if len(row) else 0.0
    return np.where(count > 0, found, 0.0)
