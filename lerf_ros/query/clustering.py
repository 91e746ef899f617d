# SPDX-License-Identifier: Apache-2.0
"""DBSCAN (Ester et al., 1996) on scipy alone: scikit-learn takes a query a second to import."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def dbscan_labels(points: np.ndarray, reach: float, least: int) -> np.ndarray:
    """Returns the cluster of each of points (N, D), counted from 0, or -1 for noise, (N,).

    A point with at least `least` points within `reach`, itself included, is a core; cores within
    reach of each other share a cluster, in the order of their first core. Any other point within
    reach of cores belongs to the first of their clusters.
    """
    count = len(points)
    pairs = cKDTree(points).query_pairs(reach, output_type='ndarray')
    core = 1 + np.bincount(pairs.ravel(), minlength=count) >= least
    between = pairs[core[pairs].all(1)]
    piece = connected_components(coo_matrix(
        (np.ones(len(between), bool), between.T), (count, count)), directed=False)[1]
    # Numbered by their first core, as scikit-learn does.
    _, first, number = np.unique(piece[core], return_index=True, return_inverse=True)
    labels = np.full(count, count)
    labels[core] = np.argsort(np.argsort(first))[number]
    edges = pairs[core[pairs].sum(1) == 1]
    inner = np.where(core[edges[:, 0]], edges[:, 0], edges[:, 1])
    np.minimum.at(labels, edges.sum(1) - inner, labels[inner])
    return np.where(labels == count, -1, labels)
