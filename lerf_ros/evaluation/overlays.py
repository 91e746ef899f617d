# SPDX-License-Identifier: Apache-2.0
"""A sheet of rendered relevancy over photographs, with the ground truth boxes of the phrases."""

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
    FONT,
    FONT_SIZE,
    GAP,
    OVERLAY_OPACITY,
    put_text,
    side_by_side,
    tile_grid,
    white,
    write_image,
)
from lerf_ros.storage.output_folder import OutputFolder

TILES_PER_ROW = 2
HIT_COLOR, MISS_COLOR = (0, 110, 60), (185, 30, 0)


@dataclass(frozen=True)
class Overlay:
    """One answer in one view. photo: (H, W, 3) uint8 RGB. relevancy: (H, W), 0..1, NaN for none.

    box_px: two opposite corners x, y, x, y of the ground truth in pixel indices, edges included;
    None where it is unknown. hit: whether the answer is right.
    """

    title: str
    photo: np.ndarray
    relevancy: np.ndarray
    box_px: Sequence[float] | np.ndarray | None
    hit: bool


def overlay_sheet(cells: Sequence[Overlay], path: str | Path,
                  tiles_per_row: int = TILES_PER_ROW) -> Path:
    """Writes pairs of photograph and overlay, with captions; returns the path.

    Raises ValueError without cells, and where a photograph and its relevancy differ in size.
    """
    if not cells:
        raise ValueError('a sheet needs at least one overlay')
    sheet, path = tile_grid([tile(cell) for cell in cells], tiles_per_row, GAP), Path(path)
    with OutputFolder(path.parent).file(path.name) as place:
        write_image(place, sheet)
    return path


def painted(photo: np.ndarray, relevancy: np.ndarray) -> np.ndarray:
    """Returns the photograph (H, W, 3) with turbo where the relevancy (H, W) is 0.5 or more."""
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
    """Returns photograph and overlay, with title, outcome and highest relevancy below them."""
    pictures = side_by_side(cell.photo, painted(cell.photo, cell.relevancy))
    if cell.box_px is not None:
        for picture in (pictures[:, :CELL_WIDTH], pictures[:, -CELL_WIDTH:]):
            outline(picture, np.asarray(cell.box_px, float), CELL_WIDTH / cell.photo.shape[1])
    return np.concatenate([pictures, caption(cell, pictures.shape[1])])


def outline(picture: np.ndarray, box_px: np.ndarray, scale: float) -> None:
    """Draws a white box with a black border. box_px (4,): pixels of the unscaled picture."""
    low = np.minimum(box_px[:2], box_px[2:]) * scale
    high = (np.maximum(box_px[:2], box_px[2:]) + 1) * scale - 1   # the last pixel is inside
    first, last = ([round(float(v)) for v in corner] for corner in (low, high))
    cv2.rectangle(picture, first, last, (0, 0, 0), 3)
    cv2.rectangle(picture, first, last, BOX_COLOR, 1)


def caption(cell: Overlay, width: int) -> np.ndarray:
    """Returns a line of text (CAPTION_HEIGHT, width, 3); a title that is too long is truncated."""
    line = white(CAPTION_HEIGHT, width)
    top = np.nan_to_num(cell.relevancy, nan=0.0).max()
    outcome = f'{"hit" if cell.hit else "miss"}, highest relevancy {top:.2f}'
    left = width - text_width(outcome) - GAP
    title = cell.title.encode('ascii', 'replace').decode()
    if text_width(title) > left - 2 * GAP:
        while title and text_width(title + '...') > left - 2 * GAP:
            title = title[:-1]
        title += '...'
    put_text(line, title)
    put_text(line, outcome, (left, 20), color=HIT_COLOR if cell.hit else MISS_COLOR)
    return line


def text_width(text: str) -> int:
    """Returns the width of a caption in pixels."""
    return cv2.getTextSize(text, FONT, FONT_SIZE, 1)[0][0]
