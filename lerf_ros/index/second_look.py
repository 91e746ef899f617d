# SPDX-License-Identifier: Apache-2.0
"""Looks at each thing a second time: in the photographs that show it best, and by itself.

The field proposes, the photographs confirm. What the language field says of a thing is blended from
crops of all keyframes, most of which show more than the thing. When a snapshot is made, the things
are known, so each is cut out of a few keyframes, without what is around it, and encoded once more.
With its surroundings a thing is told apart from its neighbours hardly better than by the field.

Crops that were encoded for the snapshot before are used again where the thing is still in the same
place of the same picture; so only new and changed things take time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import cv2
import numpy as np
import torch

from lerf_ros.config import IndexConfig
from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.looks import (
    SecondLooks,
    Shown,
    Sight,
    best_sights,
    median_spacing,
    seen_segments,
    shown_in,
    view_qualities,
)
from lerf_ros.index.surface import PosedCamera, ViewGrid

TOGETHER = 16       # looks that are encoded at once
SAME_BOX = 0.8      # intersection over union from which two boxes show the same
NEAR = 0.03         # scene radii between the middles of what may be the same thing
MARGIN = 0.3        # of the width of a thing: so far a look shows what is around it
MOST_UNUSABLE = 0.3     # part of a box that may be masked

Encode = Callable[[Sequence[np.ndarray]], np.ndarray]
Picture = Callable[[int], tuple[np.ndarray, np.ndarray | None] | None]
# `SecondLooker.look` with its budget.
LookAgain = Callable[[LanguageIndex, SceneFrame, Sequence[PosedCamera], Sequence[ViewGrid],
                      Sequence[np.ndarray]], SecondLooks]
Blank = Callable[[np.ndarray], np.ndarray]
log = logging.getLogger(__name__)


def mean_color(image: np.ndarray) -> np.ndarray:
    """Returns the mean colour (3,) of an image (H, W, 3), rounded."""
    return np.round(image.reshape(-1, image.shape[-1]).mean(0)).astype(image.dtype)


@dataclass(frozen=True)
class Look:
    """A look that was encoded: keyframe by index, box (4,) pixels, embedding (D,) float16.

    middle (3,), scene frame: of the segment.
    """

    keyframe: int
    box: np.ndarray
    middle: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Wanted:
    """A look to be taken: of a segment, in a keyframe (by index), where it is shown.

    middle (3,), scene frame: of the segment.
    """

    segment: int
    keyframe: int
    shown: Shown
    middle: np.ndarray


class SecondLooker:
    """Takes the second looks of one map's snapshots, and remembers those of the last one."""

    def __init__(self, encode: Encode, picture: Picture, config: IndexConfig,
                 blank: Blank = mean_color) -> None:
        """encode: unit embeddings (N, D) of pictures. picture: pixels (H, W, ...) of a keyframe, by
        index, and which of them may be used (H, W) bool, None for all; None if it cannot be read.
        blank: what takes the place of the pixels of a picture that show something else.
        """
        self._encode, self._picture, self._config = encode, picture, config
        self._blank = blank
        self._known: dict[int, list[Look]] = {}
        self.encoded = self.left = 0    # looks of the newest snapshot: encoded anew, still missing
        self.late = False               # for want of time, rather than of an encoder or memory

    def look(self, index: LanguageIndex, scene: SceneFrame, cameras: Sequence[PosedCamera],
             views: Sequence[ViewGrid], depths: Sequence[np.ndarray],
             seconds: float = math.inf) -> SecondLooks:
        """Returns looks at the things of an index, best-seen things first.

        scene: the frame of cameras and views. depths (rows, columns) are what the views rendered.
        seconds: after which what was not looked at before is left out.
        """
        until = time.monotonic() + seconds
        wanted = self._wanted(scene.to_scene(index.points_world), index, cameras, views, depths)
        taken: dict[int, Look] = {}
        new = []
        for i, want in enumerate(wanted):
            known = self._remembered(want)
            if known is None:
                new.append(i)
            else:
                taken[i] = known
        if math.isinf(seconds):     # all are taken, and so each keyframe is read once
            new.sort(key=lambda i: wanted[i].keyframe)
        self.encoded, self.late = 0, False
        for start in range(0, len(new), TOGETHER):
            self.late = time.monotonic() >= until
            if self.late or not self._take(wanted, new[start:start + TOGETHER], taken):
                break
        self.left = len(new) - self.encoded
        self._known = {}
        for look in taken.values():
            self._known.setdefault(look.keyframe, []).append(look)
        return joined([(wanted[i].segment, taken[i]) for i in sorted(
            taken, key=lambda i: (wanted[i].segment, i))])

    def _wanted(self, points: np.ndarray, index: LanguageIndex, cameras: Sequence[PosedCamera],
                views: Sequence[ViewGrid], depths: Sequence[np.ndarray]) -> list[Wanted]:
        """Returns the looks that there should be; points (N, 3) in the scene frame."""
        tolerance, spacing = self._config.depth_tolerance, median_spacing(points)
        segments = np.where(index.segments >= len(index.planes), index.segments, -1)
        seen = seen_segments(points, segments, views, depths, tolerance)
        count = seen.visible.shape[1]
        members = [np.flatnonzero(segments == k) for k in range(count)]
        means = [points[m].mean(0) if len(m) else np.zeros(3) for m in members]
        middles = np.reshape(means, (-1, 3))     # (S, 3), also where there is no thing
        eyes = np.array([view.T_scene_camera[:3, 3] for view in views])
        toward = eyes[:, None] - middles.reshape(1, -1, 3)
        toward /= np.maximum(np.linalg.norm(toward, axis=-1, keepdims=True), 1e-9)
        quality = view_qualities(seen, np.array([len(m) for m in members]))
        chosen = best_sights(quality, toward, self._familiar(cameras, middles),
                             self._config.look_views)
        out = []
        for sight in in_turns(chosen):
            shown = shown_in(points[members[sight.segment]], views[sight.view],
                             depths[sight.view], tolerance, spacing)
            if shown is not None:
                out.append(Wanted(sight.segment, cameras[sight.view].index, shown,
                                  middles[sight.segment]))
        return out

    def _familiar(self, cameras: Sequence[PosedCamera], middles: np.ndarray) -> np.ndarray:
        """Returns which keyframes have a look at about these middles (S, 3); (V, S) bool."""
        out = np.zeros((len(cameras), len(middles)), bool)
        for row, camera in zip(out, cameras, strict=True):
            for look in self._known.get(camera.index, ()):
                row |= np.linalg.norm(middles - look.middle, axis=1) <= NEAR
        return out

    def _remembered(self, want: Wanted) -> Look | None:
        """Returns a look of before that shows the same."""
        return next((look for look in self._known.get(want.keyframe, ())
                     if box_iou(look.box, want.shown.box) >= SAME_BOX), None)

    def _take(self, wanted: Sequence[Wanted], rows: Sequence[int], taken: dict[int, Look]) -> bool:
        """Encodes some of the wanted looks; returns whether there is memory for more."""
        pictures = {k: self._picture(k) for k in {wanted[i].keyframe for i in rows}}
        crops: list[np.ndarray] = []
        shown: list[int] = []
        for i in rows:
            picture, there = pictures[wanted[i].keyframe], wanted[i].shown
            if picture and (picture[1] is None
                            or unusable_part(picture[1], there.box) <= MOST_UNUSABLE):
                crops += crops_of(picture[0], there, self._config.look_margins, self._blank)
                shown.append(i)
        self.encoded += len(rows)
        if not crops:
            return True
        try:
            rows_of = self._encode(crops).reshape(len(shown), len(self._config.look_margins), -1)
        except (torch.OutOfMemoryError, EncoderUnavailableError) as error:
            reason = str(error).splitlines()[0]
            log.warning('second looks are left out of this snapshot: %s', reason)
            self.encoded -= len(rows)
            return False
        mean = rows_of.mean(1)
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-6)
        for i, embedding in zip(shown, mean.astype(np.float16), strict=True):
            taken[i] = Look(wanted[i].keyframe, wanted[i].shown.box, wanted[i].middle, embedding)
        return True


