# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes of simple solids, most of them grids of points that are bent into shape.

Lengths are metres, z is up. Every function returns a new `Mesh`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Faces that meet at less than this angle are shaded as one smooth surface.
CREASE_DEGREES = 40.0


@dataclass(frozen=True)
class Mesh:
    """vertices (V, 3) float64, metres; triangles (T, 3) int64, indices of vertices."""

    vertices: np.ndarray
    triangles: np.ndarray

    def moved(self, offset: Sequence[float]) -> Mesh:
        """Returns the mesh shifted by (3,) metres."""
        return Mesh(self.vertices + np.asarray(offset, np.float64), self.triangles)

    def scaled(self, factors: float | Sequence[float]) -> Mesh:
        """Returns the mesh scaled about the origin."""
        return Mesh(self.vertices * np.asarray(factors, np.float64), self.triangles)

    def turned(self, axis: str, degrees: float) -> Mesh:
        """Returns the mesh turned about the x, y or z axis through the origin."""
        return Mesh(self.vertices @ rotation(axis, degrees).T, self.triangles)

    def corner_normals(self) -> np.ndarray:
        """Returns unit normals (T, 3, 3) at the corners of triangles, smooth within the crease."""
        corners = self.vertices[self.triangles]
        faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        unit = faces / np.maximum(np.linalg.norm(faces, axis=1, keepdims=True), 1e-20)
        # Points that coincide are shaded as one vertex, whether or not the grid was wrapped.
        _, vertex = np.unique(np.round(corners.reshape(-1, 3), 6), axis=0, return_inverse=True)
        vertex = vertex.ravel()
        order = np.argsort(vertex, kind='stable')
        start = np.searchsorted(vertex[order], vertex)
        count = np.bincount(vertex)[vertex]
        corner = np.repeat(np.arange(len(vertex)), count)
        step = np.arange(len(corner)) - np.repeat(np.cumsum(count) - count, count)
        neighbour = order[start[corner] + step] // 3
        smooth = (unit[corner // 3] * unit[neighbour]).sum(1) > np.cos(np.radians(CREASE_DEGREES))
        total = np.zeros((len(vertex), 3))
        for k in range(3):
            total[:, k] = np.bincount(corner, faces[neighbour, k] * smooth, len(vertex))
        total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)
        return total.reshape(-1, 3, 3)


def rotation(axis: str, degrees: float) -> np.ndarray:
    """Returns the rotation matrix (3, 3) about the x, y or z axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {'x': (1, 2), 'y': (2, 0), 'z': (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Joins several meshes into one."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes])
    return Mesh(np.concatenate([m.vertices for m in meshes]),
                np.concatenate([m.triangles + o for m, o in zip(meshes, offsets)]))


def grid(points: np.ndarray, wrap_rows: bool = False, wrap_columns: bool = False) -> Mesh:
    """Returns a surface through points (R, C, 3); wrapping joins the last to the first."""
    rows, columns = points.shape[:2]
    r = np.arange(rows if wrap_rows else rows - 1)
    c = np.arange(columns if wrap_columns else columns - 1)
    r, c = (a.ravel() for a in np.meshgrid(r, c, indexing='ij'))
    r1, c1 = (r + 1) % rows, (c + 1) % columns
    p00, p01, p10, p11 = (a * columns + b for a, b in ((r, c), (r, c1), (r1, c), (r1, c1)))
    triangles = np.concatenate([np.stack([p00, p01, p11], 1), np.stack([p00, p11, p10], 1)])
    vertices = points.reshape(-1, 3).astype(np.float64)
    a, b, c3 = (vertices[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c3 - a), axis=1)
    return Mesh(vertices, triangles[area > 1e-14])


def lathe(profile: Sequence[tuple[float, float]], segments: int = 48) -> Mesh:
    """Returns a solid of revolution about z. profile: (radius, height) from bottom to top."""
    radius, height = np.asarray(profile, np.float64).T
    angle = np.arange(segments) * 2 * np.pi / segments
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    xy = radius[:, None, None] * ring[None]
    z = np.broadcast_to(height[:, None, None], (*xy.shape[:2], 1))
    return grid(np.concatenate([xy, z], 2), wrap_columns=True)


def smooth_profile(knots: Sequence[tuple[float, float]],
                   count: int = 40) -> list[tuple[float, float]]:
    """Returns a smooth profile through knots: monotone cubic in the length along them."""
    from scipy.interpolate import PchipInterpolator
    points = np.asarray(knots, np.float64)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    curve = PchipInterpolator(length, points)(np.linspace(0, length[-1], count))
    return [(radius, height) for radius, height in curve]


def sphere(radius: float, rings: int = 32, segments: int = 48) -> Mesh:
    """Returns a sphere about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings)
    return lathe([(radius * np.cos(a), radius * np.sin(a)) for a in angle], segments)


