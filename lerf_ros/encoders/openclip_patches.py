# SPDX-License-Identifier: Apache-2.0
"""Dense embeddings of open_clip models: one for each patch or cell, from one run over an image.

Only the class token of CLIP was trained to be compared with text. Two published changes to the
last block make the patches comparable too, without training:

- MaskCLIP (Zhou et al., 2022, arXiv 2112.01071): no attention in the last block; each patch keeps
  its own value projection.
- NACLIP (Hajimiri et al., 2025, arXiv 2404.08181): keys attend to keys, a Gaussian of the distance
  between patches is added to the logits, and the last block outputs its attention alone, without
  the residual connection and without its MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.one_pass import encode_cells, receptive_field
from lerf_ros.encoders.openclip import OpenClipEncoder
from lerf_ros.encoders.timm_towers import ConvMap, TimmTower, Tower, timm_tower
from lerf_ros.errors import ConfigError

NEIGHBOURS = 5.0   # patches: standard deviation of NACLIP's Gaussian


class TransformerBlock(Protocol):
    """A residual attention block of open_clip."""

    attn: nn.MultiheadAttention
    ln_1: nn.Module
    ln_2: nn.Module
    ls_1: nn.Module
    ls_2: nn.Module
    mlp: nn.Module

    def __call__(self, tokens: Tensor) -> Tensor:
        """Maps tokens (N, L, C) to tokens (N, L, C)."""


class Transformer(Protocol):
    """The blocks of a vision transformer."""

    resblocks: Sequence[TransformerBlock]


class VisionTransformer(Protocol):
    """The parts of open_clip's vision transformer that are used here."""

    conv1: nn.Module
    class_embedding: Tensor
    positional_embedding: Tensor
    grid_size: tuple[int, int]
    patch_size: tuple[int, int]
    image_size: tuple[int, int]
    ln_pre: nn.Module
    ln_post: nn.Module
    transformer: Transformer
    proj: Tensor | None


