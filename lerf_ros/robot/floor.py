# SPDX-License-Identifier: Apache-2.0
"""Where on the floor a base has room, from the points of a map and from what its keyframes saw.

A cell of the floor is occupied where points of the index stand above it, up to the height of the
base. It is free where none does and keyframes saw through enough of the space above it, or where
one of them was: below a camera at the height of the robot's own its whole base had room, and on the
way from there to the next. All else is unknown, and nothing stands there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import ConvexHull, Delaunay

from lerf_ros.config.robot import RobotConfig
from lerf_ros.index.coverage import SeenSpace
from lerf_ros.index.language_index import LanguageIndex

LEVEL = 0.97        # cosine of the largest tilt of a floor, 14 degrees
OBSTACLE_POINTS = 2  # index points above a cell; one may be wrong
EXTENT = 12.0       # metres from the middle of the scene up to which cells are made
SLICE = 0.1         # metres between the heights at which it is asked what was seen
CARRIED = 0.25      # metres round the place of a camera in which somebody stood who carried it
SAME_HEIGHT = 0.1   # metres from the height of the robot's camera: then it was the robot's
NEXT_PLACE = 0.7    # metres up to which the robot drove straight from a keyframe to the next
MARGIN = 0.5        # metres of cells around points and cameras
UNDER_SHARE = 0.5   # of the cameras, under whose bases a floor reaches,
OWN_SHARE = 0.1     # or of those of the robot itself
LEAST_HEIGHT = 0.5  # times the height of the camera on the robot: so far they are above the floor
STEPS = ((1, 0), (0, 1), (1, 1), (1, -1))      # to half of the neighbours of a cell


@dataclass(frozen=True)
class FloorMap:
    """Cells (X, Y) of a level floor, world axes, metres.

    corner (2,): of the first cell. cell: edge. height: z of the floor. free, occupied (X, Y) bool;
    a cell that is neither is unknown.
    """

    corner: np.ndarray
    cell: float
    height: float
    free: np.ndarray
    occupied: np.ndarray

    @classmethod
    def of(cls, index: LanguageIndex, coverage: SeenSpace | None, T_world_cameras: np.ndarray,
           config: RobotConfig) -> FloorMap | None:
        """Makes the floor of a metric map whose z is up; None where the map shows no floor.

        T_world_cameras (K, 4, 4): of its keyframes. A map without coverage has no free cells but
        those where a camera was.
        """
        cameras = T_world_cameras[:, :3, 3]
        height = floor_height(index, cameras, config)
        if height is None:
            return None
        points = index.points_world
        middle = np.median(points[:, :2], axis=0) if coverage is None else coverage.frame[:2]
        known = np.concatenate([np.quantile(points[:, :2], (0.005, 0.995), axis=0),
                                cameras[:, :2].reshape(-1, 2)])
        low = np.maximum(known.min(0) - MARGIN, middle - EXTENT)
        high = np.minimum(known.max(0) + MARGIN, middle + EXTENT)
        shape = np.maximum(np.ceil((high - low) / config.floor_cell).astype(int), 1)
        empty = cls(low, config.floor_cell, height, np.zeros(shape, bool), np.zeros(shape, bool))
        occupied = empty._obstacles(points, config)
        seen = empty._seen(coverage, cameras, config)
        return cls(low, config.floor_cell, height, seen & ~occupied, occupied)

    def centers(self) -> np.ndarray:
        """Returns the middles (X, Y, 2) of all cells."""
        x, y = (self.corner[k] + (np.arange(self.free.shape[k]) + 0.5) * self.cell for k in (0, 1))
        return np.stack(np.meshgrid(x, y, indexing='ij'), -1)

    def cells(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cells (M, 2) of points (N, 2 or more), and which of them (N,) have one."""
        at = np.floor((points[:, :2] - self.corner) / self.cell).astype(np.int64)
        inside = ((at >= 0) & (at < self.free.shape)).all(1)
        return at[inside], inside

    def fits(self, radius: float) -> np.ndarray:
        """Returns where (X, Y) bool all cells within a radius (metres) of a cell are free."""
        padded = np.pad(self.free, 1)
        distance = distance_transform_edt(padded, sampling=self.cell)[1:-1, 1:-1]
        return np.asarray(distance - self.cell / 2 >= radius)

    def ways(self, fits: np.ndarray, place: np.ndarray, near: float) -> np.ndarray | None:
        """Returns how far (X, Y), metres, the base drives to each cell; infinite where it cannot.

        fits (X, Y) bool: cells that it may drive over. place (2,): where it is; None where no such
        cell is within `near` metres of it.
        """
        number = np.full(fits.shape, -1)
        number[fits] = np.arange(np.count_nonzero(fits))
        distance = np.linalg.norm(self.centers()[fits] - place, axis=1)
        if not len(distance) or distance.min() > near:
            return None
        links = [self._links(number, step) for step in STEPS]
        row, column, length = (np.concatenate(part) for part in zip(*links, strict=True))
        graph = coo_matrix((length, (row, column)), shape=(len(distance), len(distance))).tocsr()
        out = np.full(fits.shape, np.inf)
        start = int(distance.argmin())
        out[fits] = dijkstra(graph, directed=False, indices=start) + distance[start]
        return out

    def _links(self, number: np.ndarray, step: tuple[int, int]
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dx, dy = step
        height = number.shape[1]
        a = number[:number.shape[0] - dx, max(0, -dy):height - max(0, dy)]
        b = number[dx:, max(0, dy):height - max(0, -dy)]
        both = (a >= 0) & (b >= 0)
        return a[both], b[both], np.full(np.count_nonzero(both), self.cell * np.hypot(dx, dy))

    def _obstacles(self, points: np.ndarray, config: RobotConfig) -> np.ndarray:
        above = points[:, 2] - self.height
        at, _ = self.cells(points[(above > config.step_height) & (above < config.base_height)])
        count = np.zeros(self.free.shape, np.int64)
        np.add.at(count, tuple(at.T), 1)
        return count >= OBSTACLE_POINTS

    def _seen(self, coverage: SeenSpace | None, cameras: np.ndarray,
              config: RobotConfig) -> np.ndarray:
        centers = self.centers()
        seen = np.zeros(self.free.shape, bool)
        if coverage is not None:
            heights = np.arange(config.step_height, config.base_height, SLICE) + SLICE / 2
            share = np.zeros(self.free.shape)
            for height in heights:
                at = np.concatenate([centers, np.full((*seen.shape, 1), self.height + height)], -1)
                share += coverage.seen_through(at.reshape(-1, 3)).reshape(seen.shape)
            seen = share >= config.seen_through * len(heights)
        own = driven(cameras, self.height + config.camera_height)
        return (seen | self._within(cameras, CARRIED)
                | self._within(own, config.base_radius + config.clearance + self.cell))

    def _within(self, places: np.ndarray, radius: float) -> np.ndarray:
        """Returns which cells (X, Y) bool are within a radius of places (N, 2 or more)."""
        away = np.ones(self.free.shape, bool)
        away[tuple(self.cells(places)[0].T)] = False
        return np.zeros_like(away) if away.all() else np.asarray(
            distance_transform_edt(away, sampling=self.cell) <= radius)


def driven(cameras: np.ndarray, height: float) -> np.ndarray:
    """Returns places (N, 3) on the way of those cameras (K, 3) that were on the robot itself.

    They are those at the height of its camera. What lies between two that follow each other closely
    is part of the way; where submaps are joined their order is not that of time throughout.
    """
    own = cameras[np.abs(cameras[:, 2] - height) <= SAME_HEIGHT]
    step = np.diff(own, axis=0)
    step[np.linalg.norm(step, axis=1) > NEXT_PLACE] = 0.0
    part = np.linspace(0.0, 1.0, 20, endpoint=False)[:, None, None]
    return np.concatenate([(own[:-1] + part * step).reshape(-1, 3), own])


def floor_height(index: LanguageIndex, cameras: np.ndarray, config: RobotConfig) -> float | None:
    """Returns z, world, of the lowest level surface that cameras (K, 3) were above as on a floor.

    They were above it where bases below them stand on it at least in part: who looks ahead sees no
    floor under himself. A few suffice where it is as far below them as the floor is below the
    camera of the robot. None without such a surface: no base stands on a table round which they
    went.
    """
    heights = []
    for k in np.flatnonzero(index.planes[:, 2] >= LEVEL) if len(index.planes) else ():
        surface = index.points_world[index.segments == k]
        if len(surface) < 3 or not len(cameras):
            continue
        height = float(np.median(surface[:, 2]))
        under = Delaunay(widened(surface[:, :2], config.base_radius),
                         qhull_options='QJ').find_simplex(cameras[:, :2]) >= 0
        above = float(np.median(cameras[:, 2])) - height
        share = OWN_SHARE if abs(above - config.camera_height) <= SAME_HEIGHT else UNDER_SHARE
        if above >= LEAST_HEIGHT * config.camera_height and under.mean() >= share:
            heights.append(height)
    return min(heights, default=None)


def widened(points: np.ndarray, radius: float) -> np.ndarray:
    """Returns the corners of the convex outline of points (N, 2), moved outwards by a radius."""
    outline = points[ConvexHull(points, qhull_options='QJ').vertices]
    angle = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
    ring = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return (outline[:, None] + ring).reshape(-1, 2)