def cylinder(radius: float, z0: float, z1: float, segments: int = 32, top: float = -1.0) -> Mesh:
    """Returns a closed cylinder from height z0 to z1; `top` is the upper radius of a cone."""
    upper = radius if top < 0 else top
    return lathe([(0, z0), (radius, z0), (upper, z1), (0, z1)], segments)


def tube(path: np.ndarray, radius: float | np.ndarray, sides: int = 12,
         closed: bool = False) -> Mesh:
    """Returns a round tube along a path (K, 3), with closed ends; `radius` may vary along it."""
    path = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radius, np.float64), (len(path),)).copy()
    around = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    tangents = around if closed else np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    normal = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    angle = np.arange(sides) * 2 * np.pi / sides
    rings = []
    for point, tangent, r in zip(path, tangents, radii):
        # The normal is carried along, because a fixed one would twist the tube.
        normal = normal - tangent * (normal @ tangent)
        normal /= np.linalg.norm(normal)
        other = np.cross(tangent, normal)
        rings.append(point + r * (np.cos(angle)[:, None] * normal + np.sin(angle)[:, None] * other))
    if not closed:
        rings = [np.repeat(path[:1], sides, 0), *rings, np.repeat(path[-1:], sides, 0)]
    return grid(np.stack(rings), wrap_rows=closed, wrap_columns=True)


def arc(radius: float, start: float, stop: float, count: int = 24,
        plane: str = 'xz') -> np.ndarray:
    """Returns points (count, 3) on an arc about the origin, in degrees, in plane xy, xz or yz."""
    angle = np.radians(np.linspace(start, stop, count))
    points = np.zeros((count, 3))
    points[:, 'xyz'.index(plane[0])] = radius * np.cos(angle)
    points[:, 'xyz'.index(plane[1])] = radius * np.sin(angle)
    return points


def rounded_box(size: Sequence[float], bevel: float = 0.002, steps: int = 2) -> Mesh:
    """Returns a box with side lengths `size` about the origin, and edges rounded by `bevel`."""
    half = np.asarray(size, np.float64) / 2
    bevel = min(bevel, float(half.min()) * 0.999)
    quarter = np.linspace(0, np.pi / 2, steps)
    rows = []
    for lower, latitudes in ((True, quarter - np.pi / 2), (False, quarter)):
        for latitude in latitudes:
            ring = []
            for side in range(4):
                sx, sy = ((1, 1), (-1, 1), (-1, -1), (1, -1))[side]
                for longitude in quarter + side * np.pi / 2:
                    n = np.array([np.cos(latitude) * np.cos(longitude),
                                  np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
                    corner = (half - bevel) * np.array([sx, sy, -1 if lower else 1])
                    ring.append(corner + bevel * n)
            rows.append(ring)
    points = np.array(rows)
    poles = np.zeros((2, *points.shape[1:]))
    poles[0, :, 2], poles[1, :, 2] = -half[2], half[2]
    return grid(np.concatenate([poles[:1], points, poles[1:]]), wrap_columns=True)


def prism(outline: np.ndarray, z0: float, z1: float, bevel: float = 0.0) -> Mesh:
    """Returns a bevelled prism over a star-shaped outline (K, 2), from height z0 to z1."""
    outline = np.asarray(outline, np.float64)
    centre = outline.mean(0)
    away = outline - centre
    inner = centre + away * (1 - bevel / np.linalg.norm(away, axis=1, keepdims=True))

    def ring(points: np.ndarray, z: float) -> np.ndarray:
        return np.column_stack([points, np.full(len(points), z)])

    middle = np.repeat(centre[None], len(outline), 0)
    rows = [ring(middle, z0), ring(inner, z0), ring(outline, z0 + bevel),
            ring(outline, z1 - bevel), ring(inner, z1), ring(middle, z1)]
    return grid(np.stack(rows), wrap_columns=True)
