# SPDX-License-Identifier: Apache-2.0
"""A sheet of rendered relevancy over photographs, with the boxes of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lerf_ros.show.colors import NEUTRAL, relevancy_colors
from lerf_ros.show.pictures import (
    BOX_COLOR,
    CAPTION_HEIGHT,
    CELL_WIDTH,
    GAP,
    OVERLAY_OPACITY,
    write_image,
)
from lerf_ros.storage.output_folder import OutputFolder

TILES_PER_ROW = 2
HIT_COLOR, MISS_COLOR = (0, 110, 60), (185, 30, 0)
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.55


@dataclass(frozen=True)
class Overlay:
    """One answer in one view. photo: (H, W, 3) uint8 RGB. relevancy: (H, W), 0..1, NaN for none.

    box_px: two opposite corners x, y, x, y of the truth in pixel indices, edges included; None
    where there is no truth. hit: whether the answer is right.
    """

    title: str
    photo: np.ndarray
    relevancy: np.ndarray
    box_px: Sequence[float] | np.ndarray | None
    hit: bool


def overlay_sheet(cells: Sequence[Overlay], path: str | Path,
                  tiles_per_row: int = TILES_PER_ROW) -> Path:
    """Writes pairs of photograph and relevancy, with captions; returns the path.

    Raises ValueError without cells, or where a photograph and its relevancy differ in size.
    """
    if not cells:
        raise ValueError('a sheet needs at least one overlay')
    tiles = [tile(cell) for cell in cells]
    rows = [beside(tiles[i:i + tiles_per_row], tiles_per_row)
            for i in range(0, len(tiles), tiles_per_row)]
    path = Path(path)
    with OutputFolder(path.parent).file(path.name) as place:
        write_image(place, np.concatenate(rows))
    return path


def painted(photo: np.ndarray, relevancy: np.ndarray) -> np.ndarray:
    """The photograph (H, W, 3) with turbo where the relevancy (H, W) is 0.5 or more."""
    if photo.shape[:2] != relevancy.shape:
        raise ValueError(f'the photograph has {photo.shape[:2]} pixels and its relevancy '
                         f'{relevancy.shape}')
    level = np.nan_to_num(relevancy, nan=0.0).ravel()
    if level.max() <= NEUTRAL:
        return photo.copy()
    pixels = photo.reshape(-1, 3)
    blend = (OVERLAY_OPACITY * relevancy_colors(level, pixels)
             + (1 - OVERLAY_OPACITY) * pixels)
    return np.where(level[:, None] >= NEUTRAL, np.round(blend), pixels).astype(
        np.uint8).reshape(photo.shape)


def tile(cell: Overlay) -> np.ndarray:
    """Photograph and overlay of one width, below them title, outcome and highest relevancy."""
    height, width = cell.photo.shape[:2]
    size = (CELL_WIDTH, max(1, round(CELL_WIDTH * height / width)))
    pair = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            for picture in (cell.photo, painted(cell.photo, cell.relevancy))]
    if cell.box_px is not None:
        for picture in pair:
            outline(picture, np.asarray(cell.box_px, float), CELL_WIDTH / width)
    gap = np.full((size[1], GAP, 3), 255, np.uint8)
    pictures = np.concatenate([pair[0], gap, pair[1]], 1)
    return np.concatenate([pictures, caption(cell, pictures.shape[1])])


def outline(picture: np.ndarray, box_px: np.ndarray, scale: float) -> None:
    """Draws a box (4,), in pixels of the unscaled picture, white within black."""
    low = np.minimum(box_px[:2], box_px[2:]) * scale
    high = (np.maximum(box_px[:2], box_px[2:]) + 1) * scale - 1   # the last pixel belongs to it
    first, last = ([round(float(v)) for v in corner] for corner in (low, high))
    cv2.rectangle(picture, first, last, (0, 0, 0), 3)
    cv2.rectangle(picture, first, last, BOX_COLOR, 1)


def caption(cell: Overlay, width: int) -> np.ndarray:
    """One line (CAPTION_HEIGHT, width, 3); a title that is too long is cut, the outcome never."""
    line = np.full((CAPTION_HEIGHT, width, 3), 255, np.uint8)
    top = np.nan_to_num(cell.relevancy, nan=0.0).max()
    outcome = f'{"hit" if cell.hit else "miss"}, highest relevancy {top:.2f}'
    left = width - text_width(outcome) - GAP
    title = cell.title.encode('ascii', 'replace').decode()
    if text_width(title) > left - 2 * GAP:
        while title and text_width(title + '...') > left - 2 * GAP:
            title = title[:-1]
        title += '...'
    for text, x, color in ((title, 2, (0, 0, 0)),
                           (outcome, left, HIT_COLOR if cell.hit else MISS_COLOR)):
        cv2.putText(line, text, (x, 20), FONT, FONT_SIZE, color, 1, cv2.LINE_AA)
    return line


def text_width(text: str) -> int:
    """Pixels that a caption takes."""
    return cv2.getTextSize(text, FONT, FONT_SIZE, 1)[0][0]


def beside(tiles: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Tiles in a row with white around them, filled up with white to `count` of them."""
    height, width = max(t.shape[0] for t in tiles), tiles[0].shape[1]
    row = np.full((height + GAP, count * width + (count + 1) * GAP, 3), 255, np.uint8)
    for i, picture in enumerate(tiles):
        left = GAP + i * (width + GAP)
        row[GAP:GAP + picture.shape[0], left:left + width] = picture
    return row
