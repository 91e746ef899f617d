# SPDX-License-Identifier: Apache-2.0
"""Open3D's ray caster on the parts of a scene, and labels of points near their surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lerf_ros.errors import LerfError
from lerf_ros.simulation.models import Part
from lerf_ros.simulation.scene import TabletopScene, part_labels

NOTHING = -1        # part of a ray that hits nothing
REACH_M = 0.015     # a point that is farther from all surfaces has no label
NO_LABEL = -1


def load_open3d() -> Any:
    """Imports open3d; raises LerfError that says how to install it.

    The type is Any because open3d's stubs do not accept numpy arrays.
    """
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise LerfError(
            f"the simulated camera needs open3d ({error}): pip install '.[sim]' in "
            'the folder of lerf_ros, and the system library libusb-1.0-0') from error
    return open3d


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns dot products (N,) of rows (N, 3); numpy sums slowly over so short an axis."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


@dataclass(frozen=True)
class Hits:
    """Where N rays end.

    t: (N,) in ray lengths. part: (N,) int32. triangle: (N,) counted over all parts. weights: (N, 3)
    of its corners. points: (N, 3). normals: (N, 3) unit, towards the viewer.
    """

    t: np.ndarray
    part: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    normals: np.ndarray


class RayScene:
    """Parts in the world, ready for rays.

    corners, normals: (T, 3, 3) float32 of all triangles, world; part k owns the triangles from
    offsets[k] to offsets[k + 1].
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        open3d = load_open3d()
        self._core = open3d.core
        self._scene = open3d.t.geometry.RaycastingScene()
        corners, normals = [], []
        for part in parts:
            world = part.world_vertices().astype(np.float32)
            self._scene.add_triangles(self._core.Tensor(world), self._core.Tensor(
                part.mesh.triangles.astype(np.uint32)))
            corners.append(world[part.mesh.triangles])
            turned = part.mesh.corner_normals() @ part.transform()[:3, :3].T
            normals.append(turned.astype(np.float32))
        self.offsets = np.cumsum([0] + [len(c) for c in corners])
        self.corners, self.normals = np.concatenate(corners), np.concatenate(normals)

    def cast(self, rays: np.ndarray) -> Hits:
        """Returns the first hits of rays (N, 6) float32: origin, and direction of any length."""
        answer = self._scene.cast_rays(self._core.Tensor(rays))
        geometry = answer['geometry_ids'].numpy()
        missed = geometry == self._scene.INVALID_ID
        part = np.where(missed, 0, geometry).astype(np.int32)
        triangle = np.where(missed, 0, answer['primitive_ids'].numpy()) + self.offsets[part]
        uv = answer['primitive_uvs'].numpy()
        weights = np.column_stack([1 - uv[:, 0] - uv[:, 1], uv])
        t = answer['t_hit'].numpy()
        points = rays[:, :3] + rays[:, 3:] * np.where(missed, 0, t)[:, None]
        corner = self.normals[triangle]
        normals = (corner[:, 0] * weights[:, :1] + corner[:, 1] * weights[:, 1:2]
                   + corner[:, 2] * weights[:, 2:])
        normals /= np.maximum(np.sqrt(dot(normals, normals)), 1e-9)[:, None]
        away = dot(normals, rays[:, 3:]) > 0
        normals[away] *= -1
        part[missed] = NOTHING
        return Hits(t, part, triangle, weights, points, normals)

    def occluded(self, rays: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Returns which rays (N, 6) are blocked before `reach` (N,) ray lengths, (N,) bool."""
        if not len(rays):
            return np.zeros(0, bool)
        near, far = 1e-3, float(reach[0])
        return self._scene.test_occlusions(
            self._core.Tensor(np.ascontiguousarray(rays, np.float32)), near, far).numpy()


class SurfaceLabels:
    """Finds labels of points near the surfaces of a scene."""

    def __init__(self, scene: TabletopScene) -> None:
        """Raises LerfError where open3d is missing."""
        open3d = load_open3d()
        self._tensor = open3d.core.Tensor
        self._surfaces = open3d.t.geometry.RaycastingScene()
        self._labels = part_labels(scene)
        for part in scene.parts:
            self._surfaces.add_triangles(
                self._tensor(part.world_vertices().astype(np.float32)),
                self._tensor(part.mesh.triangles.astype(np.uint32)))

    def at(self, points_world: np.ndarray, reach_m: float = REACH_M) -> np.ndarray:
        """Returns the labels (N,) int32 of points (N, 3), metres: that of the nearest surface.

        The label is -1 where no surface is within `reach_m`. Beside the foot of an object a point
        belongs to the table as soon as the table is nearer.
        """
        points = np.ascontiguousarray(points_world, np.float32).reshape(-1, 3)
        if not len(points):
            return np.zeros(0, np.int32)
        nearest = self._surfaces.compute_closest_points(self._tensor(points))
        distance = np.linalg.norm(nearest['points'].numpy() - points, axis=1)
        labels = self._labels[nearest['geometry_ids'].numpy()]
        return np.where(distance <= reach_m, labels, NO_LABEL).astype(np.int32)
