# SPDX-License-Identifier: Apache-2.0
"""The cloud of a perfect map: points on the true meshes of a layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh

from lerf_ros.geometry.camera import transform_points
from lerf_ros.simulation.room import TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import SceneObject, TabletopScene

SPACING_M = 0.003
TABLE = -1


@dataclass(frozen=True)
class Cloud:
    """points, normals (N, 3), world, unit outward; owner (N,): index of the object, or TABLE."""

    points: np.ndarray
    normals: np.ndarray
    owner: np.ndarray


def true_cloud(scene: TabletopScene, poses: Sequence[np.ndarray]) -> Cloud:
    """Returns points on all objects where they came to rest, and on the table.

    poses: (4, 4), of the middles of the objects' boxes.
    """
    rng = np.random.default_rng(scene.seed)
    parts = [object_points(thing, T, rng) for thing, T in zip(scene.objects, poses, strict=True)]
    parts.append(table_points())
    owner = np.concatenate([np.full(len(p), TABLE if k == len(poses) else k)
                            for k, (p, _) in enumerate(parts)])
    points, normals = (np.concatenate(a) for a in zip(*parts, strict=True))
    return Cloud(points, normals, owner)


def object_points(thing: SceneObject, T: np.ndarray, rng: np.random.Generator
                  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns points and normals (N, 3) of one object, about one per cell of SPACING_M."""
    points, normals = [], []
    for part in thing.parts:
        mesh = trimesh.Trimesh(part.world_vertices() - thing.center, part.mesh.triangles,
                               process=False)
        count = int(4 * mesh.area / SPACING_M ** 2) + 8
        sampled, face = trimesh.sample.sample_surface(mesh, count, seed=int(rng.integers(1 << 31)))
        points.append(sampled)
        normals.append(mesh.face_normals[face])
    local, direction = np.concatenate(points), np.concatenate(normals)
    _, first = np.unique(np.floor(local / SPACING_M).astype(int), axis=0, return_index=True)
    return transform_points(T, local[first]), direction[first] @ T[:3, :3].T


def table_points() -> tuple[np.ndarray, np.ndarray]:
    """Returns points of the table top, also under the objects."""
    x, y = (np.arange(-side / 2, side / 2, 1.5 * SPACING_M) for side in TABLE_SIZE)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    points = np.column_stack([grid, np.full(len(grid), TABLE_HEIGHT)])
    return points, np.broadcast_to([0.0, 0.0, 1.0], points.shape)
