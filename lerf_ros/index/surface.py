# SPDX-License-Identifier: Apache-2.0
"""Surface points of the field: where rendered rays end, confirmed from other views.

Never sensor points: what the field has not learned is not in the index.
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
class InPicture:
    """Those n of many points that a view's grid shows, were nothing before them.

    index (n,) of the points, row and column (n,) of the nearest cell of the grid, distance (n,)
    from the camera.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    distance: np.ndarray


def columns(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) as (3, N) float32, as `in_picture` reads them fastest."""
    return np.ascontiguousarray(np.asarray(points).T, np.float32)


def in_picture(camera: PinholeCamera, T_scene_camera: np.ndarray, step: int,
               points: np.ndarray) -> InPicture:
    """Points (3, N) float32, scene frame, in a grid of every step-th pixel of a camera."""
    x, y, z = _in_camera(T_scene_camera, points)
    chosen = np.arange(points.shape[1])
    if camera.model != FISHEYE:
        # Most points are behind a camera or beside its picture; the lens is asked about the rest.
        slope_x, slope_y = widest_slopes(camera)
        chosen = np.flatnonzero((z > 1e-6) & (np.abs(x) <= slope_x * z)
                                & (np.abs(y) <= slope_y * z))
        x, y, z = x[chosen], y[chosen], z[chosen]
    at = grid_cells(camera.project(np.stack([x, y, z], -1)), step)
    size = (len(range(step // 2, camera.width, step)), len(range(step // 2, camera.height, step)))
    inside = ((at >= 0) & (at < size)).all(1)
    return InPicture(chosen[inside], at[inside, 1], at[inside, 0],
                     np.sqrt(x * x + y * y + z * z)[inside])


def _in_camera(T_scene_camera: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coordinates in the camera's frame; by hand, since a product with a 3 x 3 matrix is slow."""
    T = invert_pose(T_scene_camera).astype(np.float32)
    return tuple(row[0] * points[0] + row[1] * points[1] + row[2] * points[2] + row[3]
                 for row in T[:3])


