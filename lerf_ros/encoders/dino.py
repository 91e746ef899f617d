# SPDX-License-Identifier: Apache-2.0
"""DINO features: they follow object borders and keep the language field smooth inside of them."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, normalize, pad

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.hub import cache_folder, fingerprint, first_line, hub_or_cache, require
from lerf_ros.errors import ConfigError

ATTENTION_FACETS = ('query', 'key', 'value')


class FacetTap:
    """Cuts a model off behind one block and keeps a facet of it at every run (Amir et al., 2021).

    Queries and keys are taken as the projections give them, all heads side by side: before any
    rotation that tells where a token stands, so that they speak of what is seen alone.
    """

    def __init__(self, model: Any, layer: int, facet: str) -> None:
        """Raises ConfigError where the model has no such block or no attention in it."""
        blocks = getattr(model, 'blocks', None)
        if blocks is None or not all(hasattr(block, 'attn') for block in blocks):
            raise ConfigError(f'features.dense_model: {type(model).__name__} is not a vision '
                              'transformer with attention blocks')
        if not -len(blocks) <= layer < len(blocks):
            raise ConfigError(f'features.dense_layer = {layer}: the model has {len(blocks)} '
                              f'blocks, 0 to {len(blocks) - 1}')
        self._facet = facet
        self._kept: Tensor | None = None
        model.blocks = blocks[:layer % len(blocks) + 1]   # later blocks would run for nothing
        block = model.blocks[-1]
        if facet in ATTENTION_FACETS:
            block.attn.register_forward_pre_hook(self._keep_projection)
        else:
            block.register_forward_hook(self._keep_output)

    def take(self) -> Tensor:
        """The facet (N, prefix + patches, C) of the last run."""
        if self._kept is None:
            raise RuntimeError('the model has not run yet')
        kept, self._kept = self._kept, None
        return kept

    def _keep_projection(self, attention: Any, inputs: tuple[Tensor, ...]) -> None:
        self._kept = projection(attention, inputs[0], ATTENTION_FACETS.index(self._facet))

    def _keep_output(self, _block: Any, _inputs: Any, output: Tensor) -> None:
        self._kept = output


def projection(attention: Any, tokens: Tensor, part: int) -> Tensor:
    """Query (part 0), key (1) or value (2) projection (N, L, C) of tokens (N, L, C).

    timm keeps them in one layer or in three, and a bias in the layer or beside it.
    """
    if getattr(attention, 'qkv', None) is None:
        return getattr(attention, ('q_proj', 'k_proj', 'v_proj')[part])(tokens)
    weight = attention.qkv.weight.chunk(3)[part]
    bias = getattr(attention, ('q_bias', 'k_bias', 'v_bias')[part], None)
    if attention.qkv.bias is not None:
        bias = attention.qkv.bias.chunk(3)[part]
    return linear(tokens, weight, bias)


def overlap_patches(model: Any, stride: int) -> None:
    """Moves the patches of a model made with dynamic_img_size closer together.

    Position embeddings are interpolated to the grid that comes of it: tables by timm, rotary ones
    because they count in parts of the image (DINOv3) or of the grid they were trained on. Raises
    ConfigError for a stride above the patch size and for rotary ones that count in patches.
    """
    embed = model.patch_embed
    patch = int(embed.patch_size[0])
    if not 1 <= stride <= patch:
        raise ConfigError(f'features.dense_stride = {stride} pixels: must lie between 1 and the '
                          f'patch size of the model, {patch}, or be 0')
    rope = getattr(model, 'rope', None)
    in_parts = (type(rope).__name__ == 'RotaryEmbeddingDinoV3'
                or getattr(rope, 'ref_feat_shape', None) is not None)
    if rope is not None and not in_parts:
        raise ConfigError(
            f'features.dense_stride = {stride}: the positions of {type(model).__name__} with '
            f'{type(rope).__name__} cannot be interpolated; set it to 0')
    embed.proj.stride = (stride, stride)
    embed.img_size = None   # timm would ask for whole patches; grid_size, which it resamples, stays


def patch_mean_std(model: Any, timm: Any, device: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) of the pixels that the model was trained on, in [0, 1]."""
    data = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(data[name], device=device).view(3, 1, 1) for name in ('mean', 'std'))
    return mean, std


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
