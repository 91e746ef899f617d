# SPDX-License-Identifier: Apache-2.0
"""Oriented boxes around points: upright ones where the map's z is up (REP-103), or any."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import ConvexHull

FACES = 256     # of a hull that a box is tried on, the largest: round things have thousands
LEVEL = 0.9     # cosine of the angle by which a plane that things stand on may be tilted


@dataclass(frozen=True)
class Box:
    """center (3,), rotation (3, 3) with the axes as columns, size (3,) along them; world units."""

    center: np.ndarray
    rotation: np.ndarray
    size: np.ndarray

    def contains(self, points: np.ndarray, margin: float = 1e-9) -> np.ndarray:
        """Which points (N, 3) lie in the box grown by `margin` on every side, (N,) bool."""
        return (np.abs((points - self.center) @ self.rotation) <= self.size / 2 + margin).all(1)

    def above(self, other: Box) -> bool:
        """Whether this upright box lies over the other, one's middle over or under the other."""
        low, top = self.center[2] - self.size[2] / 2, other.center[2] + other.size[2] / 2
        step = self.center[:2] - other.center[:2]
        within = any((np.abs(step @ box.rotation[:2, :2]) <= box.size[:2] / 2).all()
                     for box in (self, other))
        # A box that is trimmed, or a rim that hangs down, may overlap a little.
        return bool(within and low >= top - self.size[2] / 2)


def upright_box(points: np.ndarray, planes: np.ndarray, reach: float, trim: float) -> Box:
    """The box with vertical sides and the smallest ground area that holds points (N, 3).

    Its x axis is the longer horizontal one. planes (P, 4): supporting surfaces (n, d) with
    n . p + d = 0; the box of what stands on one, at most `reach` above it, goes down to it, since
    nobody sees the underside. trim: part of the points that may stick out at either side.
    """
    x, y = longer_side(points[:, :2], trim)
    rotation = np.stack([x, y, [0.0, 0.0, 1.0]], 1)
    low, high = np.quantile(points @ rotation, (trim, 1 - trim), axis=0)
    middle = rotation @ ((low + high) / 2)
    ground = ground_below(middle[:2], low[2], planes, reach)
    low[2] = low[2] if ground is None else min(ground, high[2])
    return Box(rotation @ ((low + high) / 2), rotation, high - low)


def longer_side(ground: np.ndarray, trim: float) -> tuple[np.ndarray, np.ndarray]:
    """Axes (3,) along the longer and the shorter side of the smallest rectangle around (N, 2)."""
    low, high = np.quantile(ground, (trim, 1 - trim), axis=0)
    kept = ground[((ground >= low) & (ground <= high)).all(1)]
    # About their middle: single precision far from the origin would lose the millimetres.
    middle = ground.mean(0)
    corners = cv2.boxPoints(cv2.minAreaRect(
        ((kept if len(kept) else ground) - middle).astype(np.float32)))
    sides = np.diff(corners[:3], axis=0)
    along = sides[int(np.linalg.norm(sides[1]) > np.linalg.norm(sides[0]))].astype(np.float64)
    length = float(np.linalg.norm(along))
    x, y = along / length if length > 0 else (1.0, 0.0)
    return np.array([x, y, 0.0]), np.array([-y, x, 0.0])


def ground_below(position: np.ndarray, low: float, planes: np.ndarray,
                 reach: float) -> float | None:
    """The height of the highest level plane at a position (2,), from `reach` below `low` to a
    little above it; None where there is none."""
    level = planes[np.abs(planes[:, 2]) >= LEVEL] if len(planes) else planes.reshape(0, 4)
    heights = -(level[:, :2] @ position + level[:, 3]) / level[:, 2]
    below = heights[(heights <= low + reach / 2) & (heights >= low - reach)]
    return float(below.max()) if len(below) else None


def minimal_box(points: np.ndarray, trim: float) -> Box:
    """Returns the smallest box of any orientation that stands on a large face of the convex hull
    of points (N, 3), longest axis first; trim as in `upright_box`."""
    centred = points - points.mean(0) if len(points) else points
    if len(points) < 4 or np.linalg.matrix_rank(centred, 1e-6) < 3:
        rotation = np.eye(3)
    else:
        rotation = hull_axes(centred)
    low, high = np.quantile(points @ rotation, (trim, 1 - trim), axis=0)
    return Box(rotation @ ((low + high) / 2), rotation, high - low)


def hull_axes(points: np.ndarray) -> np.ndarray:
    """Returns the axes (3, 3), as columns, of the smallest box on a face of the hull of (N, 3)."""
    hull = ConvexHull(points, qhull_options='QJ')       # joggled: flat faces are no error
    corners, faces = points[hull.vertices], points[hull.simplices]
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    large = np.argsort(-areas)[:FACES]
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
