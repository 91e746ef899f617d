# SPDX-License-Identifier: Apache-2.0
"""Normals of points, and supporting planes: tables, floors, walls."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lerf_ros.config import IndexConfig

NEIGHBOURS = 24
MOST_NEIGHBOURS = 96
SMOOTH = 8.0      # times the roughness: how far the neighbours must reach to tell a direction
SAMPLE = 2000     # points that roughness is measured at
CHUNK = 16384     # points whose neighbours are held at once


def surface_normals(points: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Returns unit normals (N, 3) of points (N, 3), towards the cameras (N, 3) that saw them."""
    tree = cKDTree(points)
    nearest = np.arange(1, min(enough_neighbours(points), len(points)) + 1)
    normals = np.zeros((len(points), 3))
    # In the tree's order, consecutive points use the same part of it.
    for start in range(0, len(points), CHUNK):
        asked = tree.indices[start:start + CHUNK]
        around = points[tree.query(points[asked], nearest)[1]]           # (n, k, 3)
        around = around - around.mean(1, keepdims=True)
        normals[asked] = np.linalg.eigh(around.transpose(0, 2, 1) @ around)[1][:, :, 0]
    away = ((origins - points) * normals).sum(1) < 0
    return np.where(away[:, None], -normals, normals)


def roughness(points: np.ndarray) -> float:
    """Returns the median distance of points (N, 3) from the planes of their neighbours.

    Only the middle of the scene counts, where cameras were near.
    """
    return _measured(points)[0]


def enough_neighbours(points: np.ndarray) -> int:
    """Returns how many neighbours tell where a surface faces in spite of its roughness."""
    rough, reach = _measured(points)
    return int(np.clip(NEIGHBOURS * (SMOOTH * rough / max(reach, 1e-12)) ** 2, NEIGHBOURS,
                       MOST_NEIGHBOURS))


