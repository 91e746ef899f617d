# SPDX-License-Identifier: Apache-2.0
"""The language index: surface points with the embeddings that the language field renders there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lerf_ros.config import IndexConfig
from lerf_ros.field.language_field import LanguageField
from lerf_ros.geometry.scene_frame import SceneFrame, contract
from lerf_ros.index.planes import surface_normals
from lerf_ros.index.scales import STEPS, searched_scales
from lerf_ros.index.segments import Looks, find_segments
from lerf_ros.index.surface import Surface

CHUNK = 1024           # points rendered at once: more do not fit a processor's cache
BASIS_SAMPLE = 49152   # embeddings that the basis is computed from
PARTS = 32             # parts of contracted space along each axis: an eighth of a scene radius
ROUNDS = 8             # times that parts are weighted anew when columns are too few


@dataclass(frozen=True)
class LanguageIndex:
    """N points and their embeddings at S scales, compressed to r of D dimensions.

    points (N, 3) float32, world units from origin (3,) float64: near 0 single precision is exact
    wherever the map frame is, and it takes half the room. colors (N, 3) uint8; keyframes (N,) that
    saw each; codes (S, N, r) int16, the bits of bfloat16 numbers (numpy has none), unit length;
    basis (D, r): embedding = basis @ code; scales (T,) in world units: physical widths of what
    embeddings speak of, all that are searched; every STEPS-th of them is stored. normals (N, 3)
    float16: unit, outward, towards the cameras. segments (N,) int32: which thing each point is part
    of, -1 for none. planes (P, 4): the supporting surfaces (n, d), from origin, with n . p + d = 0
    and n towards the cameras; they are the segments 0 to P - 1.
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

    @cached_property
    def points_world(self) -> np.ndarray:
        """The points (N, 3) float64 in the world."""
        return self.points.astype(np.float64) + self.origin

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as they are stored: points and planes in the world, float64."""
        stored = {name: getattr(self, name) for name in self.__dataclass_fields__
                  if name != 'points'}
        return {**stored, 'points_world': self.points_world,
                'planes': shifted_planes(self.planes, self.origin)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> LanguageIndex:
        """The reverse of `arrays`; KeyError when one is missing.

        Maps of earlier versions name no origin; the middle of their points is taken.
        """
        world = arrays['points_world'].astype(np.float64)
        middle = np.median(world, axis=0) if len(world) else np.zeros(3)
        origin = np.asarray(arrays.get('origin', middle), np.float64)
        planes = shifted_planes(arrays['planes'], -origin)
        names = [name for name in cls.__dataclass_fields__
                 if name not in ('points', 'planes', 'origin')]
        return cls(points=(world - origin).astype(np.float32), planes=planes, origin=origin,
                   **{name: arrays[name] for name in names})

    @property
    def stored_scales(self) -> np.ndarray:
        """The scales (S,) of the codes, world units."""
        return self.scales[::STEPS]

    def codes_of(self, points: np.ndarray) -> np.ndarray:
        """The codes (n, S, r) float32 of some points (n,), by index."""
        chosen = np.ascontiguousarray(self.codes[:, points])
        return as_tensor(chosen).float().transpose(0, 1).numpy()

    def mean_embedding(self) -> np.ndarray:
        """(D,) unit: what the map looks like in general."""
        mean = self.basis @ as_tensor(self.codes).mean((0, 1), dtype=torch.float32).numpy()
        return mean / max(float(np.linalg.norm(mean)), 1e-6)


@torch.no_grad()
def build_index(surface: Surface, language: LanguageField, scene: SceneFrame,
                scales: Sequence[float], config: IndexConfig) -> LanguageIndex:
    """Renders the language of the surface's rays at `scales` (scene radii) and compresses it."""
    basis = compression_basis(surface, language, scales, config)
    projection, dense = language.projection(basis), []
    codes = torch.zeros(len(scales), len(surface), basis.shape[1], dtype=torch.bfloat16)
    for start in range(0, len(surface), CHUNK):
        part = surface[torch.arange(start, min(start + CHUNK, len(surface)))]
        features = language.features(part.positions())
        for stored, scale in zip(codes, scales, strict=True):
            stored[start:start + CHUNK] = language.render_codes(projection, features, part.weights,
                                                                scale)
        dense.append(render_dense(language, features, part.weights))
    points = surface.points.cpu().numpy().astype(np.float64)
    colors = surface.colors.clamp(0, 1).cpu().numpy()
    normals = surface_normals(points, surface.origins.cpu().numpy())
    looks = Looks(points, normals, colors,
                  torch.cat(dense).numpy() if dense else np.zeros((0, 0)))
    segments, planes = find_segments(looks, config)
    return LanguageIndex(
        (points * scene.radius).astype(np.float32), (colors * 255).round().astype(np.uint8),
        surface.keyframes.int().cpu().numpy(), as_stored(codes), basis.cpu().numpy(),
        np.asarray(searched_scales(scales), np.float32) * scene.radius,
        normals.astype(np.float16), segments, planes * [1.0, 1.0, 1.0, scene.radius],
        np.asarray(scene.center, np.float64))


