# SPDX-License-Identifier: Apache-2.0
"""Grids of embeddings over an image, stored as a few weighted vocabulary entries for each cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EmbeddingMap:
    """A grid of embeddings over an image; positions and widths are in source image pixels.

    width_px: width that a cell describes (side of a crop, or effective receptive field).
    origin_px: (x, y) of the centre of cell (0, 0); may lie outside the image.
    stride_px: distance (x, y) from one cell to the next.
    ids: (rows, cols, K) int32, rows of `vocabulary`. weights: (rows, cols, K) float16.
    vocabulary: (V, D) float32, shared between maps.
    The embedding of a cell is the normalised weighted sum of its K vocabulary entries.
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
        """Number of rows and columns."""
        return self.ids.shape[0], self.ids.shape[1]

    def cell_embeddings(self, cells: np.ndarray) -> np.ndarray:
        """Returns unit embeddings (M, D) float32 of cells (M,) given as row * cols + col."""
        ids = self.ids.reshape(-1, self.ids.shape[2])[cells]
        weights = self.weights.reshape(-1, self.ids.shape[2])[cells]
        out = np.einsum('mk,mkd->md', weights.astype(np.float32), self.vocabulary[ids])
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    def cell_centers(self) -> np.ndarray:
        """Returns the pixel positions (rows, cols, 2), x before y, of the centres of all cells."""
        rows, cols = self.shape
        x, y = np.meshgrid(self.origin_px[0] + self.stride_px[0] * np.arange(cols),
                           self.origin_px[1] + self.stride_px[1] * np.arange(rows))
        return np.stack([x, y], -1)

    def sample(self, pixels: np.ndarray) -> np.ndarray:
        """Interpolates embeddings (N, D) float32 at pixel positions (N, 2) (x, y), bilinearly.

        Positions are clamped at the border. As in LERF the result is not normalised again:
        between two objects it is shorter than 1, which tells the field how certain the image is.
        """
        rows, cols = self.shape
        cells, blend = bilinear_cells(pixels, self.origin_px, self.stride_px, rows, cols)
        used, inverse = np.unique(cells, return_inverse=True)
        embeddings = self.cell_embeddings(used)
        return np.einsum('nc,ncd->nd', blend, embeddings[inverse.reshape(cells.shape)])


def bilinear_cells(pixels: np.ndarray, origin_px: tuple[float, float],
                   stride_px: tuple[float, float], rows: int,
                   cols: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the four cells around each pixel (N, 2), as row * cols + col, and their weights.

    Both arrays are (N, 4); the weights are float32 and sum to 1. origin_px and stride_px: see
    EmbeddingMap.
    """
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
    """The features of one keyframe.

    levels: embedding maps, narrowest width first. dense: dense features (rows, cols, C) float16 on
    an even grid over the image, which follow object borders (DINO's role); they have unit length
    unless features.dense_unit is off, and C may be 0.
    """

    levels: tuple[EmbeddingMap, ...]
    dense: np.ndarray


def sort_levels(levels: Iterable[EmbeddingMap]) -> tuple[EmbeddingMap, ...]:
    """Sorts embedding maps by width, narrowest first."""
    return tuple(sorted(levels, key=lambda level: level.width_px))


def no_features() -> np.ndarray:
    """Returns dense features without channels, (1, 1, 0) float16."""
    return np.zeros((1, 1, 0), np.float16)
