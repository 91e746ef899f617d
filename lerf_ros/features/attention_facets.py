# SPDX-License-Identifier: Apache-2.0
"""Queries, keys, values or tokens of one block of a vision transformer in timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

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
