# SPDX-License-Identifier: Apache-2.0
"""The language index: surface points with the embeddings that the language field renders there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.scene_frame import SceneFrame
from lerf_ros.query.surface import Surface

CHUNK = 4096           # points rendered at once
BASIS_SAMPLE = 8192    # embeddings that the basis is computed from


@dataclass(frozen=True)
class LanguageIndex:
    """N points and their embeddings at S scales, compressed to r of D dimensions.

    points_world (N, 3) float32; colors (N, 3) uint8; keyframes (N,) that saw each; codes
    (N, S, r) float16, unit length; basis (D, r): embedding = basis @ code; scales (S,), the
    physical widths in world units.
    """

    points_world: np.ndarray
    colors: np.ndarray
    keyframes: np.ndarray
    codes: np.ndarray
    basis: np.ndarray
    scales: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as they are stored."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> LanguageIndex:
        """The reverse of `arrays`; KeyError when one is missing."""
        return cls(*(arrays[name] for name in cls.__dataclass_fields__))


@torch.no_grad()
def build_index(surface: Surface, language: LanguageField, scene: SceneFrame,
                widths: Sequence[float], rank: int) -> LanguageIndex:
    """Renders the language of the surface's rays at `widths` (scene radii) and compresses it."""
    basis = _basis(surface, language, widths, rank)
    codes = []
    for start in range(0, len(surface), CHUNK):
        part = surface[torch.arange(start, min(start + CHUNK, len(surface)))]
        code = render_embeddings(part, language, widths) @ basis
        codes.append((code / code.norm(dim=-1, keepdim=True).clamp_min(1e-6)).half().cpu())
    empty = torch.zeros(0, len(widths), basis.shape[1], dtype=torch.float16)
    return LanguageIndex(
        scene.to_world(surface.points.cpu().numpy()).astype(np.float32),
        (surface.colors.clamp(0, 1) * 255).round().byte().cpu().numpy(),
        surface.keyframes.int().cpu().numpy(), torch.cat([empty, *codes]).numpy(),
        basis.cpu().numpy(), np.asarray(widths, np.float32) * scene.radius)


def render_embeddings(surface: Surface, language: LanguageField,
                      widths: Sequence[float]) -> Tensor:
    """Unit embeddings (N, S, D) of the rays that found the points, at S widths."""
    positions = (surface.origins[:, None]
                 + surface.distances[..., None] * surface.directions[:, None])
    features = language.features(positions)
    return torch.stack([
        language.render(features, surface.weights, torch.full_like(surface.distances, width))
        for width in widths], 1)


def _basis(surface: Surface, language: LanguageField, widths: Sequence[float],
           rank: int) -> Tensor:
    """Orthonormal columns (D, r) that hold most of the embeddings' energy.

    Uncentred, because a query's cosine needs the embeddings themselves, not their deviations.
    """
    if len(surface) == 0:
        return torch.eye(language.embedding_dimension)[:, :rank]
    count = min(len(surface), BASIS_SAMPLE // len(widths))
    chosen = torch.randperm(len(surface), generator=torch.Generator().manual_seed(0))[:count]
    sample = render_embeddings(surface[chosen.to(surface.points.device)], language, widths)
    rows = sample.reshape(-1, sample.shape[-1])
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    return vectors[:, -rank:].flip(-1).contiguous()
