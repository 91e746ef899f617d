# SPDX-License-Identifier: Apache-2.0
"""Which points belong to one thing: supporting planes first, then what stands on them.

This runs when a snapshot is made, so that a query only has to choose segments. Points are put into
small cells; cells that touch and look alike, by their dense features and colours, grow together
(agglomerative clustering, average linkage). Lengths are in scene radii.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from lerf_ros.config import IndexConfig
from lerf_ros.geometry.scene_frame import contract
from lerf_ros.index.planes import raised, supporting_planes, surface_thickness

NEIGHBOURS = 8
FEW_CELLS = 100     # of which all distances are compared sooner than trees are built
LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class PointCloud:
    """Points (N, 3) with normals (N, 3), unit, colors (N, 3) in 0..1 and dense features (N, C).

    dense may have no columns.
    """

    points: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    dense: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> PointCloud:
        return PointCloud(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def find_segments(cloud: PointCloud, config: IndexConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns the segment (N,) int32 of each point, -1 for none, and the supporting planes (P, 4).

    Segments 0 to P - 1 are the supporting planes (n, d), with n . p + d = 0 and n towards the
    cameras; then come the things, largest first.
    """
    segment_of = np.full(len(cloud.points), -1, np.int32)
    planes, plane_of = supporting_planes(cloud.points, cloud.normals, config)
    thickness = surface_thickness(cloud.points, config)
    for i in range(len(planes)):
        on = np.flatnonzero(plane_of == i)
        higher = raised(cloud.points[on], planes[i], config.segment_cell, thickness)
        segment_of[on[largest_piece(cloud[on], config) & ~higher]] = i
    rest = np.flatnonzero(segment_of < 0)
    if len(rest):
        behind = behind_planes(cloud.points, segment_of, planes, config.segment_gap, thickness)
        things = grown_together(cloud[rest], config, behind[rest])
        counts = np.bincount(things)
        order = np.argsort(-counts, kind='stable')
        order = order[counts[order] >= config.segment_points]
        number = np.full(len(counts), -1, np.int32)
        number[order] = len(planes) + np.arange(len(order))
        # What is too small for a thing was the surface after all.
        segment_of[rest] = np.where(number[things] < 0, plane_of[rest], number[things])
    return segment_of, planes


def largest_piece(cloud: PointCloud, config: IndexConfig) -> np.ndarray:
    """Returns which points (N,) bool of a plane are the surface itself; small pieces lie on it."""
    pieces = grown_together(cloud, config)
    counts = np.bincount(pieces)
    return (counts >= config.support_share * counts.max())[pieces]


def behind_planes(points: np.ndarray, segment_of: np.ndarray, planes: np.ndarray,
                    gap: float, thickness: float) -> np.ndarray:
    """Returns behind which planes (N, P) bool each point (N, 3) lies, seen from the cameras.

    A surface ends `gap` beyond its points, whose segment (N,) is its number; their extent is as
    uncertain as the surface is thick.
    """
    out = np.zeros((len(points), len(planes)), bool)
    for i, plane in enumerate(planes):
        height = points @ plane[:3] + plane[3]
        behind = np.flatnonzero(height < -thickness)
        foot = points[behind] - height[behind, None] * plane[:3]
        surface = cKDTree(points[segment_of == i])
        distance, _ = surface.query(foot, distance_upper_bound=gap + thickness)
        out[behind, i] = np.isfinite(distance)
    return out


def grown_together(cloud: PointCloud, config: IndexConfig,
                   behind: np.ndarray | None = None) -> np.ndarray:
    """Returns the connected piece (N,), from 0, that each point is part of.

    behind (N, P) bool: the planes that each point is behind; nothing grows through one.
    """
    behind = np.zeros((len(cloud.points), 0), bool) if behind is None else behind
    cells, cell_of = cells_in(cloud, config.segment_cell, behind)
    touching = neighbours(cloud.points, cell_of, len(cells.points), config.segment_gap, behind)
    features = comparable(cells.dense)
    touching = without_creases(
        touching, cells, np.concatenate([features, comparable(cells.colors)], 1), config)
    _, part = connected_components(touching, directed=False)
    out = part.copy()
    if features.shape[1]:
        for k in np.flatnonzero(np.bincount(part) > 1):
            inside = np.flatnonzero(part == k)
            out[inside] = out.max() + 1 + split(features[inside], touching[inside][:, inside],
                                                config.segment_difference)
    return np.unique(out, return_inverse=True)[1][cell_of]


