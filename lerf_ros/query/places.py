# SPDX-License-Identifier: Apache-2.0
"""Turns the relevancy of every point into places.

Embeddings describe crops as wide as a hand or an arm, so relevancy spills over the edge of a thing.
Relevancy therefore only chooses segments, and the segments give the extent: a segment that is
relevant enough becomes a place as a whole, and relevant points around it are dropped as spill.
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

MAX_FACES = 256     # largest faces of a hull that a box is tried on: round things have thousands
LEVEL = 0.9         # cosine of the largest tilt of a supporting plane
TIE_DECIMALS = 3    # relevancies that agree to this count as equal
SCORE_POINTS = 10   # a hit's relevancy is the mean of its best points, because one may be noise,
SCORE_SHARE = 0.1   # and of this fraction of a large hit, which is more than a neighbour's edge
NOISE = 5           # fewer points that lie together are ignored


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
    """Returns the axes (3,) of the longer and shorter side of the tightest rectangle on (N, 2)."""
    low, high = np.quantile(ground, (trim, 1 - trim), axis=0)
    kept = ground[((ground >= low) & (ground <= high)).all(1)]
    # Centred, because single precision loses the millimetres far from the origin.
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


class Place(NamedTuple):
    """A hit, and members (M,): the indices of its points."""

    hit: Hit
    members: np.ndarray


def sort_key(hit: Hit) -> tuple[float, int]:
    """Returns a key that sorts hits best first, and of equal ones the largest first."""
    return _sort_key(hit.relevancy, hit.points)


def _sort_key(relevancy: float, points: int) -> tuple[float, int]:
    return -round(relevancy, TIE_DECIMALS), -points


def score(values: np.ndarray) -> float:
    """Returns the relevancy of a place whose points have the relevancies (n,)."""
    count = len(values)
    most = max(SCORE_POINTS, round(SCORE_SHARE * count))
    best = values if count <= most else np.partition(values, count - most)[-most:]
    return float(best.mean())


class PlaceFinder:
    """Finds places in one index, and caches the boxes of whole segments."""

    def __init__(self, index: LanguageIndex, config: QueryConfig, radius: float) -> None:
        """radius: of the scene frame, world units; the configured lengths are multiples of it.

        Boxes are relative to the index's origin; hits are in the world.
        """
        self.index, self.config, self.radius = index, config, radius
        self._trimmed: dict[int, tuple[np.ndarray, OrientedBox]] = {}
        self._trees: dict[int, cKDTree] = {}

    @cached_property
    def segments(self) -> list[np.ndarray]:
        """Returns the indices of the points of each segment."""
        order = np.argsort(self.index.segments, kind='stable')
        ends = np.cumsum(np.bincount(self.index.segments + 1, minlength=1))
        return np.split(order, ends[:-1])[1:] if len(ends) > 1 else []

    def find(self, values: np.ndarray, scales: np.ndarray, level: float, least: int,
             most: int) -> list[Place]:
        """Returns up to `most` places of at least `least` points that reach the level, best first.

        values (N,): relevancies. scales (N,): each point's best scale, as an index.
        """
        relevant = np.flatnonzero(values >= level)
        counts = np.bincount(self.index.segments[relevant] + 1, minlength=len(self.sizes) + 1)
        share = np.where(np.arange(len(self.sizes)) < len(self.index.planes),
                         self.config.surface_share, self.config.whole_share)
        whole = counts[1:] >= np.maximum(share * self.sizes, NOISE)
        # The first entry is for noise, whose segment is -1.
        left = (counts >= least) & ~np.append(False, whole)
        rest = relevant[left[self.index.segments[relevant] + 1]]
        found = self._stacked(np.flatnonzero(whole).tolist())
        found.extend(self.clusters(self._without_spill(rest, np.flatnonzero(whole))))
        groups = [self.segments[k] if isinstance(k, int) else k for k in found]
        order = sorted((i for i, group in enumerate(groups) if len(group) >= least),
                       key=lambda i: _sort_key(score(values[groups[i]]), len(groups[i])))[:most]
        # Boxes take longer than scores, so only the best get one.
        places = [self._place(*self._segment(k), values, scales) if isinstance(k, int)
                  else self.place_of(k, values, scales) for k in (found[i] for i in order)]
        return sorted(places, key=lambda place: sort_key(place.hit))

    def _stacked(self, segments: list[int]) -> list[np.ndarray | int]:
        """Returns the segments, where one that hangs in the air is joined with the one below it.

        The pole of a lamp is too thin for the field, but its shade and its foot are one lamp.
        Joined segments are returned as the indices of their points.
        """
        things = [k for k in segments if k >= len(self.index.planes)]
        if self.config.boxes != 'upright' or len(things) < 2:
            return [*segments]
        boxes = {k: self._segment(k)[1] for k in things}
        below = {k: next((j for j in things if j != k and boxes[k].above(boxes[j])), k)
                 for k in things if self._hangs(boxes[k])}
        out: list[np.ndarray | int] = []
        for k in (k for k in segments if below.get(k, k) == k):
            parts = [k, *(j for j in things if j != k and below.get(j, j) == k)]
            out.append(k if len(parts) == 1 else
                       np.concatenate([self.segments[j] for j in parts]))
        return out

    def _hangs(self, box: OrientedBox) -> bool:
        low = box.center[2] - box.size[2] / 2
        return ground_below(box.center[:2], low, self.index.planes,
                            self.config.stand_reach * self.radius) is None

    @cached_property
    def sizes(self) -> np.ndarray:
        """Returns the number of points of each segment."""
        return np.array([len(members) for members in self.segments], np.int64)

    def _without_spill(self, points: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """Returns the points (indices) that are not near any of the whole segments."""
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
        """Returns clusters of the chosen points (indices), without noise.

        A cluster never spans several segments, unless `across`.
        """
        if len(chosen) < NOISE:
            return []
        reach = self.config.cluster_radius * self.radius
        # On a fourth axis segments are farther apart than the reach of the clustering.
        apart = self.index.segments[chosen, None] * (0.0 if across else 2.0 * reach)
        labels = DBSCAN(eps=reach, min_samples=NOISE, algorithm='kd_tree').fit_predict(
            np.concatenate([self.index.points[chosen], apart], 1))
        order = np.argsort(labels, kind='stable')
        ends = np.cumsum(np.bincount(labels + 1, minlength=1))
        return [chosen[members] for members in np.split(order, ends[:-1])[1:]]

    def _segment(self, segment: int) -> tuple[np.ndarray, OrientedBox]:
        """Returns the points (indices) of a segment that are inside its box, and the box."""
        if segment not in self._trimmed:
            self._trimmed[segment] = self._boxed(self.segments[segment])
        return self._trimmed[segment]

    def place_of(self, members: np.ndarray, values: np.ndarray, scales: np.ndarray,
                 stands: bool = True) -> Place:
        """Returns the place of these points (indices), without those that its box leaves out.

        stands: extends the box down to what it stands on.
        """
        return self._place(*self._boxed(members, stands), values, scales)

    def _boxed(self, members: np.ndarray, stands: bool = True) -> tuple[np.ndarray, OrientedBox]:
        """Returns the points (indices) that are inside the box around all of them, and the box."""
        box = self.box(members, stands)
        inside = box.contains(self.index.points[members])
        return (members[inside] if inside.any() else members), box

    def box(self, members: np.ndarray, stands: bool = True) -> OrientedBox:
        """Returns the box around these points (indices), upright or of any orientation."""
        points, c = self.index.points[members].astype(np.float64), self.config
        # Few points have none to spare.
        trim = c.box_trim if len(points) >= 2 / max(c.box_trim, 1e-9) else 0.0
        if c.boxes == 'upright':
            planes = self.index.planes if stands else np.zeros((0, 4))
            return upright_box(points, planes, c.stand_reach * self.radius, trim)
        return minimal_box(points, trim)

    def _place(self, members: np.ndarray, box: OrientedBox, values: np.ndarray,
               scales: np.ndarray) -> Place:
        scale = np.bincount(scales[members], weights=values[members]).argmax()
        return Place(Hit(
            position=self.index.origin + box.center, rotation=box.rotation, size=box.size,
            relevancy=score(values[members]), scale=float(self.index.scales[scale]),
            points=len(members), keyframes=int(np.median(self.index.keyframes[members]))), members)
