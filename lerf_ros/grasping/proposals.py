# SPDX-License-Identifier: Apache-2.0
"""Proposes poses of the hand: the direction it approaches from, and the line it closes along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from lerf_ros.config import GraspConfig

# Degrees between the approach and straight down. A hand above the horizontal keeps off the table.
TILTS = {'top_down': (0.0,), 'any': (0.0, 20.0, 40.0, 60.0, 80.0), 'side': (70.0, 80.0, 90.0)}
HEADINGS = 8               # for each tilt, evenly round the vertical
STRAIGHT_FRACTION = 0.4    # of approaches of kind `any` that come straight down, as most arms can
# How far the fingertips reach beyond the point that they aim at, fractions of the finger length.
REACHES = (0.15, 0.3, 0.5, 0.75)
# Fractions of the proposals: PAIRED close along a line between two points that face away from each
# other; FREE along any line, for objects with an unseen side; the rest along a normal.
PAIRED, FREE = 0.6, 0.15
SPARE = 6                  # proposals for each one that is examined, because most are useless
PAIR_POINTS = 700          # points among which pairs are looked for
LEVEL_FRACTION = 0.5       # of the closing lines that are made level
FREE_ANGLES = 12
DRAWS = 6                  # approaches of which one perpendicular to the closing line is taken
# Errors of a map and an arm that a grasp should bear, in the hand's frame: a turn, radians, then a
# shift, metres. Along the closing line an error only moves the object.
TURN, SHIFT = np.radians(8), 0.004
SHAKES = np.array([sign * np.array(error) for sign in (1, -1) for error in (
    [TURN, 0, 0, 0, 0, 0], [0, 0, TURN, 0, 0, 0], [0, 0, 0, SHIFT, 0, 0],
    [0, 0, 0, 0, 0, SHIFT])])
UPRIGHT = 0.3              # largest cosine that counts as perpendicular


@dataclass(frozen=True)
class Proposals:
    """C poses of the hand.

    rotations: (C, 3, 3), columns x, y (closing), z (approach) in the world. anchors: (C, 3) world,
    points of the object between the fingers. reaches: (C,) metres by which the fingertips reach
    beyond the anchors.
    """

    rotations: np.ndarray
    anchors: np.ndarray
    reaches: np.ndarray

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, keep: np.ndarray) -> Proposals:
        return Proposals(self.rotations[keep], self.anchors[keep], self.reaches[keep])


def propose(points: np.ndarray, normals: np.ndarray, config: GraspConfig,
            rng: np.random.Generator) -> Proposals:
    """Draws SPARE proposals for each of `config.samples`.

    points, normals: (M, 3) of the object; normals are unit vectors.
    """
    count = SPARE * config.samples
    chosen = rng.integers(len(points), size=count)
    wanted = normals[chosen].copy()
    first, lines = antipodal_pairs(points, normals, config, rng)
    if len(first):
        pair = rng.integers(len(first), size=int(PAIRED * count))
        chosen[:len(pair)], wanted[:len(pair)] = first[pair], lines[pair]
    wanted = levelled(wanted, rng)
    approach = approaches_across(wanted, config.approach, rng)
    closing = closing_lines(wanted, approach, rng)
    rotations = np.stack([np.cross(closing, approach), closing, approach], 2)
    reaches = config.finger_depth * rng.choice(REACHES, size=count)
    return Proposals(rotations, points[chosen], reaches)


def shaken(proposals: Proposals) -> Proposals:
    """Returns each proposal with every error of SHAKES: C * len(SHAKES) proposals, in this order.

    The hand turns about the anchor.
    """
    turns = Rotation.from_rotvec(SHAKES[:, :3]).as_matrix()
    rotations = np.einsum('cij,sjk->csik', proposals.rotations, turns)
    shifts = np.einsum('cij,sj->csi', proposals.rotations, SHAKES[:, 3:])
    return Proposals(rotations.reshape(-1, 3, 3),
                     (proposals.anchors[:, None] + shifts).reshape(-1, 3),
                     np.repeat(proposals.reaches, len(SHAKES)))


def levelled(lines: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns unit lines (C, 3), LEVEL_FRACTION of the flatter ones made level.

    A gripper that closes level keeps both fingers off the support.
    """
    flat = lines * [1.0, 1.0, 0.0]
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    change = (length > np.sqrt(0.5)) & (rng.random((len(lines), 1)) < LEVEL_FRACTION)
    return np.where(change, flat / np.maximum(length, 1e-9), lines)


