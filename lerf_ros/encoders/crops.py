# SPDX-License-Identifier: Apache-2.0
"""LERF's pyramid of overlapping square crops over an image (Kerr et al., 2023, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.image_text import ImageTextEncoder, SquareEncoder

# Between these parts of the image height the overlap changes evenly from small to large.
SMALL_FRACTION, LARGE_FRACTION = 0.05, 0.15


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
        """The centre of crop (0, 0): on the corner of the image, up to half a pixel.

        The released code counts from the middle of the first pixel: (k - 1) / 2 - k // 2. Here
        the middle of a pixel is its index + 0.5, so the same place is k / 2 - k // 2: 0 for an
        even side k, 0.5 for an odd one.
        """
        return self.first_px[0] + self.side / 2, self.first_px[1] + self.side / 2


def crop_grid(width: int, height: int, side: int, overlap: float,
              overlap_small: float) -> CropGrid:
    """Crops of `side` pixels over an image.

    overlap: part of a crop that its neighbour shows too, from 15 % of the image height on;
    overlap_small: the same up to 5 %, where crops are many; evenly between them in between.
    Raises ValueError for a side below 1.
    """
    return _grid(width, height, side, side / height, overlap, overlap_small)


def tile_grid(width: int, height: int, fraction: float, overlap: float,
              overlap_small: float) -> CropGrid:
    """As crop_grid, for crops whose side is a fraction of the image height (the paper).

    The overlap follows the fraction as it is given, not the whole pixels that come of it.
    """
    return _grid(width, height, int(height * fraction), fraction, overlap, overlap_small)


def _grid(width: int, height: int, side: int, fraction: float, overlap: float,
          overlap_small: float) -> CropGrid:
    if side < 1:
        raise ValueError(f'crop of {side} pixels: must be at least 1')
    ratio = np.interp(fraction, [SMALL_FRACTION, LARGE_FRACTION], [1 - overlap_small, 1 - overlap])
    stride = max(int(side * float(ratio)), 1)
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


def encode_level(encoder: ImageTextEncoder, image: np.ndarray, grid: CropGrid,
                 batch: int) -> EmbeddingMap:
    """One level of the pyramid: the embeddings of all crops, `batch` of them at once.

    They are rounded to half precision, as LERF keeps them, so that a level read from the cache
    equals the one that was written.
    """
    pieces = crops(image, grid)
    rows = [_encode(encoder, pieces[start:start + batch])
            for start in range(0, len(pieces), batch)]
    ids = np.arange(len(pieces), dtype=np.int32).reshape(grid.rows, grid.cols, 1)
    return EmbeddingMap(
        width_px=float(grid.side), origin_px=grid.origin_px,
        stride_px=(float(grid.stride), float(grid.stride)), ids=ids,
        weights=np.ones(ids.shape, np.float16),
        vocabulary=np.concatenate(rows).astype(np.float16).astype(np.float32))


def _encode(encoder: ImageTextEncoder, pieces: list[np.ndarray]) -> np.ndarray:
    if isinstance(encoder, SquareEncoder):
        return encoder.encode_squares(np.stack(pieces))
    return encoder.encode_images(pieces)
