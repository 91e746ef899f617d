# SPDX-License-Identifier: Apache-2.0
"""Second looks of an index, and which keyframes show each of its segments best.

A keyframe shows a segment well if most of it is in the picture, nothing hides it, and it is large.
Two keyframes say more than one if they look from different sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.index.surface import ViewGrid, columns, in_image

PREFIX = 'look_'    # of the names of the stored arrays
ENOUGH_PX = 224     # a larger picture of a thing tells an encoder no more
LEAST_PX = 12       # a smaller one tells it nothing
LEAST_POINTS = 5    # visible points of a segment from which a view shows it
POOR = 0.3          # times the best view's quality: worse views add noise
APART = 0.7         # radians between the directions of two views that are independent
SAME_SIDE = 0.3     # worth of a second view from the same side
FAMILIAR = 1.25     # worth of a view that was looked at before: so that choices are stable
COVERED = 2.0       # times the spacing of points: how far a thing reaches around each of them
LEAST_REACH = 2.0   # pixels
SAMPLE = 2000       # points that their spacing is measured at
TRIM = 0.005       # part of the visible points that a box leaves out at each side


def none_of(dimension: int, kind: type) -> np.ndarray:
    """Returns no rows of `dimension` numbers."""
    return np.zeros((0, dimension), kind)


@dataclass(frozen=True)
class SecondLooks:
    """C looks at segments, those of one segment in a row, the best view first.

    segments (C,) int32: what each look shows. keyframes (C,) int32: the keyframe that shows it, by
    index. boxes (C, 4) float32: where, (x0, y0, x1, y1) in pixels. embeddings (C, D) float16, unit:
    of what is cut out around the box.
    """

    segments: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    keyframes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    boxes: np.ndarray = field(default_factory=lambda: none_of(4, np.float32))
    embeddings: np.ndarray = field(default_factory=lambda: none_of(0, np.float16))

    def __len__(self) -> int:
        return len(self.segments)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by the names that they are stored by."""
        return {PREFIX + name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> SecondLooks:
        """Makes looks of what `arrays` returned; none for maps that were made without."""
        stored = {name: arrays[PREFIX + name] for name in cls.__dataclass_fields__
                  if PREFIX + name in arrays}
        return cls(**stored) if len(stored) == len(cls.__dataclass_fields__) else cls()


class Sight(NamedTuple):
    """A segment in a view, both by number. quality: how well it is seen, 0..1."""

    segment: int
    view: int
    quality: float


@dataclass(frozen=True)
class SeenSegments:
    """How V views show S segments.

    visible, inside (V, S): points that are seen, and that lie in the picture, hidden or not. side
    (V, S): longer side of the visible part, pixels.
    """

    visible: np.ndarray
    inside: np.ndarray
    side: np.ndarray


def seen_segments(points: np.ndarray, segment_of: np.ndarray, views: Sequence[ViewGrid],
                  depths: Sequence[np.ndarray], tolerance: float) -> SeenSegments:
    """Counts what the views show of each segment.

    points (N, 3), scene frame. segment_of (N,): -1 for none. depths (rows, columns) are what the
    views rendered; a point is seen where they agree with its distance within this fraction.
    """
    count = int(segment_of.max(initial=-1)) + 1
    visible, inside, side = (np.zeros((len(views), count)) for _ in range(3))
    member = np.flatnonzero(segment_of >= 0)
    rows, segment = columns(points[member]), segment_of[member]
    for v, (view, depth) in enumerate(zip(views, depths, strict=True)):
        shown = in_image(view.camera, view.T_scene_camera, view.step, rows)
        of = segment[shown.index]
        inside[v] = np.bincount(of, minlength=count)
        error = np.abs(depth[shown.row, shown.column] - shown.distance)
        seen = error <= tolerance * shown.distance              # NaN compares as False
        visible[v] = np.bincount(of[seen], minlength=count)
        cells = np.stack([shown.column[seen], shown.row[seen]], 1)
        side[v] = view.step * longer_sides(cells, of[seen], count)
    return SeenSegments(visible, inside, side)


def longer_sides(cells: np.ndarray, segment: np.ndarray, count: int) -> np.ndarray:
    """Returns the longer side (S,) of the box around each segment's cells (n, 2), in cells."""
    out = np.zeros(count)
    if len(segment):
        order = np.argsort(segment, kind='stable')
        first = np.flatnonzero(np.diff(segment[order], prepend=-1))
        low, high = (reduce.reduceat(cells[order], first) for reduce in (np.minimum, np.maximum))
        out[segment[order[first]]] = (high - low).max(1) + 1
    return out


def view_qualities(seen: SeenSegments, sizes: np.ndarray) -> np.ndarray:
    """Returns how well each view shows each segment (V, S), 0..1; sizes (S,) in points."""
    most = np.maximum(seen.visible.max(0, initial=0), 1)
    large = np.minimum(seen.side, ENOUGH_PX) / ENOUGH_PX
    quality = seen.visible / most * seen.inside / np.maximum(sizes, 1) * large
    return np.where((seen.visible >= LEAST_POINTS) & (seen.side >= LEAST_PX), quality, 0.0)


def best_sights(quality: np.ndarray, directions: np.ndarray, familiar: np.ndarray,
                count: int) -> list[list[Sight]]:
    """Chooses up to `count` views of each segment, the best first, from different sides.

    quality (V, S). directions (V, S, 3), unit: from each segment to each camera. familiar (V, S)
    bool: what was looked at before.
    """
    out = []
    for k in range(quality.shape[1]):
        worth = quality[:, k] * np.where(familiar[:, k], FAMILIAR, 1.0)
        left = np.where(quality[:, k] > POOR * quality[:, k].max(initial=0.0), worth, 0.0)
        chosen: list[Sight] = []
        while len(chosen) < count and left.max(initial=0.0) > 0:
            v = int(left.argmax())
            chosen.append(Sight(k, v, float(quality[v, k])))
            angle = np.arccos(np.clip(directions[:, k] @ directions[v, k], -1, 1))
            left *= SAME_SIDE + (1 - SAME_SIDE) * np.minimum(angle / APART, 1)
            left[v] = 0.0
        out.append(chosen)
    return out


class Shown(NamedTuple):
    """A thing in a picture: the box (4,) around what is visible, (x0, y0, x1, y1) in pixels.

    pixels (n, 2): of its points, hidden or not. reach: how far around each of them it covers the
    picture, pixels.
    """

    box: np.ndarray
    pixels: np.ndarray
    reach: float


def shown_in(points: np.ndarray, view: ViewGrid, depth: np.ndarray, tolerance: float,
             spacing: float) -> Shown | None:
    """Returns how a view shows points (N, 3), scene frame, that are `spacing` apart.

    A few outermost points do not count for the box. None where too little is seen.
    """
    shown = in_image(view.camera, view.T_scene_camera, view.step, columns(points))
    error = np.abs(depth[shown.row, shown.column] - shown.distance)
    seen = shown.index[error <= tolerance * shown.distance]
    if len(seen) < LEAST_POINTS:
        return None
    pixels = view.camera.project(transform_points(invert_pose(view.T_scene_camera), points))
    low, high = np.nanquantile(pixels[seen], (TRIM, 1 - TRIM), axis=0)
    if (high - low).max() < LEAST_PX:
        return None
    size = view.camera.width, view.camera.height
    reach = COVERED * spacing * view.camera.fx / max(float(np.median(shown.distance)), 1e-6)
    return Shown(np.concatenate([np.clip(low, 0, size), np.clip(high, 0, size)]).astype(np.float32),
                 pixels[np.isfinite(pixels).all(1)].astype(np.float32), max(reach, LEAST_REACH))


def median_spacing(points: np.ndarray) -> float:
    """Returns the median distance of points (N, 3) from the next one; 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    asked = points[::max(1, len(points) // SAMPLE)]
    return float(np.median(cKDTree(points).query(asked, 2)[0][:, 1]))
