# SPDX-License-Identifier: Apache-2.0
"""LERF's pyramid of overlapping square crops over an image (Kerr et al., 2023, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.features.embedding_map import EmbeddingMap
from lerf_ros.features.encoders import ImageTextEncoder


@dataclass(frozen=True)
class CropGrid:
    """Square crops of one size over an image with a black border of half a crop.

    side, stride: pixels. first_px: (x, y) of the upper left corner of crop (0, 0), outside of the
    image. rows, cols: number of crops.
    """

    side: int
    stride: int
    first_px: tuple[int, int]
    rows: int
    cols: int

    @property
    def origin_px(self) -> tuple[float, float]:
        """The centre of crop (0, 0): on the corner of the image, up to half a pixel."""
        return self.first_px[0] + self.side / 2, self.first_px[1] + self.side / 2


def crop_grid(width: int, height: int, side: int) -> CropGrid:
    """Crops of `side` pixels over an image, overlapping as in LERF's released code.

    The stride falls from a whole crop at 5 % of the image height to half a crop from 15 % on:
    small crops are many. Raises ValueError for a side below 1.
    """
    if side < 1:
        raise ValueError(f'crop of {side} pixels: must be at least 1')
    overlap = float(np.interp(side / height, [0.05, 0.15], [1.0, 0.5]))
    return _grid(width, height, side, max(int(side * overlap), 1))


def tile_grid(width: int, height: int, fraction: float) -> CropGrid:
    """The paper's geometry: crops whose side is a fraction of the image height."""
    side = int(height * fraction)
    ratio = float(np.interp(fraction, [0.05, 0.15], [1.0, 0.5]))
    return _grid(width, height, side, max(int(side * ratio), 1))


def _grid(width: int, height: int, side: int, stride: int) -> CropGrid:
    pad = side // 2
    cols, rows = ((extent + 2 * pad - side) // stride + 1 for extent in (width, height))
    return CropGrid(side, stride, (-pad, -pad), rows, cols)


def crops(image: np.ndarray, grid: CropGrid) -> list[np.ndarray]:
    """The crops (side, side, 3) of an image (H, W, 3), row by row; black outside of the image."""
    pad = grid.side // 2
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    corners = [(i * grid.stride, j * grid.stride)
               for i in range(grid.rows) for j in range(grid.cols)]
    return [padded[y:y + grid.side, x:x + grid.side] for y, x in corners]


def encode_level(encoder: ImageTextEncoder, image: np.ndarray, side: int,
                 batch: int) -> EmbeddingMap:
    """One level of the pyramid: the embeddings of all crops of `side` pixels."""
    grid = crop_grid(image.shape[1], image.shape[0], side)
    pieces = crops(image, grid)
    rows = [encoder.encode_images(pieces[start:start + batch])
            for start in range(0, len(pieces), batch)]
    ids = np.arange(len(pieces), dtype=np.int32).reshape(grid.rows, grid.cols, 1)
    return EmbeddingMap(
        width_px=float(side), origin_px=grid.origin_px,
        stride_px=(float(grid.stride), float(grid.stride)), ids=ids,
        weights=np.ones(ids.shape, np.float16), vocabulary=np.concatenate(rows))
