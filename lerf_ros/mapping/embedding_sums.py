# SPDX-License-Identifier: Apache-2.0
"""Sums what the embedding maps of many keyframes say at points, without an array for each view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from lerf_ros.encoders.embedding_map import EmbeddingMap, bilinear_cells

MOST_CELLS, MOST_ENTRIES = 20_000, 6_000_000     # that wait to be multiplied out


class EmbeddingSums:
    """The weighted sums of embeddings at N points, at each of S physical widths.

    What a point gets is a weighted sum of the embeddings of a few cells. The weights are collected
    in sparse matrices (points, cells), each of several keyframes, and then multiplied with the
    embeddings of the cells: a cell's embedding is computed once, and none for a view of a point.
    """

    def __init__(self, points: int, widths_world: Sequence[float], dimension: int) -> None:
        """widths_world: S widths, world units. dimension: D, that of the embeddings."""
        self._widths = np.asarray(widths_world, np.float64)
        self._total = np.zeros((points, len(self._widths), dimension), np.float32)
        self._forget()

    def _forget(self) -> None:
        self._embeddings: list[np.ndarray] = []
        self._entries: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [
            [] for _ in self._widths]
        self._cells = self._count = 0

    def add(self, levels: Sequence[EmbeddingMap], index: np.ndarray, pixels: np.ndarray,
            pixels_per_unit: np.ndarray, weight: np.ndarray) -> None:
        """Adds what a keyframe says of points, by index (M,), which it shows at pixels (M, 2).

        levels: narrowest width first; between two of them embeddings are interpolated, linearly in
        the logarithm of the width. pixels_per_unit (M,): how wide a world unit is in the image
        there. weight (M,): what this view counts.
        """
        wanted = np.log(self._widths[:, None] * pixels_per_unit)                # (S, M)
        at = np.interp(wanted, np.log([level.width_px for level in levels]),
                       np.arange(len(levels)))
        for i, level in enumerate(levels):
            part = np.clip(1 - np.abs(at - i), 0, 1)
            some = np.flatnonzero((part > 0).any(0))
            cells, blend = bilinear_cells(pixels[some], level.origin_px, level.stride_px,
                                          *level.shape)
            used, inverse = np.unique(cells, return_inverse=True)
            columns = inverse.reshape(cells.shape) + self._cells
            for entries, share in zip(self._entries, part[:, some] * weight[some], strict=True):
                taken = share > 0
                entries.append((np.repeat(index[some][taken], 4), columns[taken].reshape(-1),
                                (share[taken, None] * blend[taken]).astype(np.float32).reshape(-1)))
                self._count += 4 * int(taken.sum())
            self._embeddings.append(level.cell_embeddings(used))
            self._cells += len(used)
        if self._cells > MOST_CELLS or self._count > MOST_ENTRIES:
            self._multiply()

    def total(self) -> np.ndarray:
        """Returns the sums (N, S, D) float32 of what was added."""
        self._multiply()
        return self._total

    def _multiply(self) -> None:
        if self._embeddings:
            embeddings = np.concatenate(self._embeddings)
            for s, entries in enumerate(self._entries):
                rows, columns, shares = map(np.concatenate, zip(*entries, strict=True))
                self._total[:, s] += csr_array(
                    (shares, (rows, columns)), (len(self._total), len(embeddings))) @ embeddings
        self._forget()
