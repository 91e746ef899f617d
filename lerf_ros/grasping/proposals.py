# SPDX-License-Identifier: Apache-2.0
"""Poses of the hand that are worth a try: from where it comes, along which line it closes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.config import GraspConfig

# Of the approach against straight down, degrees; above the horizontal a hand keeps off the table.
TILTS = {'top_down': (0.0,), 'any': (0.0, 20.0, 40.0, 60.0, 80.0), 'side': (70.0, 80.0, 90.0)}
HEADINGS = 8               # of each tilt, evenly round the vertical
STRAIGHT_SHARE = 0.4       # of the tries of `any` that come straight down: most arms reach that way
# How far the fingertips reach beyond the point that is aimed at, parts of the finger's length.
REACHES = (0.15, 0.3, 0.5, 0.75)
# Parts of the tries: PAIRED close along a line between two points that face away from each other,
# FREE along any, for an object of which one side was never seen, the rest along a normal.
PAIRED, FREE = 0.6, 0.15
SPARE = 6                  # tries for each that is looked at closely: most are of no use
PAIR_POINTS = 700          # points among which pairs are looked for
LEVEL = 0.5                # part of the closing lines that are made level
FREE_ANGLES = 12
DRAWS = 6                  # approaches among which one at right angles to the closing line is taken
UPRIGHT = 0.3              # cosine up to which it counts as one


@dataclass(frozen=True)
class Proposals:
    """C hands. rotations (C, 3, 3), columns x, y (closing), z (approach) in the world; anchors
    (C, 3) world, points of the object between the fingers; reaches (C,) metres that the fingertips
    go beyond them."""

    rotations: np.ndarray
    anchors: np.ndarray
    reaches: np.ndarray

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, keep: np.ndarray) -> Proposals:
        return Proposals(self.rotations[keep], self.anchors[keep], self.reaches[keep])


def propose(points: np.ndarray, normals: np.ndarray, config: GraspConfig,
            rng: np.random.Generator) -> Proposals:
    """SPARE tries for each of `config.samples`, at points (M, 3) of the object with unit normals
    (M, 3)."""
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


def levelled(lines: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit lines (C, 3), LEVEL of them without their part along the vertical where that is the
    smaller one: a gripper that closes level keeps both fingers off what bears the thing."""
    flat = lines * [1.0, 1.0, 0.0]
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    change = (length > np.sqrt(0.5)) & (rng.random((len(lines), 1)) < LEVEL)
    return np.where(change, flat / np.maximum(length, 1e-9), lines)


def antipodal_pairs(points: np.ndarray, normals: np.ndarray, config: GraspConfig,
                    rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (K,), indices, and unit lines (K, 3) from opposite points out through them, where both
    surfaces lie within the friction cone and the fingers span the distance."""
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
    """Unit directions (C, 3) in which the hand comes, at right angles to the lines if it may."""
    count = len(lines)
    drawn = approaches(kind, count * DRAWS, rng).reshape(count, DRAWS, 3)
    along = np.abs(np.einsum('cdk,ck->cd', drawn, lines))
    fits = along <= UPRIGHT
    best = np.where(fits.any(1), fits.argmax(1), along.argmin(1))
    return drawn[np.arange(count), best]


def approaches(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit directions (count, 3), world with z up, in which the hand comes."""
    tilt = rng.integers(len(TILTS[kind]), size=count)
    if kind == 'any':
        tilt[rng.random(count) < STRAIGHT_SHARE] = TILTS['any'].index(0.0)
    return directions(kind)[tilt, rng.integers(HEADINGS, size=count)]


def directions(kind: str) -> np.ndarray:
    """All approaches of a kind, (tilts, HEADINGS, 3): few, so that sines are taken once."""
    tilt = np.radians(TILTS[kind])[:, None]
    heading = np.arange(HEADINGS) * (2 * np.pi / HEADINGS)
    down = np.broadcast_to(-np.cos(tilt), (len(tilt), HEADINGS))
    return np.stack([np.sin(tilt) * np.cos(heading), np.sin(tilt) * np.sin(heading), down], 2)


def closing_lines(normals: np.ndarray, approach: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (C, 3) at right angles to the approaches: the surface's normal as far as it is,
    or, for FREE of them and where the surface faces the hand, at any of some angles."""
    x, y = horizontal_frame(approach)
    angle = rng.integers(FREE_ANGLES, size=len(normals)) * (np.pi / FREE_ANGLES)
    free = np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * y
    along = normals - (normals * approach).sum(1, keepdims=True) * approach
    length = np.linalg.norm(along, axis=1, keepdims=True)
    use_free = (length < 0.5) | (rng.random((len(normals), 1)) < FREE)
    return np.where(use_free, free, along / np.maximum(length, 1e-9))


def horizontal_frame(approach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (C, 3) each at right angles to the approaches; the first is horizontal."""
    flat = np.abs(approach[:, 2:]) > 0.999
    helper = np.where(flat, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    x = np.cross(helper, approach)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.cross(approach, x)