class VitTokens:
    """The patches of an open_clip vision transformer, in the space of its image embeddings."""

    def __init__(self, visual: VisionTransformer, mode: str) -> None:
        """Takes an image tower and maskclip or naclip; ConfigError for one without patches."""
        reason = why_not(visual)
        if mode == 'value':
            reason = reason or 'the image tower does not pool by attention'
        if reason:
            raise ConfigError(
                f"features.openclip_dense = {mode!r}: {reason}. Set it to 'auto', or to 'none' "
                'for crops')
        self._visual, self._last = visual, visual.transformer.resblocks[-1]
        self._naclip = mode == 'naclip'
        self.stride = int(visual.patch_size[0])
        self.side = int(visual.image_size[0])
        self.center = self.stride / 2

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes embeddings (rows, cols, D) of the model's input (1, 3, H, W).

        H and W must be multiples of the patch size.
        """
        v = self._visual
        patches = v.conv1(pixels)                                          # (1, C, rows, cols)
        rows, cols = patches.shape[2:]
        tokens = torch.cat([v.class_embedding.to(patches.dtype).expand(1, 1, -1),
                            patches.flatten(2).transpose(1, 2)], 1)        # (1, 1 + P, C)
        tokens = v.ln_pre(tokens + positions(v, rows, cols).to(tokens.dtype))
        for block in v.transformer.resblocks[:-1]:
            tokens = block(tokens)
        if self._naclip:
            tokens = neighbour_attention(self._last, tokens, neighbourhood(rows, cols, tokens))
        else:
            tokens = own_values(self._last, tokens)[:, 1:]
        return (v.ln_post(tokens) @ v.proj)[0].reshape(rows, cols, -1)


def why_not(visual: VisionTransformer) -> str:
    """Returns why an image tower has no usable patches, in words, or '' if it has."""
    blocks = getattr(getattr(visual, 'transformer', None), 'resblocks', None)
    if not blocks or not hasattr(visual, 'conv1') or not hasattr(visual, 'class_embedding'):
        return f'the image tower {type(visual).__name__} has no patch tokens'
    if getattr(visual, 'attn_pool', None) is not None or visual.proj is None:
        return 'the image tower pools by attention: its patches have no projection of their own'
    attention = getattr(blocks[-1], 'attn', None)
    if not isinstance(attention, torch.nn.MultiheadAttention) or not attention.batch_first:
        return f'the attention of {type(blocks[-1]).__name__} cannot be changed'
    return ''


def positions(visual: VisionTransformer, rows: int, cols: int) -> Tensor:
    """Interpolates the position embeddings to a grid.

    Returns (1 + rows * cols, C), that of the class token first.
    """
    table = visual.positional_embedding
    own_rows, own_cols = visual.grid_size
    if (rows, cols) == (own_rows, own_cols):
        return table
    grid = table[1:].reshape(1, own_rows, own_cols, -1).permute(0, 3, 1, 2).float()
    grid = interpolate(grid, (rows, cols), mode='bicubic', align_corners=False, antialias=True)
    return torch.cat([table[:1], grid[0].flatten(1).T.to(table.dtype)])


def own_values(block: TransformerBlock, tokens: Tensor) -> Tensor:
    """Runs a block on tokens (1, L, C), each of which attends to itself alone (MaskCLIP)."""
    attention = block.attn
    value = linear(block.ln_1(tokens), *_projection(attention, 2))
    tokens = tokens + block.ls_1(attention.out_proj(value))
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def neighbour_attention(block: TransformerBlock, tokens: Tensor, nearness: Tensor) -> Tensor:
    """Computes the output (1, P, C) of a block's attention at the patches (NACLIP).

    tokens: (1, 1 + P, C), the class token first. nearness: (P, P), added to the logits; that of
    the class token is 0.
    """
    attention = block.attn
    inputs = block.ln_1(tokens)
    key, value = (_heads(linear(inputs, *_projection(attention, part)), attention.num_heads)
                  for part in (1, 2))
    mask = torch.cat([nearness.new_zeros(len(nearness), 1), nearness], 1)
    mixed = scaled_dot_product_attention(key[:, :, 1:], key, value, attn_mask=mask)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def neighbourhood(rows: int, cols: int, like: Tensor, std: float = NEIGHBOURS) -> Tensor:
    """Computes exp(-d^2 / (2 std^2)), (P, P), of the distances d between patches of a grid.

    Distances and std are in patches; the result has dtype and device of `like`.
    """
    down, across = (torch.exp(-(n[:, None] - n).square() / (2 * std * std)) for n in (
        torch.arange(count, device=like.device, dtype=torch.float32) for count in (rows, cols)))
    return torch.kron(down, across).to(like.dtype)


def _projection(attention: nn.MultiheadAttention, part: int) -> tuple[Tensor, Tensor]:
    """Returns weight and bias of the query (0), key (1) or value (2) projection."""
    return attention.in_proj_weight.chunk(3)[part], attention.in_proj_bias.chunk(3)[part]


def _heads(rows: Tensor, heads: int) -> Tensor:
    """Reshapes (1, L, C) to (1, heads, L, C / heads)."""
    return rows.reshape(1, rows.shape[1], heads, -1).transpose(1, 2)


class DenseOpenClipEncoder(OpenClipEncoder):
    """An OpenClipEncoder that also computes dense embeddings of an image in one run."""

    def __init__(self, config: FeatureConfig, device: str = 'cpu', text_only: bool = False,
                 name: str = 'openclip') -> None:
        """Loads the model that the openclip_* settings name; name: what users call the encoder.

        Raises ConfigError for a tower that does not support features.openclip_dense, and what
        OpenClipEncoder raises.
        """
        super().__init__(config.openclip_model, config.openclip_pretrained, device=device,
                         batch=config.batch, text_only=text_only, name=name)
        self.dense_mode = config.openclip_dense
        self.receptive_px = config.openclip_receptive_px
        self._tower: Tower | None = None
        if not text_only:
            self._tower = make_tower(self._model.visual, self.dense_mode)
            self.receptive_px = receptive_field(self._tower, self.receptive_px)

    @torch.inference_mode()
    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Encodes the cells of an RGB image (H, W, 3) uint8 that is resized by `factor`."""
        if self._tower is None:
            raise RuntimeError('this encoder was loaded with text_only and cannot encode images')
        return encode_cells(self._tower, self._squares.normalised, image, factor,
                            self.receptive_px)


def make_tower(visual: nn.Module, mode: str) -> Tower:
    """Wraps an image tower for a mode: auto, maskclip, naclip, conv or value.

    auto: conv, value or maskclip, whichever the tower's pooling asks for. Raises ConfigError for a
    tower that does not support the mode.
    """
    if hasattr(visual, 'trunk'):
        return timm_tower(visual, mode)
    if mode == 'conv':
        return ConvMap(cast(TimmTower, visual))     # says why not
    return VitTokens(cast(VisionTransformer, visual), 'maskclip' if mode == 'auto' else mode)


def load(config: FeatureConfig, device: str, text_only: bool,
         name: str = 'openclip') -> OpenClipEncoder:
    """Loads the model that the openclip_* settings name, for crops or for dense maps.

    Raises what the two encoders raise.
    """
    if config.openclip_dense != 'none':
        return DenseOpenClipEncoder(config, device, text_only, name)
    return OpenClipEncoder(config.openclip_model, config.openclip_pretrained, device=device,
                           batch=config.batch, text_only=text_only, name=name)
