# SPDX-License-Identifier: Apache-2.0
"""Relevancy as LERF computes it: at all scales of the search, without compression.

The language index approximates it, because it is too slow to answer queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lerf_ros.field.language_field import LanguageField
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import render_embeddings
from lerf_ros.index.surface import Surface

CHUNK = 512   # points rendered at once: 24 MB of embeddings of 384 dimensions at 30 scales


class FullSearch:
    """Evaluates the language field itself at N surface points and S scales."""

    def __init__(self, surface: Surface, language: LanguageField, scene: SceneFrame,
                 scales: Sequence[float]) -> None:
        """scales: scene radii, as from `search_scales` (LERF uses 30)."""
        self.surface, self.language = surface, language
        self._scales = tuple(scales)
        self.scales = np.asarray(scales, np.float32) * scene.radius   # (S,) world units

    @torch.no_grad()
    def relevancy(self, texts: np.ndarray, negatives: np.ndarray,
                  temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the relevancy (T, N) float32 in 0..1 of T phrases, and the best scale (T, N).

        texts (T, D), negatives (M, D): unit embeddings. The best scale is an index. The field is
        rendered once for all phrases, in float32.
        """
        device = self.surface.points.device
        positive, negative = (torch.as_tensor(rows, dtype=torch.float32, device=device)
                              for rows in (texts, negatives))
        shape = len(texts), len(self.surface)
        values, best = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
        for start in range(0, len(self.surface), CHUNK):
            part = slice(start, min(start + CHUNK, len(self.surface)))
            rows = torch.arange(part.start, part.stop, device=device)
            embeddings = render_embeddings(self.surface[rows], self.language, self._scales)
            against = embeddings @ negative.T                            # (n, S, M)
            for text, cosine in enumerate((embeddings @ positive.T).unbind(-1)):
                found = least_softmax(cosine, against, temperature).max(1)
                values[text, part] = found.values.cpu().numpy()
                best[text, part] = found.indices.cpu().numpy()
        return values, best


def least_softmax(positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Returns the smallest softmax (...,) of the phrase against one negative (LERF, section 3.4).

    positive (...,), negatives (..., M): cosines.
    """
    pairs = torch.stack([positive[..., None].expand_as(negatives), negatives], -1)
    return torch.softmax(temperature * pairs, -1)[..., 0].amin(-1)
