# SPDX-License-Identifier: Apache-2.0
"""What an image says in language, cell by cell, stored as a few vocabulary entries a cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EmbeddingMap:
    """A grid of embeddings over an image; positions and widths are in source image pixels.

    width_px: width of what a cell speaks of (side of a crop, or effective receptive field).
    origin_px: (x, y) of the centre of cell (0, 0); may lie outside of the image.
    stride_px: (x, y) from one cell to the next.
    ids: (rows, cols, K) int32, rows of `vocabulary`. weights: (rows, cols, K) float16.
    vocabulary: (V, D) float32, shared between maps.
    A cell's embedding is the normalised weighted sum of its K vocabulary entries.
    """

    width_px: float
    origin_px: tuple[float, float]
    stride_px: tuple[float, float]
    ids: np.ndarray
    weights: np.ndarray
    vocabulary: np.ndarray

    def __post_init__(self) -> None:
        if self.ids.ndim != 3 or self.ids.shape != self.weights.shape:
            raise ValueError(f'ids {self.ids.shape} and weights {self.weights.shape}: both must '
                             'be (rows, cols, K)')

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.ids.shape[0], self.ids.shape[1]

    def cell_embeddings(self, cells: np.ndarray) -> np.ndarray:
        """Unit embeddings (M, D) float32 of cells given as row * cols + col, (M,)."""
        ids = self.ids.reshape(-1, self.ids.shape[2])[cells]
        weights = self.weights.reshape(-1, self.ids.shape[2])[cells]
        out = np.einsum('mk,mkd->md', weights.astype(np.float32), self.vocabulary[ids])
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    def cell_centers(self) -> np.ndarray:
        """Pixel positions (rows, cols, 2), x before y, of all cells."""
        rows, cols = self.shape
        x, y = np.meshgrid(self.origin_px[0] + self.stride_px[0] * np.arange(cols),
                           self.origin_px[1] + self.stride_px[1] * np.arange(rows))
        return np.stack([x, y], -1)

    def sample(self, pixels: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) float32 at pixel positions (N, 2) (x, y), bilinear between cells.

        Clamped at the border. Not normalised again after blending, as in LERF: a pixel between
        two things is shorter than 1, which tells the field how sure the picture is.
        """
        rows, cols = self.shape
        cells, blend = bilinear_cells(pixels, self.origin_px, self.stride_px, rows, cols)
        used, inverse = np.unique(cells, return_inverse=True)
        embeddings = self.cell_embeddings(used)
        return np.einsum('nc,ncd->nd', blend, embeddings[inverse.reshape(cells.shape)])


def bilinear_cells(pixels: np.ndarray, origin_px: tuple[float, float],
                   stride_px: tuple[float, float], rows: int,
                   cols: int) -> tuple[np.ndarray, np.ndarray]:
    """The four cells around each pixel, (N, 4) as row * cols + col, and their weights, (N, 4)."""
    pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
    u = np.clip((pixels[:, 0] - origin_px[0]) / stride_px[0], 0, cols - 1)
    v = np.clip((pixels[:, 1] - origin_px[1]) / stride_px[1], 0, rows - 1)
    left, top = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    right, bottom = np.minimum(left + 1, cols - 1), np.minimum(top + 1, rows - 1)
    a, b = u - left, v - top
    cells = np.stack([top * cols + left, top * cols + right,
                      bottom * cols + left, bottom * cols + right], 1)
    blend = np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], 1)
    return cells, blend.astype(np.float32)


@dataclass(frozen=True)
class KeyframeFeatures:
    """What one keyframe says in language.

    levels: embedding maps, narrowest width first. dense: (rows, cols, C) float16 on an even grid
    over the image that follows object borders (DINO's role), of unit length unless
    features.dense_unit is off; C may be 0.
    """

    levels: tuple[EmbeddingMap, ...]
    dense: np.ndarray


def sort_levels(levels: Iterable[EmbeddingMap]) -> tuple[EmbeddingMap, ...]:
    """Narrowest first."""
    return tuple(sorted(levels, key=lambda level: level.width_px))


def no_features() -> np.ndarray:
    """Dense features of zero channels."""
    return np.zeros((1, 1, 0), np.float16)
