# SPDX-License-Identifier: Apache-2.0
"""A map as seen from straight above, with the hits of several phrases: a plan of rooms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lerf_ros.query.answer import Answer, PhraseAnswer, Presence
from lerf_ros.show.colors import TAB10
from lerf_ros.show.pictures import FONT, GAP, put_text, white, write_image
from lerf_ros.storage.output_folder import OutputFolder

NAME = 'from_above.png'
LONGEST_PX = 1600           # the longer side of the map in the picture
MARGIN_PX = 24
CUT = 2.0                   # metres above the floor: a ceiling would hide all
FLOOR_SHARE = 0.01          # part of the points that are lower than the floor, by mistake
PALE = 0.45                 # how much white is mixed in, so that hits stand out
DOT = 0.02                  # edge of a point at least, world units
LEGEND_ROW, LEGEND_WIDTH = 26, 420
LABEL_SIZE = 0.5


@dataclass(frozen=True)
class PlanView:
    """Which place of the map is where in a picture: x to the right, y up.

    low (2,): world x and y of the lower left corner. scale: pixels per world unit. width, height:
    of the picture.
    """

    low: np.ndarray
    scale: float
    width: int
    height: int

    @staticmethod
    def of(points: np.ndarray) -> PlanView:
        """Returns the view that shows all points (N, 3)."""
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        scale = (LONGEST_PX - 2 * MARGIN_PX) / max(float((high - low).max()), 1e-6)
        width, height = np.ceil(scale * (high - low)).astype(int) + 2 * MARGIN_PX
        return PlanView(low - MARGIN_PX / scale, scale, int(width), int(height))

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Returns column and row (N, 2) int of points (N, 2 or more)."""
        x, y = (np.asarray(points)[:, :2] - self.low).T * self.scale
        return np.floor(np.stack([x, self.height - y], 1)).astype(int)


def from_above(answers: Sequence[Answer]) -> np.ndarray:
    """Draws the surface of a map and the boxes of all hits; returns (H, W, 3) uint8 RGB.

    answers: one or more, all of one map with its cloud. The phrases of each have a colour of their
    own, and a line in the legend, which says as well what was not found.
    """
    told: list[Answer | PhraseAnswer] = [
        part for answer in answers for part in answer.phrases or (answer,)]
    points, colors = answers[0].points_world, answers[0].colors
    if not len(points):
        return legend(told, LEGEND_WIDTH)
    view, metric = PlanView.of(points), answers[0].metric
    picture = surface(view, points, colors, CUT if metric else math.inf)
    boxes = [(number, view.pixels(hit.corners())) for number, answer in enumerate(told)
             for hit in answer.hits]
    for number, corners in boxes:
        draw_box(picture, corners, color_of(number))
    taken = [np.concatenate([corners.min(0), corners.max(0)]) for _, corners in boxes]
    for number, corners in boxes:       # over all boxes
        draw_name(picture, corners, told[number].text, color_of(number), taken)
    draw_scale(picture, view, 'm' if metric else '')
    return np.concatenate([picture, legend(told, picture.shape[1])])


def save_from_above(answers: Sequence[Answer], folder: Path) -> Path:
    """Writes the picture of `from_above` into a folder; returns its path."""
    with OutputFolder(folder).file(NAME) as path:
        write_image(path, from_above(answers))
    return folder / NAME


