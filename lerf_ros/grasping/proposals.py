# SPDX-License-Identifier: Apache-2.0
"""Poses of the hand that are worth a try: from where it comes, along which line it closes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.config import GraspConfig

# Of the approach against straight down, degrees; above the horizontal a hand keeps off the table.
TILTS = {'top_down': (0.0,), 'any': (0.0, 20.0, 40.0, 60.0, 80.0), 'side': (70.0, 80.0, 90.0)}
HEADINGS = 8               # of each tilt, evenly round the vertical
STRAIGHT_SHARE = 0.4       # of the tries of `any` that come straight down: most arms reach that way
# How far the fingertips reach beyond the point that is aimed at, parts of the finger's length.
REACHES = (0.15, 0.3, 0.5, 0.75)
# Part of the tries whose closing line is any, not the surface's normal: an object of which one
# side was never seen is gripped across its extent.
FREE_SHARE = 0.35
FREE_ANGLES = 12


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
    """`config.samples` tries at points (M, 3) of the object with unit normals (M, 3)."""
    count = config.samples
    chosen = rng.integers(len(points), size=count)
    approach = approaches(config.approach, count, rng)
    closing = closing_lines(normals[chosen], approach, rng)
    rotations = np.stack([np.cross(closing, approach), closing, approach], 2)
    reaches = config.finger_depth * rng.choice(REACHES, size=count)
    return Proposals(rotations, points[chosen], reaches)


def approaches(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit directions (count, 3), world with z up, in which the hand comes."""
    tilt = np.radians(rng.choice(TILTS[kind], size=count))
    if kind == 'any':
        tilt[rng.random(count) < STRAIGHT_SHARE] = 0.0
    heading = rng.integers(HEADINGS, size=count) * (2 * np.pi / HEADINGS)
    return np.stack([np.sin(tilt) * np.cos(heading), np.sin(tilt) * np.sin(heading),
                     -np.cos(tilt)], 1)


def closing_lines(normals: np.ndarray, approach: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (C, 3) at right angles to the approaches: the surface's normal as far as it is,
    or, for FREE_SHARE of them and where the surface faces the hand, at any of some angles."""
    x, y = horizontal_frame(approach)
    angle = rng.integers(FREE_ANGLES, size=len(normals)) * (np.pi / FREE_ANGLES)
    free = np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * y
    along = normals - (normals * approach).sum(1, keepdims=True) * approach
    length = np.linalg.norm(along, axis=1, keepdims=True)
    use_free = (length < 0.5) | (rng.random((len(normals), 1)) < FREE_SHARE)
    return np.where(use_free, free, along / np.maximum(length, 1e-9))


def horizontal_frame(approach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (C, 3) each at right angles to the approaches; the first is horizontal."""
    flat = np.abs(approach[:, 2:]) > 0.999
    helper = np.where(flat, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    x = np.cross(helper, approach)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.cross(approach, x)
