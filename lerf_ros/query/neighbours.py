# SPDX-License-Identifier: Apache-2.0
"""Which segments of an index touch each other, and which relevant points lie beside them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lerf_ros.index.language_index import LanguageIndex

SAMPLE = 2000      # points that the spacing of an index is measured at
CONTACT = 1.5      # times the spacing: points of two segments that are nearer touch
# Of the smaller of two segments this fraction of points must touch the other so that both are one
# thing: fragments share a whole side, things that merely stand together a line or a point.
JOINT_SHARE = 0.08
JOINT_POINTS = 5   # and so many at least, because a few points of the table cling to a foot
CONCAVE = 0.3      # bend from which a crease counts as concave, as where one thing meets another
MOST_CONCAVE = 0.5


class SegmentNeighbours:
    """Answers what lies beside the segments of one index, and remembers what it found."""

    def __init__(self, index: LanguageIndex, segments: Sequence[np.ndarray], reach: float) -> None:
        """segments: the indices of the points of each. reach: in world units, what is beside."""
        self.index, self.segments, self.reach = index, segments, reach
        self._trees: dict[int, cKDTree] = {}
        self._continues: dict[tuple[int, int], bool] = {}

    @cached_property
    def spacing(self) -> float:
        """Returns the median distance of a point from the next one, world units."""
        points = self.index.points
        if len(points) < 2:
            return 0.0
        asked = points[::max(1, len(points) // SAMPLE)]
        return float(np.median(cKDTree(points).query(asked, 2)[0][:, 1]))

    def tree(self, segment: int) -> cKDTree:
        """Returns the tree of a segment's points."""
        if segment not in self._trees:
            self._trees[segment] = cKDTree(self.index.points[self.segments[segment]])
        return self._trees[segment]

    def adjoins(self, segment: int, points: np.ndarray) -> bool:
        """Returns whether any of the points (indices) lies within reach of the segment."""
        return bool(np.isfinite(self._nearest(segment, points, self.reach)[0]).any())

    def continues(self, one: int, other: int) -> bool:
        """Returns whether two segments are pieces of one surface: side by side, without a crease.

        Where two things touch, the surface is concave; within one thing it seldom is.
        """
        small, large = sorted((one, other), key=lambda k: len(self.segments[k]))
        if (small, large) not in self._continues:
            self._continues[small, large] = self._touches_smoothly(small, large)
        return self._continues[small, large]

    def _touches_smoothly(self, small: int, large: int) -> bool:
        a = self.segments[small]
        distance, nearest = self._nearest(large, a, CONTACT * self.spacing)
        touching = np.isfinite(distance)
        if touching.sum() < max(JOINT_SHARE * len(a), JOINT_POINTS):
            return False
        a, b = a[touching], self.segments[large][nearest[touching]]
        step = self.index.points[b] - self.index.points[a]
        step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
        normals = self.index.normals.astype(np.float32)
        bend = ((normals[b] - normals[a]) * step).sum(1)       # below 0 where concave
        return bool((bend < -CONCAVE).mean() < MOST_CONCAVE)

    def _nearest(self, segment: int, points: np.ndarray,
                 reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the distance (n,) of points (indices) from a segment, infinite beyond the reach,
        and the nearest of the segment's points, as a position in it."""
        tree, where = self.tree(segment), self.index.points[points]
        distance, nearest = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
        about = ((where >= tree.mins - reach) & (where <= tree.maxes + reach)).all(1)
        distance[about], nearest[about] = tree.query(where[about], distance_upper_bound=reach)
        return distance, nearest


def connected_pieces(points: np.ndarray, reach: float) -> np.ndarray:
    """Returns the piece (N,), from 0, that each point (N, 3) belongs to.

    Points nearer than half of the reach are always connected, and those farther than twice never:
    they are put into cells first, because there may be very many.
    """
    cells, cell_of = np.unique(np.floor(points / (reach / 2)).astype(np.int64), axis=0,
                               return_inverse=True)
    pairs = cKDTree(cells).query_pairs(1.8, output_type='ndarray')     # also across corners
    links = coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(cells),) * 2)
    return connected_components(links, directed=False)[1][cell_of.reshape(-1)]
