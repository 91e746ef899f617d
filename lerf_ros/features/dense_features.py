# SPDX-License-Identifier: Apache-2.0
"""DINO features: they follow object borders and keep the language field smooth inside of them."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.nn.functional import normalize, pad

from lerf_ros.config import FeatureConfig
from lerf_ros.errors import ConfigError
from lerf_ros.features.attention_facets import FacetTap, overlap_patches, patch_mean_std
from lerf_ros.features.extras import require
from lerf_ros.features.fingerprint import fingerprint
from lerf_ros.features.hub import cache_folder, first_line, hub_or_cache

log = logging.getLogger(__name__)


class DenseFeatures(Protocol):
    """Gives features on an even grid over an image."""

    def identity(self) -> dict[str, str]:
        """What the features depend on beside the image."""

    def features(self, image: np.ndarray) -> np.ndarray:
        """(rows, cols, C) float16 of an RGB image (H, W, 3) uint8."""


class DinoFeatures:
    """One facet of one block of a vision transformer in timm (Caron et al., 2021).

    DINO, DINOv2 and DINOv3, and whatever else timm builds from the same blocks.
    """

    def __init__(self, config: FeatureConfig, device: str = 'cpu', pretrained: bool = True) -> None:
        """Reads the dense_* settings.

        Raises ConfigError for settings that the model cannot follow; what timm and its hub raise
        is passed on.
        """
        timm = require('timm', 'openclip')
        self._config = config
        self._device = device
        self._model = create_transformer(timm, config.dense_model, pretrained).to(device).eval()
        self._tap = FacetTap(self._model, config.dense_layer, config.dense_facet)
        self._patch = int(self._model.patch_embed.patch_size[0])
        self._stride = config.dense_stride or self._patch
        if self._stride != self._patch:
            overlap_patches(self._model, self._stride)
        self._mean, self._std = patch_mean_std(self._model, timm, device)

    def identity(self) -> dict[str, str]:
        """The model with a fingerprint of its weights, and every setting that is read here."""
        names = ('dense_model', 'dense_layer', 'dense_facet', 'dense_short_side', 'dense_unit')
        return {**{name: str(getattr(self._config, name)) for name in names},
                'stride': str(self._stride), 'weights': fingerprint(self._model)}

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> np.ndarray:
        """(rows, cols, C) float16 of an RGB image (H, W, 3) uint8, one a patch."""
        pixels, rows, cols = self._pixels(image)
        self._model.forward_features(pixels)
        found = self._tap.take()[0, self._model.num_prefix_tokens:].float()
        if self._config.dense_unit:
            found = normalize(found, dim=-1)
        return found.reshape(rows, cols, -1).to(torch.float16).cpu().numpy()

    def _pixels(self, image: np.ndarray) -> tuple[torch.Tensor, int, int]:
        """The network's input (1, 3, H, W), and how many patches it holds down and across.

        The image is resized to whole strides, and where patches overlap its border is repeated
        by what the outer ones reach over: patches stand evenly over all of the image.
        """
        height, width = image.shape[:2]
        scale = self._config.dense_short_side / min(height, width)
        rows, cols = (max((round(side * scale) - self._patch) // self._stride + 1, 1)
                      for side in (height, width))
        resized = cv2.resize(image, (cols * self._stride, rows * self._stride),
                             interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        pixels = torch.from_numpy(resized).to(self._device).permute(2, 0, 1).float() / 255
        pixels = ((pixels - self._mean) / self._std)[None]
        beyond = self._patch - self._stride
        if beyond:
            before, after = beyond // 2, beyond - beyond // 2
            pixels = pad(pixels, (before, after, before, after), mode='replicate')
        return pixels, rows, cols


def create_transformer(timm: Any, model: str, pretrained: bool) -> Any:
    """A timm model that takes images of any size; raises ConfigError where there is no such."""
    if ':' not in model and not timm.is_model(model):
        raise ConfigError(f'features.dense_model = {model!r}: timm {timm.__version__} has no such '
                          'model; `python -c "import timm; print(timm.list_models(\'*dino*\'))"` '
                          'lists those that were made for this')
    try:
        return timm.create_model(model, pretrained=pretrained, num_classes=0,
                                 dynamic_img_size=True)
    except TypeError as error:
        raise ConfigError(f'features.dense_model = {model!r} is not a vision transformer that '
                          f'takes images of any size ({error})') from error


def load_dense_features(config: FeatureConfig, device: str = 'cpu') -> DenseFeatures | None:
    """What `config.dense_model` (a timm name) gives, or None where it is '' or unavailable.

    Training goes on without them, so a hub that cannot be reached is a warning, not an error.
    Raises ConfigError for settings that the model cannot follow.
    """
    if not config.dense_model:
        return None
    try:
        with hub_or_cache():
            return DinoFeatures(config, device)
    except ConfigError:
        raise
    except Exception as error:   # the hub's client raises whatever its transport raises
        log.warning(
            'dense features are off: the weights of %s could not be loaded from the Hugging Face '
            'hub or from its cache folder %s (%s). Training goes on without them; set '
            'features.dense_model to "" to silence this', config.dense_model, cache_folder(),
            first_line(error))
        return None
