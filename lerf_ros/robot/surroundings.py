# SPDX-License-Identifier: Apache-2.0
"""What an arm must not hit around a hit: its own box and points, and the boxes of all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from lerf_ros.config import QueryConfig
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import Hit
from lerf_ros.query.boxes import OrientedBox, upright_box

LEAST_EDGE = 0.005      # metres: a box of a flat thing is at least so thick
THIN = 0.02             # metres: thickness of the box of a supporting surface, downwards
ROUNDING = 1e-4         # metres by which single precision moves a point at most
LEAST_POINTS = 8        # of a segment that becomes a box


@dataclass(frozen=True)
class CollisionBox:
    """A thing to keep off, as a box: name, T_world_box (4, 4), size (3,) along its axes."""

    name: str
    T_world_box: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class CollisionMesh:
    """The convex hull of a thing's points: vertices (V, 3) world, triangles (F, 3) outward."""

    name: str
    vertices: np.ndarray
    triangles: np.ndarray


@dataclass(frozen=True)
class Surroundings:
    """What lies around a hit, world frame.

    target: the hit's own box. mesh: the hull of its points; None where they span no volume.
    points (M, 3): its own. others: boxes of the segments within reach, nearest first; those of
    supporting surfaces (tables, floors) are named `surface_`, things `thing_`, with the number of
    the segment.
    """

    target: CollisionBox
    mesh: CollisionMesh | None
    points: np.ndarray
    others: tuple[CollisionBox, ...]


def surroundings(hit: Hit, index: LanguageIndex, config: QueryConfig, reach: float) -> Surroundings:
    """Returns what an arm must know around a hit of a map whose z is up.

    reach: world units from the middle of the hit within which segments count.
    """
    world = index.points_world
    own = own_points(hit, index)
    distance = np.linalg.norm(world - hit.position, axis=1)
    taken = set(np.unique(index.segments[own]).tolist())
    found: list[tuple[float, CollisionBox]] = []
    for segment in np.unique(index.segments[(distance <= reach) & (index.segments >= 0)]).tolist():
        members = np.flatnonzero((index.segments == segment) & (distance <= reach))
        surface = segment < len(index.planes)
        if (segment in taken and not surface) or len(members) < LEAST_POINTS:
            continue
        box = (_surface_box if surface else _thing_box)(world[members], config)
        found.append((float(distance[members].min()), as_box(
            f'{"surface" if surface else "thing"}_{segment}', box)))
    target = CollisionBox(hit.label or 'target', _pose(hit.position, hit.rotation),
                          np.maximum(hit.size, LEAST_EDGE))
    return Surroundings(target, hull(target.name, world[own]), world[own],
                        tuple(box for _, box in sorted(found, key=lambda pair: pair[0])))


def own_points(hit: Hit, index: LanguageIndex) -> np.ndarray:
    """Returns the indices (M,) of the points in a hit's box, without those of the surface below it.
    """
    box = OrientedBox(hit.position, hit.rotation, hit.size)
    inside = box.contains(index.points_world, ROUNDING)
    thing = inside & (index.segments >= len(index.planes))
    return np.flatnonzero(thing if thing.any() else inside)


def hull(name: str, points: np.ndarray) -> CollisionMesh | None:
    """Returns the convex hull of points (M, 3); None where they span no volume."""
    if len(points) < 4:
        return None
    try:
        faces = ConvexHull(points)
    except QhullError:      # all points on a plane or a line
        return None
    triangles = faces.simplices.copy()
    a, b, c = (points[triangles[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * faces.equations[:, :3]).sum(1) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    number = np.full(len(points), -1)
    number[faces.vertices] = np.arange(len(faces.vertices))
    return CollisionMesh(name, points[faces.vertices], number[triangles])


def as_box(name: str, box: OrientedBox) -> CollisionBox:
    """Returns a box with a name, at least LEAST_EDGE thick."""
    return CollisionBox(name, _pose(box.center, box.rotation), np.maximum(box.size, LEAST_EDGE))


def _thing_box(points: np.ndarray, config: QueryConfig) -> OrientedBox:
    return upright_box(points, np.zeros((0, 4)), 0.0, config.box_trim)


def _surface_box(points: np.ndarray, config: QueryConfig) -> OrientedBox:
    """Returns the box of the part of a surface within reach: from its points THIN downwards.

    One that is no level surface, such as a wall, has the box of its points.
    """
    box = upright_box(points, np.zeros((0, 4)), 0.0, config.box_trim)
    if box.size[2] > box.size[:2].min():
        return box
    top = float(np.median(points[:, 2]))
    center, size = box.center.copy(), box.size.copy()
    center[2], size[2] = top - THIN / 2, THIN
    return OrientedBox(center, box.rotation, size)


def _pose(position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, position
    return T
