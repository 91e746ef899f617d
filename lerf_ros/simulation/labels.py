# SPDX-License-Identifier: Apache-2.0
"""What everything in a scene is called: labels of pixels and of points."""

from __future__ import annotations

import numpy as np

from lerf_ros.simulation.raycast import load_open3d
from lerf_ros.simulation.room import ROOM_NAMES
from lerf_ros.simulation.scene import TabletopScene

# A point that is farther from every surface belongs to none.
REACH_M = 0.015
NO_LABEL = -1


def label_names(scene: TabletopScene) -> tuple[str, ...]:
    """The names by label: each object's query, in the order of scene.objects, then the room's.

    An object goes by what one would type to find it, so that an encoder that knows all names
    misses none for its choice of words.
    """
    return (*(thing.query for thing in scene.objects), *dict.fromkeys(ROOM_NAMES))


def part_labels(scene: TabletopScene) -> np.ndarray:
    """The label (P,) int32 of each of scene.parts: objects 0 to N - 1, then table, floor, ..."""
    room = list(dict.fromkeys(ROOM_NAMES))
    objects = [k for k, thing in enumerate(scene.objects) for _ in thing.parts]
    return np.array([*objects, *(len(scene.objects) + room.index(name) for name in ROOM_NAMES)],
                    np.int32)


class SurfaceLabels:
    """Labels of points near the surfaces of a scene."""

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
        """Labels (N,) int32 of points (N, 3), metres: that of the nearest surface of all.

        -1 where none is within `reach_m`. Beside an object's foot a point is the table's, not the
        object's, as soon as the table is nearer.
        """
        points = np.ascontiguousarray(points_world, np.float32).reshape(-1, 3)
        if not len(points):
            return np.zeros(0, np.int32)
        nearest = self._surfaces.compute_closest_points(self._tensor(points))
        distance = np.linalg.norm(nearest['points'].numpy() - points, axis=1)
        labels = self._labels[nearest['geometry_ids'].numpy()]
        return np.where(distance <= reach_m, labels, NO_LABEL).astype(np.int32)