def split(features: np.ndarray, touching: csr_matrix, difference: float) -> np.ndarray:
    """Splits one connected part by its cells' features (M, F); returns their pieces (M,)."""
    # Most parts are small and alike. Means of distances that are all below the threshold are, too.
    if len(features) <= FEW_CELLS and pdist(features).max() < difference:
        return np.zeros(len(features), np.int64)
    # Here, because it takes a second, and queries import this module as well.
    from sklearn.cluster import AgglomerativeClustering
    return AgglomerativeClustering(None, connectivity=touching, linkage='average',
                                   distance_threshold=difference).fit_predict(features)


def cells_in(cloud: PointCloud, edge: float, behind: np.ndarray) -> tuple[PointCloud, np.ndarray]:
    """Returns cells of contracted space with the mean of their points, and each point's cell (N,).

    behind (N, P) bool: points that differ in it are in different cells.
    """
    at = (contract(torch.from_numpy(cloud.points.astype(np.float32))) * (4 / edge)).long().numpy()
    cell_of = np.unique(np.concatenate([at, behind], 1), axis=0, return_inverse=True)[1].reshape(-1)
    count = np.bincount(cell_of)[:, None]

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.stack([np.bincount(cell_of, column) for column in values.T], 1) \
            if values.shape[1] else np.zeros((len(count), 0))
        return sums / count

    cells = PointCloud(*(mean(getattr(cloud, name)) for name in PointCloud.__dataclass_fields__))
    length = np.linalg.norm(cells.normals, axis=1, keepdims=True)
    return PointCloud(cells.points, cells.normals / np.maximum(length, 1e-6), cells.colors,
                 cells.dense), cell_of


def neighbours(points: np.ndarray, cell_of: np.ndarray, cells: int, gap: float,
               behind: np.ndarray) -> csr_matrix:
    """Returns which cells (M, M) have points within `gap`, which grows as contraction does.

    behind (N, P) bool: points that differ in it are never near.
    """
    count = min(NEIGHBOURS + 1, len(points))
    distance, other = cKDTree(points).query(points, count)
    reach = gap * np.maximum(np.abs(points).max(1), 1.0)[:, None] ** 2
    row, column = np.nonzero(distance <= reach)
    column = other[row, column]
    same = (behind[row] == behind[column]).all(1)
    a, b = cell_of[row[same]], cell_of[column[same]]
    links = coo_matrix((np.ones(len(a), np.float32), (a, b)), shape=(cells, cells)).tocsr()
    return links.maximum(links.T)


def comparable(values: np.ndarray) -> np.ndarray:
    """Divides values (M, C) by the root mean square difference of two rows.

    Where rows hardly differ, their differences are noise and are not blown up.
    """
    return values / max(float(np.sqrt(2 * values.var(0).sum())), LEAST_SPREAD)


def without_creases(touching: csr_matrix, cells: PointCloud, features: np.ndarray,
                    config: IndexConfig) -> csr_matrix:
    """Removes links across a concave crease between cells that look a little different.

    Where two things touch, the surface is concave; within one thing it seldom is.
    """
    links = touching.tocoo()
    a, b = links.row, links.col
    step = cells.points[b] - cells.points[a]
    step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    bend = ((cells.normals[b] - cells.normals[a]) * step).sum(1)      # below 0 where concave
    difference = np.linalg.norm(features[a] - features[b], axis=1)
    cut = (bend < -config.segment_crease) & (difference > config.segment_difference / 2)
    return coo_matrix((links.data[~cut], (a[~cut], b[~cut])), shape=links.shape).tocsr()