def color_of(number: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a phrase by its number."""
    red, green, blue = TAB10[number % len(TAB10)].tolist()
    return red, green, blue


def surface(view: PlanView, points: np.ndarray, colors: np.ndarray, cut: float) -> np.ndarray:
    """Draws points (N, 3) of colours (N, 3) uint8, made pale, the highest on top.

    Those that are higher than `cut` above the floor are left out.
    """
    floor = float(np.quantile(points[:, 2], FLOOR_SHARE))
    order = np.argsort(points[:, 2], kind='stable')
    order = order[points[order, 2] < floor + cut]
    picture = white(view.height, view.width)
    at, paint = view.pixels(points[order]), np.asarray(colors, np.float64)[order]
    paint = np.round(255 * PALE + (1 - PALE) * paint).astype(np.uint8)
    reach = max(math.ceil(DOT * view.scale / 2), 1)
    # By layers of one height, so that the dots of low points never cover higher ones.
    for layer in np.array_split(np.arange(len(order)), 32):
        for dx in range(-reach, reach + 1):
            for dy in range(-reach, reach + 1):
                column = np.clip(at[layer, 0] + dx, 0, view.width - 1)
                row = np.clip(at[layer, 1] + dy, 0, view.height - 1)
                picture[row, column] = paint[layer]
    return picture


def draw_box(picture: np.ndarray, corners: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draws the outline of a box by the pixels (8, 2) of its corners."""
    outline = cv2.convexHull(corners.astype(np.int32))
    cv2.polylines(picture, [outline], True, (255, 255, 255), 5, cv2.LINE_AA)
    cv2.polylines(picture, [outline], True, color, 2, cv2.LINE_AA)


def draw_name(picture: np.ndarray, corners: np.ndarray, name: str, color: tuple[int, int, int],
              taken: list[np.ndarray]) -> None:
    """Writes a name beside the corners (8, 2) of a box, where there is nothing else if that can be.

    taken: rectangles (x0, y0, x1, y1) of boxes and names; that of this name is added.
    """
    (width, height), _ = cv2.getTextSize(name, FONT, LABEL_SIZE, 1)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    middle = (top + bottom - height) // 2
    centred = (left + right - width) // 2
    places = [(right + GAP, middle), (left - GAP - width, middle),
              (centred, top - GAP - height), (centred, bottom + GAP)]
    areas = [np.array([x, y, x + width, y + height]) for x, y in places]
    free = [area for area in areas if area[0] >= 0 and area[2] < picture.shape[1]
            and not any(overlap(area, other) for other in taken)]
    area = (free or areas)[0]
    taken.append(area)
    at = int(area[0]), int(area[3])
    for dx, dy in np.ndindex(3, 3):
        put_text(picture, name, (at[0] + dx - 1, at[1] + dy - 1), LABEL_SIZE, (255, 255, 255))
    put_text(picture, name, at, LABEL_SIZE, color)


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Returns whether two rectangles (x0, y0, x1, y1) share a pixel."""
    return bool((np.maximum(a[:2], b[:2]) <= np.minimum(a[2:], b[2:])).all())


def draw_scale(picture: np.ndarray, view: PlanView, unit: str) -> None:
    """Draws a bar of a round length, at most a fifth of the picture, in the lower left corner."""
    most = view.width / view.scale / 5
    length = max(step * 10.0 ** math.floor(math.log10(most)) for step in (1, 2, 5)
                 if step * 10.0 ** math.floor(math.log10(most)) <= most)
    y, end = view.height - 10, MARGIN_PX + round(length * view.scale)
    cv2.line(picture, (MARGIN_PX, y), (end, y), (0, 0, 0), 2)
    put_text(picture, f'{length:g} {unit}'.strip(), (end + GAP, y + 4), LABEL_SIZE)


def legend(answers: Sequence[Answer | PhraseAnswer], width: int) -> np.ndarray:
    """Returns a line (H, width, 3) for each phrase: its colour, and what was said of it."""
    columns = max(width // LEGEND_WIDTH, 1)
    rows = -(-len(answers) // columns)
    out = white(rows * LEGEND_ROW + GAP, width)
    for number, answer in enumerate(answers):
        x = (number % columns) * LEGEND_WIDTH + MARGIN_PX
        y = (number // columns) * LEGEND_ROW + 18
        cv2.rectangle(out, (x, y - 11), (x + 14, y + 3), color_of(number), -1)
        put_text(out, f'{answer.text}: {said(answer)}', (x + 22, y), LABEL_SIZE)
    return out


def said(answer: Answer | PhraseAnswer) -> str:
    """Returns in two or three words whether and how often something was found."""
    if answer.hits:
        return f'{len(answer.hits)} found' if len(answer.hits) > 1 else 'found'
    return 'absent' if answer.presence == Presence.ABSENT else 'not observed'