def in_turns(chosen: Sequence[Sequence[Sight]]) -> Iterator[Sight]:
    """Yields the best sight of every segment first, best-seen segments first, then the second."""
    order = sorted((sights for sights in chosen if sights), key=lambda s: -s[0].quality)
    for turn in zip_longest(*order):
        yield from (sight for sight in turn if sight is not None)


def joined(looks: Sequence[tuple[int, Look]]) -> SecondLooks:
    """Returns looks at segments as arrays."""
    if not looks:
        return SecondLooks()
    return SecondLooks(np.array([segment for segment, _ in looks], np.int32),
                       np.array([look.keyframe for _, look in looks], np.int32),
                       np.stack([look.box for _, look in looks]).astype(np.float32),
                       np.stack([look.embedding for _, look in looks]))


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the intersection over union of two boxes (4,)."""
    shared = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    both = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    return float(shared / max(both, 1e-9))


def unusable_part(usable: np.ndarray, box: np.ndarray) -> float:
    """Returns which part of a box (4,) in pixels must not be used, from usable (H, W) bool."""
    x0, y0, x1, y1 = np.round(box).astype(int)
    inside = usable[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)]
    return 1.0 - float(inside.mean()) if inside.size else 1.0


def crops_of(image: np.ndarray, shown: Shown, margins: Sequence[float],
             blank: Blank) -> list[np.ndarray]:
    """Returns a square crop of an image (H, W, ...) for each margin, of the thing alone.

    Its side is that many times the longer side of the box: a square is not distorted by encoders
    that see squares. Where the image is too small, so is the crop.
    """
    height, width = image.shape[:2]
    low, high = shown.box[:2], shown.box[2:]
    middle, side = (low + high) / 2, float((high - low).max())
    empty, out = blank(image), []
    for margin in margins:
        edge = max(round(side * margin), 1)
        w, h = min(edge, width), min(edge, height)
        x = int(np.clip(round(float(middle[0]) - w / 2), 0, width - w))
        y = int(np.clip(round(float(middle[1]) - h / 2), 0, height - h))
        crop = image[y:y + h, x:x + w].copy()
        crop[~covered(shown.pixels - (x, y), shown.reach, (h, w))] = empty
        out.append(crop)
    return out


def covered(pixels: np.ndarray, reach: float, shape: tuple[int, int]) -> np.ndarray:
    """Returns which pixels (h, w) bool a thing covers whose points are at positions (n, 2).

    Gaps up to `reach` pixels are closed. Around its points it reaches as far, but no farther than
    MARGIN of its width: the points of what is small in the image are far apart beside its size.
    """
    at = np.floor(pixels).astype(int)
    at = at[((at >= 0) & (at < (shape[1], shape[0]))).all(1)]
    mask = np.zeros(shape, np.uint8)
    mask[at[:, 1], at[:, 0]] = 1
    grown = math.ceil(reach)
    closed = cv2.dilate(mask, disc(grown))
    if not len(pixels):
        return closed > 0
    length = float(np.hypot(*np.ptp(pixels, axis=0))) + 2 * grown
    width = max(np.count_nonzero(closed) / max(length, 1.0) - 2 * grown, 0.0)
    return cv2.erode(closed, disc(round(max(grown - MARGIN * width, 0.0)))) > 0


def disc(radius: int) -> np.ndarray:
    """Returns a round structuring element of a radius in pixels."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
