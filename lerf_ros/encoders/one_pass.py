# SPDX-License-Identifier: Apache-2.0
"""One run of an image tower over a whole image, and the grid of embeddings that it gives."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.timm_towers import ConvMap, Tower

# Default receptive field of a cell as a fraction of the side that the tower was trained at.
# Convolutional: half of the gradient mass of EfficientNet-Lite2 lies within 180 of 260 pixels.
# Transformer: half of the side, an assumption.
CONV_FRACTION, VIT_FRACTION = 180 / 260, 0.5


def receptive_field(tower: Tower, configured_px: float) -> float:
    """Returns the width in pixels that a cell describes: the configured one, or by the tower."""
    return configured_px or tower.side * (
        CONV_FRACTION if isinstance(tower, ConvMap) else VIT_FRACTION)


def encode_cells(tower: Tower, normalised: Callable[[np.ndarray], Tensor], image: np.ndarray,
                 factor: float, receptive_px: float) -> EmbeddingMap:
    """Encodes the cells of an RGB image (H, W, 3) uint8 that is resized by `factor` first.

    normalised: computes the model's input (1, 3, h, w) of images (1, h, w, 3) uint8. Sides are
    rounded to whole cells. Embeddings are rounded to half precision, as those of crops are.
    """
    height, width = image.shape[:2]
    h, w = (max(tower.stride, round(side * factor / tower.stride) * tower.stride)
            for side in (height, width))
    found = tower(normalised(resize_image(image, w, h)[None]))
    rows, cols = found.shape[:2]
    ids = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols, 1)
    sx, sy = width / w, height / h
    return EmbeddingMap(
        width_px=receptive_px * (sx * sy) ** 0.5,
        origin_px=(tower.center * sx, tower.center * sy),
        stride_px=(tower.stride * sx, tower.stride * sy), ids=ids,
        weights=np.ones(ids.shape, np.float16),
        vocabulary=unit_rows(found.flatten(0, 1)).astype(np.float16).astype(np.float32))


def unit_rows(rows: Tensor) -> np.ndarray:
    """Returns rows (N, D) of unit length, float32."""
    return normalize(rows.float(), dim=-1).cpu().numpy()


def resize_image(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes an image (H, W, 3) uint8, with area averaging to shrink and cubic to enlarge it."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def working_precision(device: str, half: torch.dtype = torch.float16) -> torch.dtype:
    """Returns the type that networks run in: `half` on a GPU, single precision on a CPU."""
    return half if device.startswith('cuda') else torch.float32
