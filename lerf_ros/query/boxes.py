# SPDX-License-Identifier: Apache-2.0
"""Boxes around points: upright on what they stand on, or turned any way."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import ConvexHull

MAX_FACES = 256     # largest faces of a hull that a box is tried on: round things have thousands
LEVEL = 0.9         # cosine of the largest tilt of a supporting plane
ANGLES = 180        # directions in the ground that an outline is measured in; a multiple of 4
DIRECTIONS = np.stack([np.cos(2 * np.pi * np.arange(ANGLES) / ANGLES),
                       np.sin(2 * np.pi * np.arange(ANGLES) / ANGLES)], 1)
ASYMMETRY = 2.0     # times its area by which a rectangle may be larger to mirror the outline
ROUND = 0.18        # of a round thing no direction is so much better than the worst, but for noise


@dataclass(frozen=True)
class OrientedBox:
    """center (3,), rotation (3, 3) with the axes as columns, size (3,) along them; world units."""

    center: np.ndarray
    rotation: np.ndarray
    size: np.ndarray

    def contains(self, points: np.ndarray, margin: float = 1e-9) -> np.ndarray:
        """Returns which points (N, 3) lie in the box grown by `margin` on every side, (N,) bool."""
        return (np.abs((points - self.center) @ self.rotation) <= self.size / 2 + margin).all(1)

    def above(self, other: OrientedBox) -> bool:
        """Returns whether this upright box lies above the other, with one centre over the other."""
        low, top = self.center[2] - self.size[2] / 2, other.center[2] + other.size[2] / 2
        step = self.center[:2] - other.center[:2]
        within = any((np.abs(step @ box.rotation[:2, :2]) <= box.size[:2] / 2).all()
                     for box in (self, other))
        # Trimmed boxes and rims that hang down may overlap a little.
        return bool(within and low >= top - self.size[2] / 2)


def upright_box(points: np.ndarray, planes: np.ndarray, reach: float,
                trim: float) -> OrientedBox:
    """Returns the box with vertical sides and the smallest ground area that holds points (N, 3).

    Its x axis is the longer horizontal one. planes (P, 4): supporting planes (n, d) with
    n . p + d = 0. A box at most `reach` above such a plane is extended down to it, because no
    camera sees the underside. trim: fraction of the points that may stick out at either side.
    """
    x, y = longer_side(points[:, :2], trim)
    rotation = np.stack([x, y, [0.0, 0.0, 1.0]], 1)
    low, high = np.quantile(points @ rotation, (trim, 1 - trim), axis=0)
    middle = rotation @ ((low + high) / 2)
    ground = ground_below(middle[:2], low[2], planes, reach)
    low[2] = low[2] if ground is None else min(ground, high[2])
    return OrientedBox(rotation @ ((low + high) / 2), rotation, high - low)


def longer_side(ground: np.ndarray, trim: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the axes (3,) of the longer and shorter side of the best rectangle on (N, 2).

    It is small, and the outline is alike on both sides of one of its middle lines. The smallest
    rectangle alone lies askew around anything with a handle: its side leans from the handle's end
    on the round body, by 22 degrees at a pan. Around what is round the axes are those of the frame.
    """
    low, high = np.quantile(ground, (trim, 1 - trim), axis=0)
    kept = ground[((ground >= low) & (ground <= high)).all(1)]
    # Centred, because single precision loses the millimetres far from the origin.
    middle = ground.mean(0)
    points = ((kept if len(kept) else ground) - middle).astype(np.float32)
    outline = cv2.convexHull(points)[:, 0].astype(np.float64)
    reach = ((outline - centroid(outline)) @ DIRECTIONS.T).max(0)          # (ANGLES,)
    width = reach[:ANGLES // 2] + reach[ANGLES // 2:]
    quarter = ANGLES // 4
    area = width[:quarter] * width[quarter:]
    smallest = max(float(area.min()), 1e-12)
    cost = area / smallest + ASYMMETRY * asymmetry(reach)
    if float(np.ptp(cost)) < ROUND:
        return np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    best = int(cost.argmin())
    # Between the directions that were tried lies that of the tightest rectangle, if it is near.
    angle = 2 * np.pi * best / ANGLES
    off = (np.radians(cv2.minAreaRect(points)[2]) - angle + np.pi / 4) % (np.pi / 2) - np.pi / 4
    angle += off if abs(off) <= 2 * np.pi / ANGLES else 0.0
    angle += 0.0 if width[best] >= width[best + quarter] else np.pi / 2
    x, y = np.cos(angle), np.sin(angle)
    return np.array([x, y, 0.0]), np.array([-y, x, 0.0])


def centroid(outline: np.ndarray) -> np.ndarray:
    """Returns the centre of gravity (2,) of a convex polygon (V, 2); the mean of one without area.
    """
    x, y = outline.T
    turned_x, turned_y = np.roll(outline, -1, axis=0).T
    cross = x * turned_y - turned_x * y
    if abs(cross.sum()) < 1e-12:
        return outline.mean(0)
    return np.array([((x + turned_x) * cross).sum(), ((y + turned_y) * cross).sum()]) / (
        3 * cross.sum())


def asymmetry(reach: np.ndarray) -> np.ndarray:
    """Returns how much an outline differs from its mirror image, relative to its size, (ANGLES/4,).

    reach (ANGLES,): how far the outline reaches from its centre in each of DIRECTIONS. The mirrors
    are the first quarter of the directions and the lines across them; the better of both counts.
    """
    mirrors, turns = np.arange(ANGLES // 2)[:, None], np.arange(ANGLES // 2)
    difference = np.abs(reach[(mirrors + turns) % ANGLES] - reach[(mirrors - turns) % ANGLES])
    of_mirror = difference.mean(1) / max(float(reach.mean()), 1e-12)
    return of_mirror.reshape(2, -1).min(0)


def ground_below(position: np.ndarray, low: float, planes: np.ndarray,
                 reach: float) -> float | None:
    """Returns the height of the highest level plane below a position (2,); None without one.

    Planes from `reach` below `low` up to half of it above `low` count.
    """
    level = planes[np.abs(planes[:, 2]) >= LEVEL] if len(planes) else planes.reshape(0, 4)
    heights = -(level[:, :2] @ position + level[:, 3]) / level[:, 2]
    below = heights[(heights <= low + reach / 2) & (heights >= low - reach)]
    return float(below.max()) if len(below) else None


def minimal_box(points: np.ndarray, trim: float) -> OrientedBox:
    """Returns the smallest box of any orientation that stands on a large face of the convex hull
    of points (N, 3), longest axis first; trim as in `upright_box`."""
    centred = points - points.mean(0) if len(points) else points
    if len(points) < 4 or np.linalg.matrix_rank(centred, 1e-6) < 3:
        rotation = np.eye(3)
    else:
        rotation = hull_axes(centred)
    low, high = np.quantile(points @ rotation, (trim, 1 - trim), axis=0)
    return OrientedBox(rotation @ ((low + high) / 2), rotation, high - low)


def hull_axes(points: np.ndarray) -> np.ndarray:
    """Returns the axes (3, 3), as columns, of the smallest box on a face of the hull of (N, 3)."""
    hull = ConvexHull(points, qhull_options='QJ')       # joggled, so that flat faces are no error
    corners, faces = points[hull.vertices], points[hull.simplices]
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    large = np.argsort(-areas)[:MAX_FACES]
    frames = np.linalg.svd((normals[large] / areas[large, None])[:, None])[2]   # the normal first
    around = corners @ frames.transpose(0, 2, 1)                                # (F, V, 3)
    ground = [cv2.minAreaRect(face) for face in around[:, :, 1:].astype(np.float32)]
    volumes = np.prod([size for _, size, _ in ground], axis=1) * np.ptp(around[:, :, 0], axis=1)
    best = int(np.argmin(volumes))
    angle = np.radians(ground[best][2])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    axes = np.concatenate([turn @ frames[best, 1:], frames[best, :1]])
    axes = axes[np.argsort(-np.ptp(corners @ axes.T, axis=0))]
    axes[2] = np.cross(axes[0], axes[1])
    return axes.T
