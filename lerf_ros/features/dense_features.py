# SPDX-License-Identifier: Apache-2.0
"""DINO features: they follow object borders and keep the language field smooth inside of them."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import cv2
import numpy as np
import torch

from lerf_ros.features.encoders import require
from lerf_ros.features.hub import cache_folder, first_line, hub_or_cache

log = logging.getLogger(__name__)

# Paper: the keys of the last layer at stride 8, with the shorter side at 500 pixels.
SHORT_SIDE = 500


class DenseFeatures(Protocol):
    """Gives unit features on an even grid over an image."""

    def features(self, image: np.ndarray) -> np.ndarray:
        """(rows, cols, C) float16, unit length a cell, of an RGB image (H, W, 3) uint8."""


class DinoFeatures:
    """Attention keys of the last layer of a vision transformer in timm (Caron et al., 2021)."""

    def __init__(self, model: str, device: str = 'cpu', pretrained: bool = True) -> None:
        """Loads the model; what timm and its hub raise is passed on."""
        timm = require('timm', 'openclip')
        self._model = timm.create_model(
            model, pretrained=pretrained, num_classes=0, dynamic_img_size=True).to(device).eval()
        data = timm.data.resolve_model_data_config(self._model)
        self._mean, self._std = (torch.tensor(data[k], device=device).view(3, 1, 1)
                                 for k in ('mean', 'std'))
        self._patch = int(self._model.patch_embed.patch_size[0])
        self._device = device
        self._qkv: torch.Tensor | None = None
        self._model.blocks[-1].attn.qkv.register_forward_hook(self._keep)

    def _keep(self, _module: Any, _inputs: Any, output: torch.Tensor) -> None:
        self._qkv = output

    @torch.inference_mode()
    def features(self, image: np.ndarray, short_side: int = SHORT_SIDE) -> np.ndarray:
        """Unit keys (rows, cols, C) float16 of an RGB image (H, W, 3) uint8, one a patch."""
        height, width = image.shape[:2]
        scale = short_side / min(height, width)
        rows, cols = (max(int(side * scale) // self._patch, 1) for side in (height, width))
        size = (cols * self._patch, rows * self._patch)
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1
                             else cv2.INTER_CUBIC)
        pixels = torch.from_numpy(resized).to(self._device).permute(2, 0, 1).float() / 255
        self._model.forward_features(((pixels - self._mean) / self._std)[None])
        assert self._qkv is not None
        # (1, prefix + rows * cols, 3 C): queries, keys, values; the class token comes first.
        keys = self._qkv[0, self._model.num_prefix_tokens:].chunk(3, -1)[1]
        self._qkv = None
        unit = torch.nn.functional.normalize(keys.float(), dim=-1)
        return unit.reshape(rows, cols, -1).to(torch.float16).cpu().numpy()


def load_dense_features(model: str, device: str = 'cpu') -> DenseFeatures | None:
    """The dense features that `model` (a timm name) gives, or None where it is '' or unavailable.

    Training goes on without them, so a hub that cannot be reached is a warning, not an error.
    """
    if not model:
        return None
    try:
        with hub_or_cache():
            return DinoFeatures(model, device)
    except Exception as error:   # the hub's client raises whatever its transport raises
        log.warning(
            'dense features are off: the weights of %s could not be loaded from the Hugging Face '
            'hub or from its cache folder %s (%s). Training goes on without them; set '
            'features.dense_model to "" to silence this', model, cache_folder(), first_line(error))
        return None
