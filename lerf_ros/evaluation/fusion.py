# SPDX-License-Identifier: Apache-2.0
"""The baseline without a field: encoder features are averaged on the points of RGB-D frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.index.language_index import LanguageIndex, as_stored
from lerf_ros.index.planes import surface_normals
from lerf_ros.index.scales import searched_scales
from lerf_ros.index.segments import PointCloud, find_segments
from lerf_ros.training.scene_measurement import depth_points

STEP = 8                 # every eighth pixel in both directions gives a point
DEPTH_TOLERANCE = 0.02   # a view sees a point if its depth differs by at most this fraction


def fuse(frames: Sequence[Frame], features: Sequence[KeyframeFeatures],
         scales_world: Sequence[float], voxel: float, config: LerfConfig) -> LanguageIndex:
    """Builds an index of the mean embeddings, at each scale, of all views that see a point.

    scales_world: physical widths, world units. voxel: edge of the cubes that hold at most one
    point, world units. Raises ValueError when no frame has depth.
    """
    points = _one_per_voxel(np.concatenate([depth_points(f, STEP) for f in frames]), voxel,
                            config.index.max_points)
    if not len(points):
        raise ValueError('fusion needs frames with depth')
    dimension = features[0].levels[0].vocabulary.shape[1]
    total = np.zeros((len(points), len(scales_world), dimension), np.float32)
    color, seen = np.zeros((len(points), 3)), np.zeros(len(points), np.int32)
    origins = np.zeros((len(points), 3))
    for frame, feature in zip(frames, features, strict=True):
        visible, pixels, z = _visible(points, frame)
        color[visible] += frame.image[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
        seen[visible] += 1
        origins[visible] = frame.T_world_camera[:3, 3]
        for s, scale in enumerate(scales_world):
            width_px = scale * frame.camera.fx / z
            total[visible, s] += sample_width(feature.levels, pixels, width_px)
    kept = seen > 0
    codes, basis = _compress(total[kept], config.index.rank)
    points, color = points[kept], color[kept] / seen[kept, None] / 255
    # Segmentation works in scene radii; the origin does not matter.
    middle, radius = points.mean(0), voxel / config.index.voxel
    scaled = (points - middle) / radius
    normals = surface_normals(scaled, (origins[kept] - middle) / radius)
    segments, planes = find_segments(PointCloud(scaled, normals, color, np.zeros((len(points), 0))),
                                     config.index)
    return LanguageIndex(
        (points - middle).astype(np.float32), (color * 255).astype(np.uint8), seen[kept], codes,
        basis, np.asarray(searched_scales(scales_world), np.float32), normals.astype(np.float16),
        segments, planes * [1.0, 1.0, 1.0, radius], middle)


def sample_width(levels: Sequence[EmbeddingMap], pixels: np.ndarray,
                 width_px: np.ndarray) -> np.ndarray:
    """Returns embeddings (N, D) at pixels (N, 2) for widths (N,), between the nearest levels."""
    log_width = np.log([level.width_px for level in levels])
    at = np.interp(np.log(width_px), log_width, np.arange(len(levels)))
    out = np.zeros((len(pixels), levels[0].vocabulary.shape[1]), np.float32)
    for i, level in enumerate(levels):
        part = np.clip(1 - np.abs(at - i), 0, 1)
        used = part > 0
        if used.any():
            out[used] += part[used, None] * level.sample(pixels[used])
    return out


def _visible(points: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns indices (M,) of the points that a frame sees, their pixels (M, 2) and depths (M,)."""
    assert frame.depth_m is not None
    in_camera = transform_points(invert_pose(frame.T_world_camera), points)
    pixels = frame.camera.project(in_camera)
    ahead = np.isfinite(pixels).all(1) & (in_camera[:, 2] > 0)
    cells = np.floor(np.where(ahead[:, None], np.clip(pixels, -1e6, 1e6), -1.0)).astype(int)
    inside = ahead & (cells >= 0).all(1) & (cells[:, 0] < frame.camera.width) & (
        cells[:, 1] < frame.camera.height)
    index = np.flatnonzero(inside)
    measured = frame.depth_m[cells[index, 1], cells[index, 0]]
    z = in_camera[index, 2]
    with np.errstate(invalid='ignore'):
        same = np.abs(measured - z) <= DEPTH_TOLERANCE * z
    if frame.valid is not None:
        same &= frame.valid[cells[index, 1], cells[index, 0]]
    return index[same], pixels[index[same]], z[same]


def _one_per_voxel(points: np.ndarray, voxel: float, at_most: int) -> np.ndarray:
    order = np.random.default_rng(0).permutation(len(points))
    _, first = np.unique(np.floor(points[order] / voxel).astype(np.int64), axis=0,
                         return_index=True)
    return points[order[np.sort(first)[:at_most]]]


def _compress(rows: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns stored unit codes (S, N, r) of embeddings (N, S, D), and their basis (D, r)."""
    flat = torch.from_numpy(rows.reshape(-1, rows.shape[-1]))
    sample = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:20000]]
    basis = torch.linalg.eigh(sample.T @ sample)[1].flip(-1)[:, :rank].contiguous()
    codes = torch.nn.functional.normalize(flat @ basis, dim=-1, eps=1e-6)
    return as_stored(codes.reshape(*rows.shape[:2], -1).transpose(0, 1)), basis.numpy()