def antipodal_pairs(points: np.ndarray, normals: np.ndarray, config: GraspConfig,
                    rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (K,), as indices, and unit lines (K, 3) to them from opposite points.

    Both surfaces lie within the friction cone, and the fingers span the distance.
    """
    some = rng.permutation(len(points))[:PAIR_POINTS]
    span = config.max_opening - 2 * config.clearance
    i, j = cKDTree(points[some]).query_pairs(span, output_type='ndarray').T
    line = points[some[i]] - points[some[j]]                             # from j to i
    line /= np.maximum(np.linalg.norm(line, axis=1, keepdims=True), 1e-9)
    least = np.cos(np.arctan(config.friction))
    facing = (line * normals[some[i]]).sum(1) >= least
    facing &= (line * normals[some[j]]).sum(1) <= -least
    both = np.concatenate([some[i[facing]], some[j[facing]]])
    return both, np.concatenate([line[facing], -line[facing]])


def approaches_across(lines: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Returns approach directions (C, 3), perpendicular to the lines where the kind allows it."""
    count = len(lines)
    drawn = approaches(kind, count * DRAWS, rng).reshape(count, DRAWS, 3)
    along = np.abs(np.einsum('cdk,ck->cd', drawn, lines))
    fits = along <= UPRIGHT
    best = np.where(fits.any(1), fits.argmax(1), along.argmin(1))
    return drawn[np.arange(count), best]


def approaches(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws approach directions (count, 3), unit vectors in a world with z up."""
    tilt = rng.integers(len(TILTS[kind]), size=count)
    if kind == 'any':
        tilt[rng.random(count) < STRAIGHT_FRACTION] = TILTS['any'].index(0.0)
    return directions(kind)[tilt, rng.integers(HEADINGS, size=count)]


def directions(kind: str) -> np.ndarray:
    """Returns all approach directions of a kind, (tilts, HEADINGS, 3)."""
    tilt = np.radians(TILTS[kind])[:, None]
    heading = np.arange(HEADINGS) * (2 * np.pi / HEADINGS)
    down = np.broadcast_to(-np.cos(tilt), (len(tilt), HEADINGS))
    return np.stack([np.sin(tilt) * np.cos(heading), np.sin(tilt) * np.sin(heading), down], 2)


def closing_lines(normals: np.ndarray, approach: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
    """Returns unit vectors (C, 3) perpendicular to the approaches.

    They are the perpendicular part of the normals, but have a random angle for a fraction FREE, and
    where the surface faces the hand.
    """
    x, y = horizontal_frame(approach)
    angle = rng.integers(FREE_ANGLES, size=len(normals)) * (np.pi / FREE_ANGLES)
    free = np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * y
    along = normals - (normals * approach).sum(1, keepdims=True) * approach
    length = np.linalg.norm(along, axis=1, keepdims=True)
    use_free = (length < 0.5) | (rng.random((len(normals), 1)) < FREE)
    return np.where(use_free, free, along / np.maximum(length, 1e-9))


def horizontal_frame(approach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns two unit vectors (C, 3) perpendicular to each approach; the first is horizontal."""
    flat = np.abs(approach[:, 2:]) > 0.999
    helper = np.where(flat, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    x = np.cross(helper, approach)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.cross(approach, x)
