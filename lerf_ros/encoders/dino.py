# SPDX-License-Identifier: Apache-2.0
"""DINO features, which follow object borders and regularise the language field inside of them."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, pad

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.hub import cache_folder, fingerprint, first_line, hub_or_cache, require
from lerf_ros.encoders.one_pass import working_precision
from lerf_ros.errors import ConfigError

ATTENTION_FACETS = ('query', 'key', 'value')

if TYPE_CHECKING:
    class PatchEmbedding(nn.Module):
        """The first layer of timm's vision transformers."""

        patch_size: tuple[int, int]
        img_size: tuple[int, int] | None
        proj: nn.Conv2d

    class TimmTransformer(nn.Module):
        """The parts of timm's vision transformers that are used here."""

        blocks: nn.ModuleList
        patch_embed: PatchEmbedding
        num_prefix_tokens: int

        def forward_features(self, pixels: Tensor) -> Tensor:
            """Computes tokens (N, prefix + patches, C) of images (N, 3, H, W)."""


class FacetTap:
    """Truncates a model after one block and keeps a facet of it in every run (Amir et al., 2021).

    Queries and keys are taken as the projections output them, with all heads concatenated and
    before any rotary position embedding, so that they depend on content and not on position.
    """

    def __init__(self, model: TimmTransformer, layer: int, facet: str) -> None:
        """Raises ConfigError if the model has no such block, or blocks without attention."""
        blocks = getattr(model, 'blocks', None)
        if blocks is None or not all(hasattr(block, 'attn') for block in blocks):
            raise ConfigError(f'features.dense_model: {type(model).__name__} is not a vision '
                              'transformer with attention blocks')
        if not -len(blocks) <= layer < len(blocks):
            raise ConfigError(f'features.dense_layer = {layer}: the model has {len(blocks)} '
                              f'blocks, 0 to {len(blocks) - 1}')
        self._facet = facet
        self._kept: Tensor | None = None
        model.blocks = blocks[:layer % len(blocks) + 1]   # the output of later ones is not used
        block = model.blocks[-1]
        if facet in ATTENTION_FACETS:
            block.get_submodule('attn').register_forward_pre_hook(self._keep_projection)
        else:
            block.register_forward_hook(self._keep_output)

    def take(self) -> Tensor:
        """Returns the facet (N, prefix + patches, C) of the last run, once."""
        if self._kept is None:
            raise RuntimeError('the model has not run yet')
        kept, self._kept = self._kept, None
        return kept

    def _keep_projection(self, attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._kept = projection(attention, inputs[0], ATTENTION_FACETS.index(self._facet))

    def _keep_output(self, _block: nn.Module, _inputs: object, output: Tensor) -> None:
        self._kept = output


def projection(attention: nn.Module, tokens: Tensor, part: int) -> Tensor:
    """Computes the query (part 0), key (1) or value (2) projection (N, L, C) of tokens (N, L, C).

    timm keeps the projections in one layer or in three, and biases inside the layer or next to it.
    """
    joint: nn.Linear | None = getattr(attention, 'qkv', None)
    if joint is None:
        return getattr(attention, ('q_proj', 'k_proj', 'v_proj')[part])(tokens)
    bias = getattr(attention, ('q_bias', 'k_bias', 'v_bias')[part], None)
    if joint.bias is not None:
        bias = joint.bias.chunk(3)[part]
    return linear(tokens, joint.weight.chunk(3)[part], bias)


def overlap_patches(model: TimmTransformer, stride: int) -> None:
    """Makes the patches of a model that was created with dynamic_img_size overlap.

    Position embeddings are interpolated to the resulting grid: tables by timm; rotary ones because
    they use coordinates relative to the image (DINOv3) or to the grid they were trained on. Raises
    ConfigError for a stride above the patch size, and for rotary embeddings of patch indices.
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
    embed.img_size = None   # else timm requires whole patches; it still resamples by grid_size


def pixel_mean_std(model: nn.Module, timm: ModuleType, device: str) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation (3, 1, 1) that normalise pixels in [0, 1]."""
    data = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(data[name], device=device).view(3, 1, 1) for name in ('mean', 'std'))
    return mean, std


log = logging.getLogger(__name__)


