# SPDX-License-Identifier: Apache-2.0
"""An encoder that reads labels instead of pixels, so that errors are those of the field.

The embedding of a crop is norm(sum over labels of the area in the crop times the embedding of the
label's name). For simulated scenes only, in which every pixel has a label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from lerf_ros.encoders.conse_classes import TEMPLATE
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures, sort_levels
from lerf_ros.encoders.pyramid import check_widths, crop_sides
from lerf_ros.encoders.sentence import SENTENCE_MODEL
from lerf_ros.frames.frame import Frame

# Labels that a cell stores; crops with more labels are rare, and the others are small.
TOP = 5
STRIDE_PX = 16.0
DENSE_STRIDE_PX = 8


class Sentences(Protocol):
    """The part of SentenceEncoder that the oracle needs."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, D) float32."""

    def version(self) -> str:
        """Returns name and version of the weights."""


class OracleEncoder:
    """Encodes texts like the encoder conse, and images by their label masks."""

    name = 'oracle'

    def __init__(self, sentences: Sentences) -> None:
        self._sentences = sentences
        # One array for each tuple of names, which all maps of a scene share.
        self._vocabularies: dict[tuple[str, ...], np.ndarray] = {}
        self.dimension = self.encode_texts(['table']).shape[1]

    def identity(self) -> dict[str, str]:
        """Returns the identity as in ImageTextEncoder."""
        return {'name': self.name, 'model': f'areas of labels, {SENTENCE_MODEL}, {TEMPLATE!r}',
                'weights': self._sentences.version()}

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, D) float32 of phrases."""
        return self._sentences.encode([TEMPLATE.format(text.strip()) for text in texts])

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Raises TypeError, because the oracle cannot read an image without its labels."""
        raise TypeError('the oracle reads label masks: use keyframe_features')

    def vocabulary(self, names: Sequence[str]) -> np.ndarray:
        """Returns unit rows (V, D) float32 of the names, always the same array."""
        key = tuple(names)
        if key not in self._vocabularies:
            self._vocabularies[key] = self.encode_texts(key)
        return self._vocabularies[key]

    def keyframe_features(self, labels: np.ndarray, names: Sequence[str],
                          widths_px: Sequence[float],
                          stride_px: float = STRIDE_PX) -> KeyframeFeatures:
        """Returns a level for each width of square crops, and dense features from the labels.

        labels: (H, W) int32, indices of `names`. widths_px: sides of the crops, whose parts
        outside of the image do not count. stride_px: approximate distance between crop centres.
        Raises ValueError for pixels without a label.
        """
        if labels.min() < 0 or labels.max() >= len(names):
            raise ValueError(f'labels from {labels.min()} to {labels.max()}: every pixel needs '
                             f'one of the {len(names)} names')
        present = np.unique(labels)
        sums = running_sums(labels[None] == present[:, None, None])   # (L, H, W + 1)
        vocabulary = self.vocabulary(names)
        levels = [crop_level(sums, present, width, stride_px, vocabulary) for width in widths_px]
        return KeyframeFeatures(sort_levels(levels), dense_codes(sums, present, len(names)))


