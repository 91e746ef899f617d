# SPDX-License-Identifier: Apache-2.0
"""open_clip models at every place of an image, instead of crop by crop."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lerf_ros.config import FeatureConfig
from lerf_ros.errors import ConfigError
from lerf_ros.features.conse_encoder import resize_image
from lerf_ros.features.embedding_map import EmbeddingMap
from lerf_ros.features.openclip_encoder import OpenClipEncoder
from lerf_ros.features.vit_tokens import VitTokens

# Width that a cell speaks of as a part of the side that the tower was trained at, where the
# settings do not tell it. Convolutional: half of the gradient mass of EfficientNet-Lite2 lies
# within 180 of 260 pixels. Transformer: half of the side, an assumption.
CONV_PART, VIT_PART = 180 / 260, 0.5


class Tower(Protocol):
    """An image tower that gives an embedding for each cell of an image."""

    stride: int     # pixels from one cell to the next
    center: float   # pixels from the border to the middle of the first cell
    side: int       # of the images that it was trained on, pixels

    def __call__(self, pixels: Tensor) -> Tensor:
        """(rows, cols, D) of the model's input (1, 3, H, W), multiples of the stride."""


class ConvMap:
    """The last feature map of a convolutional tower, each cell through the model's own head.

    Where the head is linear the mean over the cells is the image's embedding; otherwise a cell is
    what the head would say of an image that looks like this cell everywhere.
    """

    def __init__(self, visual: Any) -> None:
        """Raises ConfigError for a tower that is none of timm's convolutional networks."""
        trunk = getattr(visual, 'trunk', None)
        reductions = [info.get('reduction') for info in getattr(trunk, 'feature_info', [])]
        if trunk is None or not reductions or hasattr(trunk, 'patch_embed') or any(
                name.startswith('pool') for name, _ in visual.head.named_children()):
            raise ConfigError(
                f"features.openclip_dense = 'conv': the image tower {type(visual).__name__} is no "
                "convolutional network that timm knows; set it to 'maskclip' or 'naclip' for a "
                "vision transformer, or to 'none' for crops")
        self._visual = visual
        self.stride = int(reductions[-1])
        self.side = int(visual.image_size[0])
        # TensorFlow's padding gives all of an odd pixel to the right and below: in each halving
        # the kernel sits later. Measured 25 and 23 of 32 pixels on photographs.
        same = any(type(module).__name__ == 'Conv2dSame' for module in trunk.modules())
        self.center = self.stride * (0.75 if same else 0.5)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See Tower."""
        found = self._visual.trunk.forward_features(pixels)[0]             # (C, rows, cols)
        cells = self._visual.head(found.flatten(1).T)
        return cells.reshape(*found.shape[1:], -1)


class DenseOpenClipEncoder(OpenClipEncoder):
    """As OpenClipEncoder, and embeddings of all places of an image from one run."""

    def __init__(self, config: FeatureConfig, device: str = 'cpu', text_only: bool = False) -> None:
        """Reads the openclip_* settings.

        Raises ConfigError for a tower that cannot do what features.openclip_dense asks for, and
        what OpenClipEncoder raises.
        """
        super().__init__(config.openclip_model, config.openclip_pretrained, device=device,
                         batch=config.batch, text_only=text_only)
        self.dense_mode = config.openclip_dense
        self.receptive_px = config.openclip_receptive_px
        self._tower: Tower | None = None
        if not text_only:
            self._tower = make_tower(self._model.visual, self.dense_mode)
            self.receptive_px = self.receptive_px or self._tower.side * (
                CONV_PART if self.dense_mode == 'conv' else VIT_PART)

    @torch.inference_mode()
    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Embeddings of the cells of the RGB image (H, W, 3) uint8 resized by `factor`.

        Rounded to half precision, as crops are.
        """
        if self._tower is None:
            raise RuntimeError('this encoder was loaded with text_only and cannot encode images')
        tower, (height, width) = self._tower, image.shape[:2]
        h, w = (max(tower.stride, round(side * factor / tower.stride) * tower.stride)
                for side in (height, width))
        pixels = self._squares.normalised(resize_image(image, w, h)[None])
        found = tower(pixels)
        rows, cols = found.shape[:2]
        ids = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols, 1)
        sx, sy = width / w, height / h
        return EmbeddingMap(
            width_px=self.receptive_px * (sx * sy) ** 0.5,
            origin_px=(tower.center * sx, tower.center * sy),
            stride_px=(tower.stride * sx, tower.stride * sy), ids=ids,
            weights=np.ones(ids.shape, np.float16),
            vocabulary=self._unit(found.flatten(0, 1)).astype(np.float16).astype(np.float32))


def make_tower(visual: Any, mode: str) -> Tower:
    """The tower in this mode: maskclip, naclip or conv; ConfigError where it cannot follow."""
    return ConvMap(visual) if mode == 'conv' else VitTokens(visual, mode)