class DenseFeatures(Protocol):
    """Computes features on an even grid over an image."""

    def identity(self) -> dict[str, str]:
        """Returns everything that the features depend on besides the image."""

    def features(self, image: np.ndarray) -> np.ndarray:
        """Computes features (rows, cols, C) float16 of an RGB image (H, W, 3) uint8."""


class DinoFeatures:
    """One facet of one block of a vision transformer in timm (Caron et al., 2021).

    DINO, DINOv2, DINOv3, and other models that timm builds from the same blocks.
    """

    def __init__(self, config: FeatureConfig, device: str = 'cpu', pretrained: bool = True) -> None:
        """Loads the model that the dense_* settings name.

        Raises ConfigError for settings that the model does not support, and what timm and its hub
        raise.
        """
        timm = require('timm', 'openclip')
        self._config = config
        self._device = device
        # Half precision on a GPU, as for the encoders: single precision without TF32 is many
        # times slower there, and features are stored in half precision anyway.
        self._dtype = working_precision(device)
        model = create_transformer(timm, config.dense_model, pretrained)
        self._model = model.to(device=device, dtype=self._dtype).eval()
        self._tap = FacetTap(self._model, config.dense_layer, config.dense_facet)
        self._patch = int(self._model.patch_embed.patch_size[0])
        self._stride = config.dense_stride or self._patch
        if self._stride != self._patch:
            overlap_patches(self._model, self._stride)
        self._mean, self._std = pixel_mean_std(self._model, timm, device)

    def identity(self) -> dict[str, str]:
        """Returns the model, a fingerprint of its weights, and every setting that is used here."""
        names = ('dense_model', 'dense_layer', 'dense_facet', 'dense_short_side', 'dense_unit')
        return {**{name: str(getattr(self._config, name)) for name in names},
                'stride': str(self._stride), 'weights': fingerprint(self._model)}

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> np.ndarray:
        """Computes features (rows, cols, C) float16, one for each patch of an image (H, W, 3)."""
        pixels, rows, cols = self._pixels(image)
        self._model.forward_features(pixels)
        found = self._tap.take()[0, self._model.num_prefix_tokens:].float()
        if self._config.dense_unit:
            found = normalize(found, dim=-1)
        return found.reshape(rows, cols, -1).to(torch.float16).cpu().numpy()

    def _pixels(self, image: np.ndarray) -> tuple[torch.Tensor, int, int]:
        """Computes the network's input (1, 3, H, W) and its number of rows and columns of patches.

        The image is resized to whole strides. If patches overlap, its border is replicated as far
        as the outer ones extend beyond it, so that patches are spread evenly over all of it.
        """
        height, width = image.shape[:2]
        scale = self._config.dense_short_side / min(height, width)
        rows, cols = (max((round(side * scale) - self._patch) // self._stride + 1, 1)
                      for side in (height, width))
        resized = cv2.resize(image, (cols * self._stride, rows * self._stride),
                             interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        pixels = torch.from_numpy(resized).to(self._device).permute(2, 0, 1).float() / 255
        pixels = ((pixels - self._mean) / self._std)[None].to(self._dtype)
        beyond = self._patch - self._stride
        if beyond:
            before, after = beyond // 2, beyond - beyond // 2
            pixels = pad(pixels, (before, after, before, after), mode='replicate')
        return pixels, rows, cols


def create_transformer(timm: ModuleType, model: str, pretrained: bool) -> TimmTransformer:
    """Creates a timm model that takes images of any size; raises ConfigError if there is none."""
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
    """Loads the timm model that `config.dense_model` names; None if it is '' or unavailable.

    Training works without dense features, so an unreachable hub is a warning and not an error.
    Raises ConfigError for settings that the model does not support.
    """
    if not config.dense_model:
        return None
    try:
        with hub_or_cache():
            return DinoFeatures(config, device)
    except ConfigError:
        raise
    except Exception as error:   # the hub's client raises the errors of its transport
        log.warning(
            'dense features are off: the weights of %s could not be loaded from the Hugging Face '
            'hub or from its cache folder %s (%s). Training goes on without them; set '
            'features.dense_model to "" to silence this', config.dense_model, cache_folder(),
            first_line(error))
        return None
