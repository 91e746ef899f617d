# SPDX-License-Identifier: Apache-2.0
"""An index without a field: the encoder's embeddings, averaged on measured surface points.

Nothing is trained. Each point holds the mean of what all keyframes that see it say of it, at each
of the physical widths that the encoder was asked at; segments and places are then found as in the
index of a field. The evaluation compares the field with it, and a map with `training.field: none`
is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch

from lerf_ros.config import IndexConfig, LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.coverage import measure_coverage
from lerf_ros.index.language_index import LanguageIndex, as_stored, economical_basis
from lerf_ros.index.planes import surface_normals
from lerf_ros.index.scales import searched_scales
from lerf_ros.index.second_look import LookAgain
from lerf_ros.index.segments import PointCloud, find_segments
from lerf_ros.index.surface import (
    PosedCamera,
    ViewGrid,
    grid_cells,
    needed_views,
    newest_keyframes,
    one_per_voxel,
    view_grids,
)
from lerf_ros.index.survey import Survey, weak_areas
from lerf_ros.mapping.embedding_sums import EmbeddingSums
from lerf_ros.training.scene_measurement import depth_points

ACROSS = 80              # so many points lie across an image at least, where it has the pixels
DEPTH_TOLERANCE = 0.02   # a view sees a point if its depth differs by at most this fraction
AROUND = 5               # pixels on a side: all of them lie behind what is looked through
TOGETHER = 4096          # points whose embeddings are compressed at once

Gone = Callable[[np.ndarray], np.ndarray]


class Seeing(NamedTuple):
    """How far from a measured depth, for z-depths (M,), a point is seen, and what it counts.

    through: whether views that look through the place of a point are counted.
    """

    tolerance: Callable[[np.ndarray], np.ndarray]
    weight: Callable[[np.ndarray], np.ndarray]
    through: bool = False


PLAIN = Seeing(lambda z: DEPTH_TOLERANCE * z, np.ones_like, through=True)


@dataclass(frozen=True)
class FusedPoints:
    """N points with what the frames show there.

    points (N, 3), world. colors (N, 3), 0..1. seen (N,): frames that see each. through (N,): newer
    ones that look through its place. origins (N, 3), world: a camera that sees it. embeddings
    (N, S, D): sums over the frames. dense (N, C): unit.
    """

    points: np.ndarray
    colors: np.ndarray
    seen: np.ndarray
    through: np.ndarray
    origins: np.ndarray
    embeddings: np.ndarray
    dense: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> FusedPoints:
        return FusedPoints(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def fused_survey(frames: Sequence[Frame], indices: Sequence[int],
                 features: Sequence[KeyframeFeatures], scene: SceneFrame, config: LerfConfig,
                 gone: Gone | None = None, look: LookAgain | None = None) -> Survey:
    """Indexes the surfaces of frames with their language, as `lerf.index` does with a field.

    indices: of the frames in their map. look: at the things that were found; None for no second
    looks. Raises ValueError when no frame has depth.
    """
    c, index = config.index, fuse(frames, features, scene, config, gone)
    cameras, views, depths = measured_views(frames, indices, scene, c)
    points = scene.to_scene(index.points_world)
    index = replace(index, newest=newest_keyframes(points, cameras, views, depths, c))
    if look is not None:
        index = replace(index, looks=look(index, scene, cameras, views, depths))
    measured = scene.to_scene(np.concatenate([depth_points(frame) for frame in frames]))
    weak = weak_areas(views, torch.from_numpy(measured.astype(np.float32)), depths, c)
    return Survey(index, measure_coverage(views, depths, scene, c.coverage_cells,
                                          c.min_keyframes), scene.to_world(weak))


def fuse(frames: Sequence[Frame], features: Sequence[KeyframeFeatures], scene: SceneFrame,
         config: LerfConfig, gone: Gone | None = None) -> LanguageIndex:
    """Builds an index of the mean embeddings of all views that see each measured point.

    There is one point at most in a voxel of the index, and enough views must see it, as in the
    index of a field. gone: which of points (N, 3), world, are known to have gone, (N,) bool. Raises
    ValueError when no frame has depth.
    """
    measured = np.concatenate([depth_points(frame, max(frame.camera.width // ACROSS, 1))
                               for frame in frames])
    if not len(measured):
        raise ValueError('fusion needs frames with depth')
    points = spread(measured, scene, config.index)
    if gone is not None:
        points = points[~gone(points)]
    return fused_index(averaged(points, frames, features, scene, config, PLAIN), len(frames),
                       scene, config)


def spread(points_world: np.ndarray, scene: SceneFrame, config: IndexConfig) -> np.ndarray:
    """Returns one of the points (N, 3) in each voxel of the index, at most its max_points."""
    at = torch.from_numpy(scene.to_scene(points_world).astype(np.float32))
    chosen = one_per_voxel(at, config.voxel, seed=0).numpy()
    if len(chosen) > config.max_points:
        chosen = np.random.default_rng(0).permutation(chosen)[:config.max_points]
    return points_world[chosen]


def averaged(points: np.ndarray, frames: Sequence[Frame], features: Sequence[KeyframeFeatures],
             scene: SceneFrame, config: LerfConfig, seeing: Seeing) -> FusedPoints:
    """Sums what the frames that see the points (N, 3), world, show there, oldest frames first."""
    widths = [width * scene.radius for width in config.features.widths]
    dimension = features[0].levels[0].vocabulary.shape[1]
    sums = EmbeddingSums(len(points), widths, dimension)
    dense = np.zeros((len(points), features[0].dense.shape[2]), np.float32)
    color, weights = np.zeros((len(points), 3)), np.zeros(len(points))
    seen, through = np.zeros((2, len(points)), np.int32)
    origins = np.zeros((len(points), 3))
    for frame, feature in zip(frames, features, strict=True):
        if frame.depth_m is None:
            continue
        visible, pixels, z, behind = visible_in(points, frame, seeing)
        weight = seeing.weight(z)
        through[behind] += 1
        through[visible] = 0
        color[visible] += weight[:, None] * frame.image[tuple(pixels.astype(int).T[::-1])]
        weights[visible] += weight
        seen[visible] += 1
        origins[visible] = frame.T_world_camera[:3, 3]
        dense[visible] += weight[:, None] * dense_at(feature.dense, frame, pixels)
        sums.add(feature.levels, visible, pixels, frame.camera.fx / z, weight)
    length = np.linalg.norm(dense, axis=1, keepdims=True)
    return FusedPoints(points, color / np.maximum(weights, 1e-12)[:, None] / 255, seen,
                       through, origins, sums.total(), dense / np.maximum(length, 1e-6))


def fused_index(fused: FusedPoints, frames: int, scene: SceneFrame,
                config: LerfConfig) -> LanguageIndex:
    """Makes an index, with segments, of the points that enough of so many frames see.

    Those that newer frames look through have gone.
    """
    there = fused.through < (config.keyframes.stale_views or len(fused.seen))
    fused = fused[there & (fused.seen >= needed_views(config.index.min_keyframes, frames))]
    points, middle = scene.to_scene(fused.points), np.asarray(scene.center, np.float64)
    codes, basis = compressed(fused.embeddings, points, config.index)
    normals = surface_normals(points, scene.to_scene(fused.origins)) if len(points) \
        else np.zeros((0, 3))
    segments, planes = find_segments(PointCloud(points, normals, fused.colors, fused.dense),
                                     config.index)
    scales = [width * scene.radius for width in config.features.widths]
    return LanguageIndex(
        (fused.points - middle).astype(np.float32), (fused.colors * 255).round().astype(np.uint8),
        fused.seen, codes, basis, np.asarray(searched_scales(scales), np.float32),
        normals.astype(np.float16), segments, planes * [1.0, 1.0, 1.0, scene.radius], middle)


def compressed(embeddings: np.ndarray, points: np.ndarray,
               config: IndexConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns stored unit codes (S, N, r) of embeddings (N, S, D), and their basis (D, r).

    points (N, 3), scene frame: of the embeddings; no part of the map loses much.
    """
    rows = torch.from_numpy(embeddings)
    basis = economical_basis(
        torch.from_numpy(points.astype(np.float32)), rows.shape[1], rows.shape[2],
        lambda chosen: torch.nn.functional.normalize(rows[chosen], dim=-1, eps=1e-6), config)
    codes = torch.cat([torch.nn.functional.normalize(part @ basis, dim=-1, eps=1e-6)
                       for part in rows.split(TOGETHER)])
    return as_stored(codes.transpose(0, 1).contiguous()), basis.numpy()