def grid_cells(pixels: np.ndarray, step: int) -> np.ndarray:
    """Cells (N, 2) (column, row) of every step-th pixel nearest to pixels (N, 2); NaN is none."""
    # Far outside of the image a lens polynomial goes to where integers end.
    near = np.clip(np.nan_to_num(pixels, nan=-1e6), -1e6, 1e6)
    return np.rint((near - 0.5 - step // 2) / step).astype(np.int64)


def widest_slopes(camera: PinholeCamera) -> np.ndarray:
    """The largest |x / z| and |y / z| (2,) float32 that the rim of the picture sees."""
    x, y = np.linspace(0, camera.width, 9), np.linspace(0, camera.height, 9)
    rim = np.concatenate([np.stack([x, np.full(9, v)], -1) for v in (0, camera.height)]
                         + [np.stack([np.full(9, v), y], -1) for v in (0, camera.width)])
    directions = camera.directions(rim)
    slopes = np.abs(directions[:, :2] / np.maximum(directions[:, 2:], 1e-3))
    return slopes.max(0).astype(np.float32)


CHUNK = 4096   # rays rendered at once


@dataclass(frozen=True)
class View:
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
              valid: np.ndarray | None, device: torch.device) -> View:
    """The view that asks every step-th pixel; pixels where valid (H, W) is False are left out."""
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
    return View(rays, pixels, step, camera, T_scene_camera)


@dataclass(frozen=True)
class PosedCamera:
    """A keyframe's camera, where it stands in the scene frame, and which pixels count.

    T_scene_camera (4, 4) with its translation in scene radii; valid (H, W) or None for all.
    """

    camera: PinholeCamera
    T_scene_camera: np.ndarray
    valid: np.ndarray | None = None


def view_grids(cameras: Sequence[PosedCamera], rays: int, device: torch.device) -> list[View]:
    """Every so many pixels of all cameras, about `rays` in all."""
    pixels = sum(c.camera.width * c.camera.height for c in cameras)
    step = max(1, math.ceil(math.sqrt(pixels / rays)))
    return [view_grid(c.camera, c.T_scene_camera, step, c.valid, device) for c in cameras]


@dataclass(frozen=True)
class Surface:
    """N points with the samples of the rays that found them, scene frame.

    points (N, 3), directions (N, 3) of the rays, origins (N, 3), distances (N, k) and weights
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
        """Where the samples are (N, k, 3)."""
        return self.origins[:, None] + self.distances[..., None] * self.directions[:, None]

    def without(self, gone: np.ndarray) -> Surface:
        """Returns all points but those that are gone (N,) bool."""
        return self[torch.from_numpy(~gone).to(self.points.device)]

    def __getitem__(self, keep: Tensor | slice) -> Surface:
        return Surface(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def find_surface(radiance: RadianceField, views: Sequence[View], config: IndexConfig,
                 samples: int, seed: int = 0) -> Surface:
    """Renders all views and keeps opaque, confirmed points, one to a voxel.

    Raises ValueError when there is no view.
    """
    return confirmed_surface(views, *render_views(radiance, views, config, samples), config, seed)


def render_views(radiance: RadianceField, views: Sequence[View], config: IndexConfig,
                 samples: int) -> tuple[list[Surface], list[np.ndarray]]:
    """Each view's opaque points, and its depths (rows, columns), NaN where it is transparent."""
    rendered = [opaque_part(view, *ends, config)
                for view, ends in zip(views, view_ends(radiance, views, samples), strict=True)]
    return [surface for surface, _ in rendered], [depth for _, depth in rendered]


@torch.no_grad()
def confirmed_surface(views: Sequence[View], surfaces: Sequence[Surface],
                      depths: Sequence[np.ndarray], config: IndexConfig, seed: int = 0) -> Surface:
    """Those of the views' points that enough other views confirm, one to a voxel."""
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
    """How many of the views must see a point: as wanted, but at most a fifth of all, at least 2.

    LERF leaves out samples seen by fewer than 5 training views; a short capture has no five. The
    view that found a point counts.
    """
    return min(max(2, min(wanted, views // 5)), views) if wanted > 1 else 1


def all_rays(radiance: RadianceField, view: View, samples: int) -> tuple[Surface, Tensor]:
    """Where each ray of a view ends, opaque or not, and its accumulation (R,)."""
    return view_ends(radiance, [view], samples)[0]


@torch.no_grad()
def view_ends(radiance: RadianceField, views: Sequence[View], samples: int,
              every: int = 1) -> list[tuple[Surface, Tensor]]:
    """The same of every so-manieth ray of many views, which share their chunks."""
    if not views:
        return []
    asked = [view.rays[::every] for view in views]
    rays = Rays(torch.cat([some.origins for some in asked]),
                torch.cat([some.directions for some in asked]))
    parts, accumulations = [], []
    for start in range(0, len(rays), CHUNK):
        some = rays[start:start + CHUNK]
        out = radiance(some)
        weights, middle = strongest(out.weights, out.edges, samples)
        parts.append(Surface(some.origins + out.distance[:, None] * some.directions, some.origins,
                             some.directions, middle, weights, out.color,
                             torch.ones_like(out.distance)))
        accumulations.append(out.accumulation)
    ends, accumulation = _join(parts), torch.cat(accumulations)
    bounds = np.cumsum([0, *map(len, asked)]).tolist()
    return [(ends[slice(*pair)], accumulation[slice(*pair)]) for pair in pairwise(bounds)]


def opaque_part(view: View, ends: Surface, accumulation: Tensor,
                config: IndexConfig) -> tuple[Surface, np.ndarray]:
    """The opaque points of a view, and its depth grid (rows, columns), NaN where transparent."""
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
    """Indices of one random point in each voxel; voxels grow with distance, as contraction does."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    if voxel <= 0:
        return order.to(points.device)
    # contract() divides the unit cube by 4.
    cells = (contract(points[order.to(points.device)]) * (4 / voxel)).long().cpu().numpy()
    _, first = np.unique(cells, axis=0, return_index=True)
    return order[torch.from_numpy(np.sort(first))].to(points.device)


def count_views(points: np.ndarray, views: Sequence[View], depths: Sequence[np.ndarray],
                tolerance: float) -> np.ndarray:
    """How many views (N,) have a surface where each point (N, 3) is, within a part of its depth."""
    seen = np.zeros(len(points), np.int32)
    rows = columns(points)
    for view, depth in zip(views, depths, strict=True):
        shown = in_picture(view.camera, view.T_scene_camera, view.step, rows)
        error = np.abs(depth[shown.row, shown.column] - shown.distance)
        seen[shown.index] += error <= tolerance * shown.distance   # NaN compares as False
    return seen