def render_dense(language: LanguageField, features: Tensor, weights: Tensor) -> Tensor:
    """Dense features (N, C) of rays with grid features (N, k, F); no columns without that head."""
    if not language.dense_dimension:
        return torch.zeros(len(weights), 0)
    return language.render_dense(features, weights).cpu()


def shifted_planes(planes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Planes (P, 4), (n, d) with n . p + d = 0, of points that were moved by shift (3,)."""
    offset = planes[:, 3] - planes[:, :3] @ shift
    return np.concatenate([planes[:, :3], offset[:, None]], 1)


def render_embeddings(surface: Surface, language: LanguageField,
                      scales: Sequence[float]) -> Tensor:
    """Unit embeddings (N, S, D) of the rays that found the points, at S scales."""
    features = language.features(surface.positions())
    return torch.stack([
        language.render(features, surface.weights, torch.full_like(surface.distances, scale))
        for scale in scales], 1)


def render_coordinates(surface: Surface, language: LanguageField, scales: Sequence[float],
                       span: Tensor) -> Tensor:
    """The same in the columns of an orthonormal span (D, m) that holds them all, (N, S, m)."""
    projection, parts = language.projection(span), []
    for start in range(0, len(surface), CHUNK):
        part = surface[torch.arange(start, min(start + CHUNK, len(surface)))]
        features = language.features(part.positions())
        parts.append(torch.stack([language.render_codes(projection, features, part.weights, scale)
                                  for scale in scales], 1))
    return torch.cat(parts)


def compression_basis(surface: Surface, language: LanguageField, scales: Sequence[float],
                      config: IndexConfig) -> Tensor:
    """Orthonormal columns (D, r) that hold the embeddings' energy in every part of the map.

    Uncentred, because a query's cosine needs the embeddings themselves, not their deviations. The
    fewest columns with which no part of the map loses more than config.rank_loss of its energy: by
    the mean alone a small object would be dropped. Where config.rank columns are too few for that,
    the parts that lose most count more.
    """
    if len(surface) == 0:
        return torch.eye(language.embedding_dimension)[:, :config.rank]
    part = parts_of(surface.points)
    chosen = even_sample(part, max(BASIS_SAMPLE // len(scales), 1))
    # In the m columns that they lie in: the same lengths and angles, from far fewer numbers.
    span = language.span()                                              # (D, m)
    rows = render_coordinates(surface[chosen], language, scales, span)  # (n, S, m) unit
    part = torch.unique(part[chosen], return_inverse=True)[1]
    weight, best, least = torch.ones_like(rows[:, 0, 0]), rows.new_empty(0), math.inf
    for _ in range(ROUNDS):
        vectors = principal_directions(rows, weight)[:, :config.rank]
        loss = part_losses(rows, vectors, part)                         # (P, r)
        worst = loss.amax(0)
        enough = (worst <= config.rank_loss).nonzero()
        if len(enough):
            return (span @ vectors[:, :int(enough[0]) + 1]).contiguous()
        if float(worst[-1]) < least:
            best, least = vectors, float(worst[-1])
        weight = weight * (loss[part, -1] / worst[-1]).clamp_min(0.1)
    return (span @ best).contiguous()


def parts_of(points: Tensor) -> Tensor:
    """Which part of contracted space, 0 to P - 1, each point (N, 3) lies in; (N,)."""
    return torch.unique((contract(points) * PARTS).long(), dim=0, return_inverse=True)[1]


def even_sample(part: Tensor, count: int) -> Tensor:
    """Indices of `count` points at random that take turns among the parts (N,): few stay whole."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0)).to(part.device)
    by_part = order[part[order].argsort(stable=True)]
    counts = torch.bincount(part)
    first = (counts.cumsum(0) - counts)[part[by_part]]
    turn = torch.arange(len(part), device=part.device) - first
    return by_part[turn.argsort(stable=True)[:count]]


def principal_directions(rows: Tensor, weight: Tensor) -> Tensor:
    """Eigenvectors (m, m) of the energy of rows (n, S, m) that count weight (n,), largest first."""
    flat = (rows * weight.sqrt()[:, None, None]).reshape(-1, rows.shape[-1])
    return torch.linalg.eigh(flat.T @ flat)[1].flip(-1)


def part_losses(rows: Tensor, vectors: Tensor, part: Tensor) -> Tensor:
    """Energy (P, r) that parts lose to the first 1 to r of vectors (m, r), of rows (n, S, m).

    part (n,) counts from 0, and no part is empty.
    """
    kept = (rows @ vectors).square().cumsum(-1).mean(1)                 # (n, r)
    counts = torch.bincount(part)
    sums = kept.new_zeros(len(counts), kept.shape[1]).index_add_(0, part, kept)
    return 1 - sums / counts[:, None]


def as_tensor(codes: np.ndarray) -> Tensor:
    """The numbers of stored codes, without a copy: int16 are the bits of bfloat16 numbers."""
    tensor = torch.from_numpy(codes)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


def as_stored(codes: Tensor) -> np.ndarray:
    """The reverse: numpy has no bfloat16."""
    return codes.to(torch.bfloat16).view(torch.int16).cpu().numpy()