def dense_at(dense: np.ndarray, frame: Frame, pixels: np.ndarray) -> np.ndarray:
    """Returns the dense features (N, C) of the cells (rows, columns, C) that hold pixels (N, 2)."""
    rows, columns = dense.shape[:2]
    cells = pixels * [columns / frame.camera.width, rows / frame.camera.height]
    column, row = cells.astype(int).T
    return dense[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)].astype(np.float32)


def visible_in(points: np.ndarray, frame: Frame, seeing: Seeing
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns indices (M,) of the points (N, 3), world, that a frame with depth sees.

    Also returns their pixels (M, 2) and z-depths (M,), and the indices of those that it looks
    through: all depth around them lies behind.
    """
    assert frame.depth_m is not None
    index, pixels, z, measured = in_depth(points, frame, frame.depth_m)
    with np.errstate(invalid='ignore'):
        same = np.abs(measured - z) <= seeing.tolerance(z)
        behind = index[:0]
        if seeing.through:
            nearest = cv2.erode(np.nan_to_num(frame.depth_m), np.ones((AROUND, AROUND), np.uint8))
            around = in_depth(points[index], frame, nearest)[3]
            behind = index[around - z > seeing.tolerance(z)]
    return index[same], pixels[index[same]], z[same], behind


def in_depth(points: np.ndarray, frame: Frame, depth_m: np.ndarray
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns which points (N, 3), world, lie in the image of a frame, by index (M,).

    Also returns the pixels (N, 2) of all points, and of those M their z-depths (M,) and the values
    (M,) of depth_m (H, W) there, 0 or NaN where none is known.
    """
    in_camera = transform_points(invert_pose(frame.T_world_camera), points)
    pixels = frame.camera.project(in_camera)
    ahead = np.isfinite(pixels).all(1) & (in_camera[:, 2] > 0)
    cells = np.floor(np.where(ahead[:, None], np.clip(pixels, -1e6, 1e6), -1.0)).astype(int)
    inside = ahead & (cells >= 0).all(1) & (cells[:, 0] < frame.camera.width) & (
        cells[:, 1] < frame.camera.height)
    index = np.flatnonzero(inside)
    row, column = cells[index, 1], cells[index, 0]
    measured = depth_m[row, column]
    if frame.valid is not None:
        measured = np.where(frame.valid[row, column], measured, 0)
    return index, pixels, in_camera[index, 2], measured


def measured_views(frames: Sequence[Frame], indices: Sequence[int], scene: SceneFrame,
                   config: IndexConfig) -> tuple[list[PosedCamera], list[ViewGrid],
                                                 list[np.ndarray]]:
    """Returns the cameras of frames, with grids of about config.rays pixels, and measured depths.

    indices: of the frames in their map. The depths (rows, columns) are distances in scene radii,
    NaN where none was measured: they take the place of what a field would render.
    """
    cameras = [PosedCamera(frame.camera, scene.pose_to_scene(frame.T_world_camera), frame.valid,
                           index) for frame, index in zip(frames, indices, strict=True)]
    grids = view_grids(cameras, config.rays, torch.device('cpu'))
    return cameras, grids, [measured_distances(frame, grid, scene.radius)
                            for frame, grid in zip(frames, grids, strict=True)]


def measured_distances(frame: Frame, grid: ViewGrid, radius: float) -> np.ndarray:
    """Returns the distances (rows, columns) from a frame's camera, scene radii, at its grid."""
    step, camera = grid.step, frame.camera
    out = np.full((len(range(step // 2, camera.height, step)),
                   len(range(step // 2, camera.width, step))), np.nan)
    if frame.depth_m is None or not len(grid.pixels):
        return out
    column, row = np.floor(grid.pixels).astype(int).T
    z = frame.depth_m[row, column].astype(np.float64)
    distance = z / camera.directions(grid.pixels)[:, 2] / radius
    cells = grid_cells(grid.pixels, step)
    out[cells[:, 1], cells[:, 0]] = np.where(z > 0, distance, np.nan)
    return out
