# SPDX-License-Identifier: Apache-2.0
"""Surface points of the field: where rendered rays end, confirmed by other views.

They are never measured points: what the field has not learned is not in the index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lerf_ros.config import IndexConfig
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.field.ray_sampling import Rays
from lerf_ros.field.volume_rendering import strongest
from lerf_ros.geometry.camera import FISHEYE, PinholeCamera, invert_pose
from lerf_ros.geometry.scene_frame import contract


@dataclass(frozen=True)
class InImage:
    """Those n of many points that lie in a view's image, whether hidden or not.

    index (n,) of the points, row and column (n,) of the nearest cell of the view's grid, distance
    (n,) from the camera.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    distance: np.ndarray


def columns(points: np.ndarray) -> np.ndarray:
    """Transposes points (N, 3) to (3, N) float32, which `in_image` reads fastest."""
    return np.ascontiguousarray(np.asarray(points).T, np.float32)


def in_image(camera: PinholeCamera, T_scene_camera: np.ndarray, step: int,
               points: np.ndarray) -> InImage:
    """Finds points (3, N) float32, scene frame, in the grid of every step-th pixel of a camera."""
    x, y, z = _in_camera(T_scene_camera, points)
    chosen = np.arange(points.shape[1])
    if camera.model != FISHEYE:
        # Most points are behind the camera or outside of its image: project only the rest.
        slope_x, slope_y = widest_slopes(camera)
        chosen = np.flatnonzero((z > 1e-6) & (np.abs(x) <= slope_x * z)
                                & (np.abs(y) <= slope_y * z))
        x, y, z = x[chosen], y[chosen], z[chosen]
    at = grid_cells(camera.project(np.stack([x, y, z], -1)), step)
    size = (len(range(step // 2, camera.width, step)), len(range(step // 2, camera.height, step)))
    inside = ((at >= 0) & (at < size)).all(1)
    return InImage(chosen[inside], at[inside, 1], at[inside, 0],
                     np.sqrt(x * x + y * y + z * z)[inside])


def _in_camera(T_scene_camera: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """Transforms to the camera's frame, by hand: products with a 3 x 3 matrix are slow."""
    T = invert_pose(T_scene_camera).astype(np.float32)
    return tuple(row[0] * points[0] + row[1] * points[1] + row[2] * points[2] + row[3]
                 for row in T[:3])


def grid_cells(pixels: np.ndarray, step: int) -> np.ndarray:
    """Returns the cells (N, 2) (column, row) nearest to pixels (N, 2), outside of it for NaN."""
    # Far outside of the image a lens polynomial exceeds what integers hold.
    near = np.clip(np.nan_to_num(pixels, nan=-1e6), -1e6, 1e6)
    return np.rint((near - 0.5 - step // 2) / step).astype(np.int64)


def widest_slopes(camera: PinholeCamera) -> np.ndarray:
    """Returns the largest |x / z| and |y / z| (2,) float32 at the rim of the image."""
    x, y = np.linspace(0, camera.width, 9), np.linspace(0, camera.height, 9)
    rim = np.concatenate([np.stack([x, np.full(9, v)], -1) for v in (0, camera.height)]
                         + [np.stack([np.full(9, v), y], -1) for v in (0, camera.width)])
    directions = camera.directions(rim)
    slopes = np.abs(directions[:, :2] / np.maximum(directions[:, 2:], 1e-3))
    return slopes.max(0).astype(np.float32)


CHUNK, GPU_CHUNK = 4096, 32768     # rays that are rendered at once


@dataclass(frozen=True)
class ViewGrid:
    """A regular grid of pixels of one keyframe, every `step`-th in both directions.

    rays (R,) in the scene frame, pixels (R, 2) their centres in the image; T_scene_camera (4, 4)
    with its translation in scene radii.
    """

    rays: Rays
    pixels: np.ndarray
    step: int
    camera: PinholeCamera
    T_scene_camera: np.ndarray


def view_grid(camera: PinholeCamera, T_scene_camera: np.ndarray, step: int,
              valid: np.ndarray | None, device: torch.device) -> ViewGrid:
    """Makes the grid of every step-th pixel, without pixels where valid (H, W) is False."""
    grid = np.meshgrid(np.arange(step // 2, camera.width, step),
                       np.arange(step // 2, camera.height, step))
    column_row = np.stack(grid, -1).reshape(-1, 2)
    if valid is not None:
        column_row = column_row[valid[column_row[:, 1], column_row[:, 0]]]
    pixels = column_row + 0.5
    directions = camera.directions(pixels) @ T_scene_camera[:3, :3].T
    origins = np.broadcast_to(T_scene_camera[:3, 3], directions.shape)
    rays = Rays(torch.tensor(origins, dtype=torch.float32, device=device),
                torch.tensor(directions, dtype=torch.float32, device=device))
    return ViewGrid(rays, pixels, step, camera, T_scene_camera)


@dataclass(frozen=True)
class PosedCamera:
    """A keyframe's camera, its pose in the scene frame, and which pixels count.

    T_scene_camera (4, 4) with its translation in scene radii; valid (H, W) or None for all. index:
    of the keyframe in the map directory, -1 where that is not known.
    """

    camera: PinholeCamera
    T_scene_camera: np.ndarray
    valid: np.ndarray | None = None
    index: int = -1


def view_grids(cameras: Sequence[PosedCamera], rays: int, device: torch.device) -> list[ViewGrid]:
    """Makes a grid for each camera with the same step, of about `rays` pixels in all."""
    pixels = sum(c.camera.width * c.camera.height for c in cameras)
    step = max(1, math.ceil(math.sqrt(pixels / rays)))
    return [view_grid(c.camera, c.T_scene_camera, step, c.valid, device) for c in cameras]


@dataclass(frozen=True)
class Surface:
    """N points with the rays that found them, scene frame.

    points (N, 3), origins (N, 3) and directions (N, 3) of the rays, distances (N, k) and weights
    (N, k) of their heaviest samples, colors (N, 3) in 0..1, keyframes (N,) that see each point.
    """

    points: Tensor
    origins: Tensor
    directions: Tensor
    distances: Tensor
    weights: Tensor
    colors: Tensor
    keyframes: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def positions(self) -> Tensor:
        """Returns where the samples are (N, k, 3)."""
        return self.origins[:, None] + self.distances[..., None] * self.directions[:, None]

    def without(self, gone: np.ndarray) -> Surface:
        """Removes the points that are gone (N,) bool."""
        return self[torch.from_numpy(~gone).to(self.points.device)]

    def __getitem__(self, keep: Tensor | slice) -> Surface:
        return Surface(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def find_surface(radiance: RadianceField, views: Sequence[ViewGrid], config: IndexConfig,
                 samples: int, seed: int = 0) -> Surface:
    """Renders all views and returns opaque, confirmed points, one to a voxel.

    Raises ValueError when there is no view.
    """
    return confirmed_surface(views, *render_views(radiance, views, config, samples), config, seed)


def render_views(radiance: RadianceField, views: Sequence[ViewGrid], config: IndexConfig,
                 samples: int) -> tuple[list[Surface], list[np.ndarray]]:
    """Renders each view's opaque points and depths (rows, columns), NaN where transparent."""
    rendered = [opaque_part(view, *ends, config)
                for view, ends in zip(views, view_ends(radiance, views, samples), strict=True)]
    return [surface for surface, _ in rendered], [depth for _, depth in rendered]


@torch.no_grad()
def confirmed_surface(views: Sequence[ViewGrid], surfaces: Sequence[Surface],
                      depths: Sequence[np.ndarray], config: IndexConfig, seed: int = 0) -> Surface:
    """Returns the views' points that enough other views confirm, one to a voxel."""
    points = _join(surfaces)
    points = points[one_per_voxel(points.points, config.voxel, seed)]
    seen = count_views(points.points.cpu().numpy(), views, depths, config.depth_tolerance)
    points = replace(points, keyframes=torch.from_numpy(seen).to(points.points.device))
    points = points[points.keyframes >= needed_views(config.min_keyframes, len(views))]
    if len(points) > config.max_points:
        generator = torch.Generator().manual_seed(seed)
        points = points[torch.randperm(len(points), generator=generator)[:config.max_points]]
    return points


def needed_views(wanted: int, views: int) -> int:
    """Returns how many views must see a point: `wanted`, but 2 to a fifth of all.

    LERF leaves out samples that fewer than 5 training views see; a short capture has too few. The
    view that found a point counts.
    """
    return min(max(2, min(wanted, views // 5)), views) if wanted > 1 else 1


def all_rays(radiance: RadianceField, view: ViewGrid, samples: int) -> tuple[Surface, Tensor]:
    """Renders where each ray of a view ends, opaque or not, and its accumulation (R,)."""
    return view_ends(radiance, [view], samples)[0]


@torch.no_grad()
def view_ends(radiance: RadianceField, views: Sequence[ViewGrid], samples: int,
              every: int = 1) -> list[tuple[Surface, Tensor]]:
    """Renders where every `every`-th ray of each view ends, and its accumulation (R,).

    Returns one pair for each view; the rays of all views are rendered in shared chunks.
    """
    if not views:
        return []
    asked = [view.rays[::every] for view in views]
    rays = Rays(torch.cat([some.origins for some in asked]),
                torch.cat([some.directions for some in asked]))
    parts, accumulations = [], []
    chunk = GPU_CHUNK if rays.origins.device.type == 'cuda' else CHUNK
    for start in range(0, len(rays), chunk):
        some = rays[start:start + chunk]
        out = radiance(some)
        weights, middle = strongest(out.weights, out.edges, samples)
        parts.append(Surface(some.origins + out.distance[:, None] * some.directions, some.origins,
                             some.directions, middle, weights, out.color,
                             torch.ones_like(out.distance)))
        accumulations.append(out.accumulation)
    ends, accumulation = _join(parts), torch.cat(accumulations)
    bounds = np.cumsum([0, *map(len, asked)]).tolist()
    return [(ends[slice(*pair)], accumulation[slice(*pair)]) for pair in pairwise(bounds)]


def opaque_part(view: ViewGrid, ends: Surface, accumulation: Tensor,
                config: IndexConfig) -> tuple[Surface, np.ndarray]:
    """Returns the opaque points of a view and its depths (rows, columns), NaN where transparent."""
    opaque = accumulation >= config.min_accumulation
    distance = (ends.points - ends.origins).norm(dim=-1)
    distance = torch.where(opaque, distance, torch.full_like(distance, float('nan')))
    shape = (len(range(view.step // 2, view.camera.height, view.step)),
             len(range(view.step // 2, view.camera.width, view.step)))
    grid = np.full(shape, np.nan)
    column_row = grid_cells(view.pixels, view.step)
    grid[column_row[:, 1], column_row[:, 0]] = distance.cpu().numpy()
    return ends[opaque], grid


def _join(parts: Sequence[Surface]) -> Surface:
    if not parts:
        raise ValueError('no view to take surface points from')
    return Surface(*(torch.cat([getattr(p, name) for p in parts])
                     for name in Surface.__dataclass_fields__))


def one_per_voxel(points: Tensor, voxel: float, seed: int) -> Tensor:
    """Draws the index of one point in each voxel; voxels grow outwards as contraction does."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    if voxel <= 0:
        return order.to(points.device)
    # contract() divides the unit cube by 4.
    cells = (contract(points[order.to(points.device)]) * (4 / voxel)).long().cpu().numpy()
    _, first = np.unique(cells, axis=0, return_index=True)
    return order[torch.from_numpy(np.sort(first))].to(points.device)


def newest_keyframes(points: np.ndarray, cameras: Sequence[PosedCamera],
                     views: Sequence[ViewGrid], depths: Sequence[np.ndarray],
                     config: IndexConfig) -> np.ndarray:
    """Finds the newest keyframe (N,) int32, by index, that saw each point (N, 3), scene frame.

    It is -1 where none is known.

    The views, of these cameras, are gone through from the newest on, and only with the points that
    none has shown yet.
    """
    newest, left = np.full(len(points), -1, np.int32), np.arange(len(points))
    order = sorted(range(len(views)), key=lambda k: -cameras[k].index)
    for k in order:
        if not len(left) or cameras[k].index < 0:
            break
        seen = count_views(points[left], [views[k]], [depths[k]], config.depth_tolerance) > 0
        newest[left[seen]] = cameras[k].index
        left = left[~seen]
    return newest


def count_views(points: np.ndarray, views: Sequence[ViewGrid], depths: Sequence[np.ndarray],
                tolerance: float) -> np.ndarray:
    """Counts the views (N,) with a surface at each point (N, 3), within tolerance * depth."""
    seen = np.zeros(len(points), np.int32)
    rows = columns(points)
    for view, depth in zip(views, depths, strict=True):
        shown = in_image(view.camera, view.T_scene_camera, view.step, rows)
        error = np.abs(depth[shown.row, shown.column] - shown.distance)
        seen[shown.index] += error <= tolerance * shown.distance   # NaN compares as False
    return seen
