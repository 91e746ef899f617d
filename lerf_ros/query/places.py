# SPDX-License-Identifier: Apache-2.0
"""From the relevancy of every point to places: relevance says which segments, they say how far.

Embeddings speak of crops as wide as a hand or an arm, so relevancy spills over a thing's edge. What
the snapshot's segments keep apart therefore stays apart: a segment that is relevant enough is the
place as a whole, and what is left of its relevancy around it is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import ConvexHull, cKDTree
from sklearn.cluster import DBSCAN

from lerf_ros.config import QueryConfig
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import Hit

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


TIE_DECIMALS = 3    # relevancies that agree to this count as equal
SCORE_POINTS = 10   # a hit's relevancy is the mean of its best points: one noisy point is no hit,
SCORE_SHARE = 0.1   # and of so many of a large one: the edge of its neighbour is not all of it
NOISE = 5           # fewer points that lie together are nothing


class Place(NamedTuple):
    """A hit with the indices of its points."""

    hit: Hit
    members: np.ndarray


def rank(hit: Hit) -> tuple[float, int]:
    """Best first; of places that fit equally well, such as patches of a floor, the largest."""
    return _rank(hit.relevancy, hit.points)


def _rank(relevancy: float, points: int) -> tuple[float, int]:
    return -round(relevancy, TIE_DECIMALS), -points


def score(values: np.ndarray) -> float:
    """The relevancy of a place with points of relevancies (n,)."""
    count = len(values)
    most = max(SCORE_POINTS, round(SCORE_SHARE * count))
    best = values if count <= most else np.partition(values, count - most)[-most:]
    return float(best.mean())


class PlaceFinder:
    """Finds places in one index; boxes of whole segments are kept once they were asked for."""

    def __init__(self, index: LanguageIndex, config: QueryConfig, radius: float) -> None:
        """radius: of the scene frame, world units; lengths of the configuration are parts of it.

        Boxes are computed from the index's origin; hits are in the world.
        """
        self.index, self.config, self.radius = index, config, radius
        self._wholes: dict[int, tuple[np.ndarray, Box]] = {}
        self._trees: dict[int, cKDTree] = {}

    @cached_property
    def segments(self) -> list[np.ndarray]:
        """The indices of each segment's points."""
        order = np.argsort(self.index.segments, kind='stable')
        ends = np.cumsum(np.bincount(self.index.segments + 1, minlength=1))
        return np.split(order, ends[:-1])[1:] if len(ends) > 1 else []

    def find(self, values: np.ndarray, scales: np.ndarray, level: float, least: int,
             most: int) -> list[Place]:
        """At most `most` places of at least `least` points that reach the level, best first.

        values (N,) relevancies, scales (N,) indices of each point's best scale.
        """
        relevant = np.flatnonzero(values >= level)
        counts = np.bincount(self.index.segments[relevant] + 1, minlength=len(self.sizes) + 1)
        share = np.where(np.arange(len(self.sizes)) < len(self.index.planes),
                         self.config.surface_share, self.config.whole_share)
        whole = counts[1:] >= np.maximum(share * self.sizes, NOISE)
        # -1 is no segment.
        left = (counts >= least) & ~np.append(False, whole)
        rest = relevant[left[self.index.segments[relevant] + 1]]
        found = self._stacked(np.flatnonzero(whole).tolist())
        found.extend(self.clusters(self._apart(rest, np.flatnonzero(whole))))
        groups = [self.segments[k] if isinstance(k, int) else k for k in found]
        order = sorted((i for i, group in enumerate(groups) if len(group) >= least),
                       key=lambda i: _rank(score(values[groups[i]]), len(groups[i])))[:most]
        # Boxes take longer than scores: only those of the best are made.
        places = [self._whole(k, values, scales) if isinstance(k, int)
                  else self.place_of(k, values, scales) for k in (found[i] for i in order)]
        return sorted(places, key=lambda place: rank(place.hit))

    def _stacked(self, segments: list[int]) -> list[np.ndarray | int]:
        """The segments, or the points of several: what hangs in the air is part of what is below.

        The pole of a lamp is too thin for the field; its shade and its foot are one lamp.
        """
        things = [k for k in segments if k >= len(self.index.planes)]
        if self.config.boxes != 'upright' or len(things) < 2:
            return [*segments]
        boxes = {k: self._part(k)[1] for k in things}
        below = {k: next((j for j in things if j != k and boxes[k].above(boxes[j])), k)
                 for k in things if self._hangs(boxes[k])}
        out: list[np.ndarray | int] = []
        for k in (k for k in segments if below.get(k, k) == k):
            parts = [k, *(j for j in things if j != k and below.get(j, j) == k)]
            out.append(k if len(parts) == 1 else
                       np.concatenate([self.segments[j] for j in parts]))
        return out

    def _hangs(self, box: Box) -> bool:
        low = box.center[2] - box.size[2] / 2
        return ground_below(box.center[:2], low, self.index.planes,
                            self.config.stand_reach * self.radius) is None

    @cached_property
    def sizes(self) -> np.ndarray:
        """How many points each segment has."""
        return np.array([len(members) for members in self.segments], np.int64)

    def _apart(self, points: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """Those of the points (indices) that no whole segment is near to: the others are spill."""
        reach = self.config.cluster_radius * self.radius
        for k in whole.tolist():
            if not len(points):
                break
            if k not in self._trees:
                self._trees[k] = cKDTree(self.index.points[self.segments[k]])
            tree, world = self._trees[k], self.index.points[points]
            about = ((world >= tree.mins - reach) & (world <= tree.maxes + reach)).all(1)
            distance, _ = tree.query(world[about], distance_upper_bound=reach)
            far = ~about
            far[about] = ~np.isfinite(distance)
            points = points[far]
        return points

    def clusters(self, chosen: np.ndarray, across: bool = False) -> list[np.ndarray]:
        """Those of the chosen points that lie together, cluster by cluster, noise left out.

        Points of two segments are never together, unless `across`.
        """
        if len(chosen) < NOISE:
            return []
        reach = self.config.cluster_radius * self.radius
        # A further axis, on which segments are farther apart than points can be near.
        apart = self.index.segments[chosen, None] * (0.0 if across else 2.0 * reach)
        labels = DBSCAN(eps=reach, min_samples=NOISE, algorithm='kd_tree').fit_predict(
            np.concatenate([self.index.points[chosen], apart], 1))
        order = np.argsort(labels, kind='stable')
        ends = np.cumsum(np.bincount(labels + 1, minlength=1))
        return [chosen[members] for members in np.split(order, ends[:-1])[1:]]

    def _part(self, segment: int) -> tuple[np.ndarray, Box]:
        """The points of a segment that its box holds, and the box; made once."""
        if segment not in self._wholes:
            members = self.segments[segment]
            box = self.box(members)
            inside = box.contains(self.index.points[members])
            self._wholes[segment] = members[inside] if inside.any() else members, box
        return self._wholes[segment]

    def _whole(self, segment: int, values: np.ndarray, scales: np.ndarray) -> Place:
        return self._place(*self._part(segment), values, scales)

    def place_of(self, members: np.ndarray, values: np.ndarray, scales: np.ndarray,
                 stands: bool = True) -> Place:
        """The place that these points (indices) make; what its box leaves out is no part of it.

        stands: on what is below, so that the box goes down to it.
        """
        box = self.box(members, stands)
        inside = box.contains(self.index.points[members])
        return self._place(members[inside] if inside.any() else members, box, values, scales)

    def box(self, members: np.ndarray, stands: bool = True) -> Box:
        """The box around these points (indices), upright or not as configured."""
        points, c = self.index.points[members].astype(np.float64), self.config
        # One point in a hundred of few is none.
        trim = c.box_trim if len(points) >= 2 / max(c.box_trim, 1e-9) else 0.0
        if c.boxes == 'upright':
            planes = self.index.planes if stands else np.zeros((0, 4))
            return upright_box(points, planes, c.stand_reach * self.radius, trim)
        return minimal_box(points, trim)

    def _place(self, members: np.ndarray, box: Box, values: np.ndarray,
               scales: np.ndarray) -> Place:
        scale = np.bincount(scales[members], weights=values[members]).argmax()
        return Place(Hit(
            position=self.index.origin + box.center, rotation=box.rotation, size=box.size,
            relevancy=score(values[members]), scale=float(self.index.scales[scale]),
            points=len(members), keyframes=int(np.median(self.index.keyframes[members]))), members)
