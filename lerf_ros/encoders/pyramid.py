# SPDX-License-Identifier: Apache-2.0
"""The levels of the feature pyramid: crop sizes, resize factors, and LERF's overlapping crops.

LERF's pyramid is described by Kerr et al. (2023), section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.image_text import ImageTextEncoder, SquareEncoder
from lerf_ros.encoders.one_pass import resize_image

# The overlap is interpolated linearly between crops of these fractions of the image height.
SMALL_FRACTION, LARGE_FRACTION = 0.05, 0.15
# A network recognises too little in an image that is shrunk further.
MIN_FACTOR = 0.25
# LERF's smallest crop as a fraction of the image height; smaller ones cost much and add little.
MIN_CROP_FRACTION = 0.05
# Levels whose widths differ by less than this ratio are redundant.
MERGE_RATIO = 1.15


@dataclass(frozen=True)
class CropGrid:
    """A grid of square crops of one size over an image with a black border of half a crop.

    side, stride: pixels. first_px: (x, y) of the upper left corner of crop (0, 0), which lies
    outside the image. rows, cols: number of crops.
    """

    side: int
    stride: int
    first_px: tuple[int, int]
    rows: int
    cols: int

    @property
    def origin_px(self) -> tuple[float, float]:
        """Centre (x, y) of crop (0, 0): the image's corner, or half a pixel inside of it.

        The released code measures from the centre of the first pixel: (k - 1) / 2 - k // 2. Here
        the centre of a pixel is at its index + 0.5, so the same position is k / 2 - k // 2: 0 for
        an even side k, 0.5 for an odd one.
        """
        return self.first_px[0] + self.side / 2, self.first_px[1] + self.side / 2


def crop_grid(width: int, height: int, side: int, overlap: float,
              overlap_small: float) -> CropGrid:
    """Computes the grid of crops of `side` pixels over an image of width x height pixels.

    overlap: fraction of a crop that its neighbour shares, for crops of 15 % of the image height
    and more. overlap_small: the same for crops of up to 5 %, of which there are many; in between
    the overlap is interpolated. Raises ValueError for a side below 1.
    """
    return _grid(width, height, side, side / height, overlap, overlap_small)


def tile_grid(width: int, height: int, fraction: float, overlap: float,
              overlap_small: float) -> CropGrid:
    """Computes the grid of crops whose side is a fraction of the image height, as in the paper.

    overlap, overlap_small: see crop_grid. The overlap depends on the fraction itself, not on the
    side after rounding to whole pixels.
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
    """Cuts an image (H, W, 3) into crops (side, side, 3), row by row; black outside the image."""
    pad = grid.side // 2
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    corners = [(i * grid.stride, j * grid.stride)
               for i in range(grid.rows) for j in range(grid.cols)]
    return [padded[y:y + grid.side, x:x + grid.side] for y, x in corners]


def encode_level(encoder: ImageTextEncoder, image: np.ndarray, grid: CropGrid,
                 batch: int) -> EmbeddingMap:
    """Encodes one level of the pyramid: all crops of an image (H, W, 3), `batch` of them at once.

    Embeddings are rounded to half precision, as LERF stores them, so that a level read from the
    cache equals the one that was written.
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


def squares_of(images: Sequence[np.ndarray], side: int) -> Iterator[np.ndarray]:
    """Yields each image (h, w, 3) as one square (1, side, side, 3); squares keep their size."""
    for image in images:
        square = image.shape[0] == image.shape[1]
        yield (image if square else resize_image(image, side, side))[None]


def check_widths(widths_world: Sequence[float], depth_world: float) -> None:
    """Raises ValueError unless the widths and the depth, in world units, are all positive."""
    if not widths_world or min(widths_world) <= 0 or not depth_world > 0:
        raise ValueError(f'widths {tuple(widths_world)} and depth {depth_world}: all must be '
                         'positive')


def resize_factors(widths_px: Sequence[float], receptive_px: float, image_side: int,
                   max_side: int) -> list[float]:
    """Computes the factors, ascending, that resize an image so that a cell covers each width.

    receptive_px: effective receptive field of a cell in the resized image. image_side: longer side
    of the image, which no factor makes longer than max_side; all are pixels. Of factors closer
    than MERGE_RATIO one is kept.
    """
    high = max_side / image_side
    low = min(MIN_FACTOR, high)
    return merge_close([float(np.clip(receptive_px / width, low, high)) for width in widths_px])


def crop_sides(widths_px: Sequence[float], height: int, width: int) -> list[int]:
    """Computes the sides of square crops for each width, pixels, ascending; merges close ones."""
    low, high = MIN_CROP_FRACTION * height, min(height, width)
    return [round(side) for side in merge_close([float(np.clip(w, low, high))
                                                 for w in widths_px])]


def merge_close(values: Sequence[float]) -> list[float]:
    """Returns ascending values of which each is at least MERGE_RATIO times the one before."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= kept[-1] * MERGE_RATIO:
            kept.append(value)
    return kept