def _measured(points: np.ndarray) -> tuple[float, float]:
    """Returns the roughness of points (N, 3) and the median distance of the farthest neighbour."""
    middle = points[np.abs(points).max(1) < 1.0]
    if len(middle) <= NEIGHBOURS:
        return 0.0, 0.0
    asked = middle[::max(1, len(middle) // SAMPLE)]
    distance, near = cKDTree(middle).query(asked, NEIGHBOURS)
    around = middle[near] - middle[near].mean(1, keepdims=True)
    rough = np.linalg.svd(around, compute_uv=False)[:, -1] / np.sqrt(NEIGHBOURS)
    return float(np.median(rough)), float(np.median(distance[:, -1]))


CELL = 0.04            # scene radii: edge of the cells that areas are counted in
ROUNDS = 12            # planes that are searched for, one after the other
CANDIDATES = 1000      # planes through three random points that are tried for each
VOTERS = 4000          # points that choose between them
SEED = 0
FLAT = 0.85            # cosine of the angle between a plane's normal and a point's, at least
FLAT_PART = 0.6        # of the points near a surface that face as it does; a slice has fewer
RAISED = 4.0           # standard deviations by which cells of a thing stand above its surface
SKIRT = 0.4            # of the thickness of a surface
ROUGH = 6.0            # a surface is at least so many times as thick as the map is rough


def supporting_planes(points: np.ndarray, normals: np.ndarray,
                      config: IndexConfig) -> tuple[np.ndarray, np.ndarray]:
    """Finds large planes (P, 4), and which of them each point (N,) lies on, -1 for none.

    points (N, 3) in scene radii, normals (N, 3) unit, towards the cameras. A plane is (n, d) with
    n . p + d = 0. RANSAC, the plane with most points first; Open3D's version is not repeatable,
    since its threads draw on their own.
    """
    rng = np.random.default_rng(SEED)
    thickness = surface_thickness(points, config)
    plane_of = np.full(len(points), -1, np.int32)
    planes: list[np.ndarray] = []
    left = np.arange(len(points))
    for _ in range(ROUNDS):
        if len(left) < config.support_points:
            break
        plane = refined(drawn_plane(points[left], thickness, rng), points[left], normals[left],
                        thickness)
        on = left[near(plane, points[left], thickness)]
        flat = on[np.abs(normals[on] @ plane[:3]) >= FLAT]
        if len(flat) < config.support_points:
            break
        if (len(flat) >= FLAT_PART * len(on)
                and largest_area(points[flat]) >= config.support_area):
            # Normals are blurred at the foot of a thing: take all points that are near enough.
            plane_of[on] = len(planes)
            planes.append(plane)
            left = left[plane_of[left] < 0]
        else:   # not a surface: remove its points, so that the next one can be found
            left = np.setdiff1d(left, flat)
    return np.array(planes, np.float64).reshape(-1, 4), plane_of


def drawn_plane(points: np.ndarray, thickness: float, rng: np.random.Generator) -> np.ndarray:
    """Returns the plane (4,) through three of the points (N, 3) that is near to most of them."""
    a, b, c = points[rng.integers(len(points), size=(3, CANDIDATES))]
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    offset = -(normal * a).sum(1)
    voters = points[rng.permutation(len(points))[:VOTERS]]
    near_it = np.abs(voters @ normal.T + offset) <= thickness
    # Three points in a line make no plane.
    best = np.where(normal.any(1), near_it.sum(0), 0).argmax()
    return np.append(normal[best], offset[best])


def surface_thickness(points: np.ndarray, config: IndexConfig) -> float:
    """Returns how far points (N, 3) of a surface may lie from its plane: far in a rough map."""
    return max(config.support_thickness, ROUGH * roughness(points))


def refined(plane: np.ndarray, points: np.ndarray, normals: np.ndarray,
            thickness: float) -> np.ndarray:
    """Fits the plane to the flat points on it by least squares, its normal towards the cameras."""
    on = near(plane, points, thickness) & (np.abs(normals @ plane[:3]) >= FLAT)
    if on.sum() < 3:
        return plane
    middle = points[on].mean(0)
    normal = np.linalg.eigh(np.cov((points[on] - middle).T))[1][:, 0]
    normal = normal if (normals[on] @ normal).sum() >= 0 else -normal
    return np.append(normal, -normal @ middle)


def near(plane: np.ndarray, points: np.ndarray, thickness: float) -> np.ndarray:
    """Returns which points (N,) are within the thickness of the plane.

    The thickness grows with the distance from the middle of the scene, as errors of the field do.
    """
    reach = thickness * np.maximum(np.abs(points).max(1), 1.0)
    return np.abs(points @ plane[:3] + plane[3]) <= reach


def raised(points: np.ndarray, plane: np.ndarray, edge: float, thickness: float) -> np.ndarray:
    """Returns which points (N,) of a plane (4,) belong to something flat that lies on it.

    A plane is thicker than a magazine or a pizza. But where one lies all points are higher, and the
    mean of a cell of `edge` is far more exact than the plane is thick: cells count whose mean is
    more than RAISED standard deviations above the median cell, and more than SKIRT of the
    thickness: round the foot of a thing a surface seems to rise a little. As in `near`, heights
    count less with the distance from the middle of the scene.
    """
    height = (points @ plane[:3] + plane[3]) / np.maximum(np.abs(points).max(1), 1.0)
    axes = np.linalg.svd(plane[None, :3])[2][1:]            # two directions within the plane
    cell_of = np.unique(np.floor(points @ axes.T / edge).astype(np.int64), axis=0,
                        return_inverse=True)[1].reshape(-1)
    count = np.bincount(cell_of)
    mean = np.bincount(cell_of, height) / count
    usual = np.median(mean[cell_of])
    of_cells, of_points = robust_deviation(mean - usual), robust_deviation(height - mean[cell_of])
    noise = RAISED * np.hypot(of_cells, of_points / np.sqrt(count))
    return (mean - usual > np.maximum(noise, SKIRT * thickness))[cell_of]


def robust_deviation(offsets: np.ndarray) -> float:
    """Returns the standard deviation of normally distributed offsets (N,), outliers aside."""
    return 1.4826 * float(np.median(np.abs(offsets)))


def largest_area(points: np.ndarray) -> float:
    """Returns the area of the largest connected piece of points (N, 3) on one plane."""
    cells = np.unique(np.floor(points / CELL).astype(np.int64), axis=0)
    _, piece = connected_components(
        cKDTree(cells).sparse_distance_matrix(cKDTree(cells), 1.5, output_type='coo_matrix'),
        directed=False)
    return float(np.bincount(piece).max()) * CELL ** 2