def crop_encoder(encoder: OracleEncoder,
                 names: Sequence[str]) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Returns what maps crops of label masks (h, w), indices of `names`, to unit rows (N, D).

    Pixels with a label of -1 are blank and do not count.
    """
    vocabulary = encoder.vocabulary(names)

    def encode(crops: Sequence[np.ndarray]) -> np.ndarray:
        areas = np.stack([np.bincount(crop[crop >= 0], minlength=len(names)) for crop in crops])
        rows = areas.astype(np.float32) @ vocabulary
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return encode


def no_label(labels: np.ndarray) -> np.ndarray:
    """Returns what a blank pixel of a label mask is."""
    return np.array(-1, labels.dtype)


class OracleExtractor:
    """Replaces FeatureExtractor on frames whose label masks are known.

    Widths in the world become widths in pixels as they do there.
    """

    def __init__(self, encoder: OracleEncoder, labels: Mapping[int, np.ndarray],
                 names: Sequence[str]) -> None:
        """labels: (H, W) int32 by the stamp of the frame, nanoseconds. names: of the labels."""
        self._encoder, self._labels, self._names = encoder, labels, tuple(names)

    def extract(self, frame: Frame, widths_world: Sequence[float] = (),
                depth_world: float = math.nan) -> KeyframeFeatures:
        """Extracts features as in FeatureExtractor.extract."""
        check_widths(widths_world, depth_world)
        widths_px = [width * frame.camera.fx / depth_world for width in widths_world]
        sides = crop_sides(widths_px, *frame.image.shape[:2])
        return self._encoder.keyframe_features(self._labels[frame.stamp_ns], self._names, sides)


def crop_level(sums: np.ndarray, present: np.ndarray, width_px: float, stride_px: float,
               vocabulary: np.ndarray) -> EmbeddingMap:
    """Returns the map of square crops of one width, centred on an even grid over the image.

    sums: (L, H, W + 1) float32, running sums of the mask of each label in `present` (L,).
    """
    height, width = sums.shape[1], sums.shape[2] - 1
    x, y = grid_centers(width, stride_px), grid_centers(height, stride_px)
    areas = window_areas(sums, x, y, width_px, width_px)
    best = np.argsort(-areas, axis=-1, kind='stable')[..., :TOP]
    shares = np.take_along_axis(areas, best, -1) / areas.sum(-1, keepdims=True)
    # A map that shows few labels has as many entries as all others.
    missing = [(0, 0), (0, 0), (0, TOP - best.shape[-1])]
    best, shares = np.pad(best, missing), np.pad(shares, missing)
    return EmbeddingMap(
        width_px=float(width_px), origin_px=(float(x[0]), float(y[0])),
        stride_px=(width / len(x), height / len(y)), ids=present[best].astype(np.int32),
        weights=shares.astype(np.float16), vocabulary=vocabulary)


def dense_codes(sums: np.ndarray, present: np.ndarray, count: int) -> np.ndarray:
    """Returns unit features (rows, cols, count) float16: the mean code of the labels in each cell.

    The codes of the `count` labels are at right angles to each other, the same for every frame.
    """
    height, width = sums.shape[1], sums.shape[2] - 1
    x, y = grid_centers(width, DENSE_STRIDE_PX), grid_centers(height, DENSE_STRIDE_PX)
    areas = window_areas(sums, x, y, width / len(x), height / len(y))
    codes, _ = np.linalg.qr(np.random.default_rng(count).standard_normal((count, count)))
    features = areas @ codes[present].astype(np.float32)
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float16)


def grid_centers(length_px: int, stride_px: float) -> np.ndarray:
    """Returns the centres (N,) in pixels of equal cells of about `stride_px` that fill a length."""
    count = max(round(length_px / stride_px), 1)
    return (np.arange(count) + 0.5) * (length_px / count)


def window_areas(sums: np.ndarray, x: np.ndarray, y: np.ndarray, width_px: float,
                 height_px: float) -> np.ndarray:
    """Areas (rows, cols, L), in pixels, of masks in windows centred at x (cols,) and y (rows,).

    sums: (L, H, W + 1), the masks' running sums. What lies outside of the image does not count;
    pixels on the rim of a window count by their part in it.
    """
    strips = between(sums, x - width_px / 2, x + width_px / 2)               # (L, H, cols)
    columns = running_sums(strips.swapaxes(1, 2))
    return between(columns, y - height_px / 2, y + height_px / 2).transpose(2, 1, 0)


def running_sums(values: np.ndarray) -> np.ndarray:
    """Returns sums (..., N + 1) float32 of the values (..., N) before each pixel."""
    return np.pad(np.cumsum(values, -1, dtype=np.float32), [(0, 0)] * (values.ndim - 1) + [(1, 0)])


def between(sums: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Sums (..., M) from positions low to high (M,), from running sums (..., N + 1).

    Within a pixel a sum grows evenly, so any position between pixels is interpolated exactly.
    """
    def before(position: np.ndarray) -> np.ndarray:
        position = np.clip(position, 0, sums.shape[-1] - 1)
        pixel = np.minimum(position.astype(np.int64), sums.shape[-1] - 2)
        part = (position - pixel).astype(np.float32)
        return sums[..., pixel] * (1 - part) + sums[..., pixel + 1] * part
    return before(high) - before(low)
