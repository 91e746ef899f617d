# SPDX-License-Identifier: Apache-2.0
"""The language index: surface points with the embeddings that the language field renders there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lerf_ros.config import IndexConfig
from lerf_ros.field.language_field import LanguageField
from lerf_ros.geometry.scene_frame import SceneFrame, contract
from lerf_ros.index.groups import PointGroups
from lerf_ros.index.looks import SecondLooks
from lerf_ros.index.planes import surface_normals
from lerf_ros.index.scales import STEPS, searched_scales
from lerf_ros.index.segments import PointCloud, find_segments
from lerf_ros.index.surface import Surface

# Points rendered at once: more do not fit into a processor's cache, fewer leave a GPU idle.
CHUNK, GPU_CHUNK = 1024, 32768
BASIS_SAMPLE = 49152   # embeddings that the basis is computed from
PARTS = 32             # parts of contracted space along each axis: each an eighth of a scene radius
ROUNDS = 8             # times that parts are weighted anew where columns are too few


# Arrays that every map has.
REQUIRED = ('colors', 'keyframes', 'codes', 'basis', 'scales', 'normals', 'segments')


@dataclass(frozen=True)
class LanguageIndex:
    """N points and their embeddings at S scales, compressed to r of D dimensions.

    points (N, 3) float32, world units from origin (3,) float64: so single precision is exact
    wherever the map frame is. colors (N, 3) uint8; keyframes (N,) that saw each; codes (S, N, r)
    int16, the bits of bfloat16 numbers (numpy has none), unit length; basis (D, r): embedding =
    basis @ code; scales (T,) in world units: the physical widths that embeddings describe, all that
    are searched; every STEPS-th of them is stored. normals (N, 3) float16: unit, outward, towards
    the cameras. segments (N,) int32: the thing that each point is part of, -1 for none. planes
    (P, 4): the supporting planes (n, d), from origin, with n . p + d = 0 and n towards the cameras;
    they are the segments 0 to P - 1. looks: what keyframes show of the other segments. newest (N,)
    int32: the newest keyframe that saw each point, by index; empty where that is not known.
    """

    points: np.ndarray
    colors: np.ndarray
    keyframes: np.ndarray
    codes: np.ndarray
    basis: np.ndarray
    scales: np.ndarray
    normals: np.ndarray
    segments: np.ndarray
    planes: np.ndarray
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    looks: SecondLooks = field(default_factory=SecondLooks)
    newest: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def points_world(self) -> np.ndarray:
        """The points (N, 3) float64 in the world, made anew: kept, they would take 24 bytes each.
        """
        return self.points.astype(np.float64) + self.origin

    @cached_property
    def groups(self) -> PointGroups:
        """Groups of points that lie together, with what bounds their codes."""
        return PointGroups.of(self.points, self.segments, as_tensor(self.codes))

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all arrays by name as they are stored: points and planes in world coordinates."""
        stored = {name: getattr(self, name) for name in self.__dataclass_fields__
                  if name not in ('points', 'looks')}
        return {**stored, **self.looks.arrays(), **self.groups.arrays(),
                'points_world': self.points_world,
                'planes': shifted_planes(self.planes, self.origin)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> LanguageIndex:
        """Makes an index of what `arrays` returned; KeyError when one is missing.

        Maps of earlier versions have no origin: the median of their points replaces it. They have
        no looks either, do not know when a point was seen, and group their points when asked.
        """
        world = arrays['points_world'].astype(np.float64)
        middle = np.median(world, axis=0) if len(world) else np.zeros(3)
        origin = np.asarray(arrays.get('origin', middle), np.float64)
        planes = shifted_planes(arrays['planes'], -origin)
        names = [name for name in cls.__dataclass_fields__
                 if name not in ('points', 'planes', 'origin', 'looks') and name in (
                     *arrays, *REQUIRED)]
        index = cls(points=(world - origin).astype(np.float32), planes=planes, origin=origin,
                    looks=SecondLooks.from_arrays(arrays), **{name: arrays[name] for name in names})
        if (groups := PointGroups.from_arrays(arrays)) is not None:
            index.__dict__['groups'] = groups       # in place of computing them
        return index

    @property
    def stored_scales(self) -> np.ndarray:
        """The scales (S,) of the codes, world units."""
        return self.scales[::STEPS]

    def codes_of(self, points: np.ndarray) -> np.ndarray:
        """Returns the codes (n, S, r) float32 of points (n,), by index."""
        chosen = np.ascontiguousarray(self.codes[:, points])
        return as_tensor(chosen).float().transpose(0, 1).numpy()

    def mean_embedding(self) -> np.ndarray:
        """Returns the mean embedding (D,) of all points, unit length."""
        return self._mean_embedding

    @cached_property
    def _mean_embedding(self) -> np.ndarray:
        mean = self.basis @ as_tensor(self.codes).mean((0, 1), dtype=torch.float32).numpy()
        return mean / max(float(np.linalg.norm(mean)), 1e-6)


@torch.no_grad()
def build_index(surface: Surface, language: LanguageField, scene: SceneFrame,
                scales: Sequence[float], config: IndexConfig) -> LanguageIndex:
    """Renders the embeddings of the surface's rays at `scales`, scene radii, and indexes them."""
    basis = compression_basis(surface, language, scales, config)
    projection, dense = language.projection(basis), []
    codes = torch.zeros(len(scales), len(surface), basis.shape[1], dtype=torch.bfloat16)
    for chunk in chunks(surface):
        part = surface[chunk]
        features = language.features(part.positions())
        for stored, scale in zip(codes, scales, strict=True):
            stored[chunk] = language.render_codes(projection, features, part.weights, scale)
        dense.append(render_dense(language, features, part.weights))
    points = surface.points.cpu().numpy().astype(np.float64)
    colors = surface.colors.clamp(0, 1).cpu().numpy()
    normals = surface_normals(points, surface.origins.cpu().numpy())
    cloud = PointCloud(points, normals, colors,
                       torch.cat(dense).numpy() if dense else np.zeros((0, 0)))
    segments, planes = find_segments(cloud, config)
    return LanguageIndex(
        (points * scene.radius).astype(np.float32), (colors * 255).round().astype(np.uint8),
        surface.keyframes.int().cpu().numpy(), as_stored(codes), basis.cpu().numpy(),
        np.asarray(searched_scales(scales), np.float32) * scene.radius,
        normals.astype(np.float16), segments, planes * [1.0, 1.0, 1.0, scene.radius],
        np.asarray(scene.center, np.float64))


def chunks(surface: Surface) -> Iterator[slice]:
    """Yields slices that cover all points, of a size that suits their device."""
    chunk = GPU_CHUNK if surface.points.device.type == 'cuda' else CHUNK
    return (slice(start, start + chunk) for start in range(0, len(surface), chunk))


def render_dense(language: LanguageField, features: Tensor, weights: Tensor) -> Tensor:
    """Renders dense features (N, C) of grid features (N, k, F); no columns without that head."""
    if not language.dense_dimension:
        return torch.zeros(len(weights), 0)
    return language.render_dense(features, weights).cpu()


def shifted_planes(planes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Moves planes (P, 4), (n, d) with n . p + d = 0, by shift (3,)."""
    offset = planes[:, 3] - planes[:, :3] @ shift
    return np.concatenate([planes[:, :3], offset[:, None]], 1)


def render_embeddings(surface: Surface, language: LanguageField,
                      scales: Sequence[float]) -> Tensor:
    """Renders unit embeddings (N, S, D) of the rays that found the points, at S scales."""
    features = language.features(surface.positions())
    return torch.stack([
        language.render(features, surface.weights, torch.full_like(surface.distances, scale))
        for scale in scales], 1)


def render_coordinates(surface: Surface, language: LanguageField, scales: Sequence[float],
                       span: Tensor) -> Tensor:
    """Renders the embeddings in the columns of an orthonormal span (D, m) of all: (N, S, m)."""
    projection, parts = language.projection(span), []
    for chunk in chunks(surface):
        part = surface[chunk]
        features = language.features(part.positions())
        parts.append(torch.stack([language.render_codes(projection, features, part.weights, scale)
                                  for scale in scales], 1))
    return torch.cat(parts)


def compression_basis(surface: Surface, language: LanguageField, scales: Sequence[float],
                      config: IndexConfig) -> Tensor:
    """Computes orthonormal columns (D, r) that keep the embeddings' energy all over the map.

    They are uncentred: a query's cosine needs the embeddings themselves, not their deviations. As
    few as lose at most config.rank_loss of the energy of any part: a mean over the map would drop
    small objects. Where config.rank columns are too few, the parts that lose most count more.
    """
    if len(surface) == 0:
        return torch.eye(language.embedding_dimension,
                         device=surface.points.device)[:, :config.rank]
    # The span of all embeddings keeps lengths and angles, with far fewer numbers.
    span = language.span()                                              # (D, m)

    def rows_of(chosen: Tensor) -> Tensor:
        return render_coordinates(surface[chosen], language, scales, span)
    vectors = economical_basis(surface.points, len(scales), span.shape[1], rows_of, config)
    return (span @ vectors).contiguous()


def economical_basis(points: Tensor, scales: int, dimension: int,
                     rows_of: Callable[[Tensor], Tensor], config: IndexConfig) -> Tensor:
    """Computes the columns (m, r) that `compression_basis` describes, of any embeddings.

    points (N, 3), scene frame. rows_of: unit embeddings (n, S, m) of points (n,), by index, at so
    many scales and dimensions.
    """
    if len(points) == 0:
        return torch.eye(dimension, device=points.device)[:, :config.rank]
    part = parts_of(points)
    chosen = even_sample(part, max(BASIS_SAMPLE // scales, 1))
    rows = rows_of(chosen)
    part = torch.unique(part[chosen], return_inverse=True)[1]
    weight, best, least = torch.ones_like(rows[:, 0, 0]), rows.new_empty(0), math.inf
    for _ in range(ROUNDS):
        vectors = principal_directions(rows, weight)[:, :config.rank]
        loss = part_losses(rows, vectors, part)                         # (P, r)
        worst = loss.amax(0)
        enough = (worst <= config.rank_loss).nonzero()
        if len(enough):
            return vectors[:, :int(enough[0]) + 1].contiguous()
        if float(worst[-1]) < least:
            best, least = vectors, float(worst[-1])
        weight = weight * (loss[part, -1] / worst[-1]).clamp_min(0.1)
    return best.contiguous()


def parts_of(points: Tensor) -> Tensor:
    """Returns the part of contracted space, 0 to P - 1, that each point (N, 3) lies in; (N,)."""
    return torch.unique((contract(points) * PARTS).long(), dim=0, return_inverse=True)[1]


def even_sample(part: Tensor, count: int) -> Tensor:
    """Draws `count` points that take turns among the parts (N,), so that small parts stay whole."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0)).to(part.device)
    by_part = order[part[order].argsort(stable=True)]
    counts = torch.bincount(part)
    first = (counts.cumsum(0) - counts)[part[by_part]]
    turn = torch.arange(len(part), device=part.device) - first
    return by_part[turn.argsort(stable=True)[:count]]


def principal_directions(rows: Tensor, weight: Tensor) -> Tensor:
    """Returns eigenvectors (m, m) of the energy of rows (n, S, m) by weight (n,), largest first."""
    flat = (rows * weight.sqrt()[:, None, None]).reshape(-1, rows.shape[-1])
    return torch.linalg.eigh(flat.T @ flat)[1].flip(-1)


def part_losses(rows: Tensor, vectors: Tensor, part: Tensor) -> Tensor:
    """Computes the part of its energy that each part loses (P, r) with the first 1 to r vectors.

    rows (n, S, m), vectors (m, r). part (n,) of each row counts from 0; no part is empty.
    """
    kept = (rows @ vectors).square().cumsum(-1).mean(1)                 # (n, r)
    counts = torch.bincount(part)
    sums = kept.new_zeros(len(counts), kept.shape[1]).index_add_(0, part, kept)
    return 1 - sums / counts[:, None]


def as_tensor(codes: np.ndarray) -> Tensor:
    """Views stored codes as numbers, without a copy: int16 are the bits of bfloat16 numbers."""
    tensor = torch.from_numpy(codes)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


def as_stored(codes: Tensor) -> np.ndarray:
    """Converts codes to the int16 bits of bfloat16 numbers, which numpy lacks."""
    return codes.to(torch.bfloat16).view(torch.int16).cpu().numpy()
