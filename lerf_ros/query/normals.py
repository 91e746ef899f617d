# SPDX-License-Identifier: Apache-2.0
"""Which way a surface faces, from the points around: its plane of least squares.

The gradient of the field's density is about twice as far off: hash grids are rough.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS = 24
MOST_NEIGHBOURS = 96
SMOOTH = 8.0      # times the roughness: how far off the neighbours must be to tell a direction
SAMPLE = 2000     # points that roughness is measured at
CHUNK = 16384     # points whose neighbours are held at once


def surface_normals(points: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Returns unit normals (N, 3) of points (N, 3), towards the cameras (N, 3) that saw them."""
    tree = cKDTree(points)
    nearest = np.arange(1, min(enough_neighbours(points), len(points)) + 1)
    normals = np.zeros((len(points), 3))
    # In the tree's order: points after each other ask for the same part of it.
    for start in range(0, len(points), CHUNK):
        asked = tree.indices[start:start + CHUNK]
        around = points[tree.query(points[asked], nearest)[1]]           # (n, k, 3)
        around = around - around.mean(1, keepdims=True)
        normals[asked] = np.linalg.eigh(around.transpose(0, 2, 1) @ around)[1][:, :, 0]
    away = ((origins - points) * normals).sum(1) < 0
    return np.where(away[:, None], -normals, normals)


def roughness(points: np.ndarray) -> float:
    """How far points (N, 3) lie from the planes of their neighbours: the median, in their unit.

    Only the middle of the scene counts, where cameras looked from near.
    """
    return _measured(points)[0]


def enough_neighbours(points: np.ndarray) -> int:
    """How many neighbours reach so far that roughness does not decide where a surface faces."""
    rough, reach = _measured(points)
    return int(np.clip(NEIGHBOURS * (SMOOTH * rough / max(reach, 1e-12)) ** 2, NEIGHBOURS,
                       MOST_NEIGHBOURS))


def _measured(points: np.ndarray) -> tuple[float, float]:
    """The roughness of points (N, 3), and the median distance of the farthest neighbour."""
    middle = points[np.abs(points).max(1) < 1.0]
    if len(middle) <= NEIGHBOURS:
        return 0.0, 0.0
    asked = middle[::max(1, len(middle) // SAMPLE)]
    distance, near = cKDTree(middle).query(asked, NEIGHBOURS)
    around = middle[near] - middle[near].mean(1, keepdims=True)
    rough = np.linalg.svd(around, compute_uv=False)[:, -1] / np.sqrt(NEIGHBOURS)
    return float(np.median(rough)), float(np.median(distance[:, -1]))
