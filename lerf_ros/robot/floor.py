# SPDX-License-Identifier: Apache-2.0
"""Where on the floor a base has room, from the points of a map and from what its keyframes saw.

A cell of the floor is occupied where points of the index stand above it, up to the height of the
base. It is free where none does and keyframes saw through enough of the space above it, or where
one of them was. All else is unknown, and nothing stands there.
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
MARGIN = 0.5        # metres of cells around points and cameras
UNDER_SHARE = 0.5   # of the cameras, which a floor reaches around
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
        height = floor_height(index, cameras, LEAST_HEIGHT * config.camera_height)
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
        # Somebody stood below each camera.
        reach = int(np.ceil(CARRIED / self.cell))
        step = np.arange(-reach, reach + 1)
        disc = np.stack(np.meshgrid(step, step), -1).reshape(-1, 2)
        disc = disc[np.linalg.norm(disc, axis=1) * self.cell <= CARRIED]
        at = (self.cells(cameras)[0][:, None] + disc).reshape(-1, 2)
        at = at[((at >= 0) & (at < seen.shape)).all(1)]
        seen[tuple(at.T)] = True
        return seen


def floor_height(index: LanguageIndex, cameras: np.ndarray, least: float) -> float | None:
    """Returns z, world, of the lowest level surface that lies under cameras (K, 3).

    least: how far the cameras are above it, in the median, at least. None without such a surface: a
    table round which they went does not lie under them.
    """
    heights = []
    for k in np.flatnonzero(index.planes[:, 2] >= LEVEL) if len(index.planes) else ():
        surface = index.points_world[index.segments == k]
        if len(surface) < 3 or not len(cameras):
            continue
        height = float(np.median(surface[:, 2]))
        outline = surface[ConvexHull(surface[:, :2], qhull_options='QJ').vertices, :2]
        under = Delaunay(outline, qhull_options='QJ').find_simplex(cameras[:, :2]) >= 0
        if np.median(cameras[:, 2]) - height >= least and under.mean() >= UNDER_SHARE:
            heights.append(height)
    return min(heights, default=None)
