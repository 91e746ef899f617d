# SPDX-License-Identifier: Apache-2.0
"""An embedding at every patch of a CLIP vision transformer, from one run over an image of any size.

Only the class token of CLIP was trained to be compared with text. Two known changes of the last
block make the patches comparable too, without training:

- MaskCLIP (Zhou et al., 2022, arXiv 2112.01071): no attention in the last block, each patch keeps
  its own value projection.
- NACLIP (Hajimiri et al., 2025, arXiv 2404.08181): keys attend to keys, near patches count more by
  a Gaussian of the distance that is added to the logits, and the last block gives its attention
  alone, without what passes by and without its MLP.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.conse import resize_image
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.openclip import OpenClipEncoder
from lerf_ros.errors import ConfigError

NEIGHBOURS = 5.0   # patches: standard deviation of NACLIP's Gaussian


class VitTokens:
    """The patches of an open_clip vision transformer, in the space of its image embeddings."""

    def __init__(self, visual: Any, mode: str) -> None:
        """mode: maskclip or naclip. Raises ConfigError for a tower without patches to take."""
        reason = why_not(visual)
        if reason:
            raise ConfigError(
                f"features.openclip_dense = {mode!r}: {reason}. Set it to 'conv' for a "
                "convolutional tower, or to 'none' for crops")
        self._visual, self._last = visual, visual.transformer.resblocks[-1]
        self._naclip = mode == 'naclip'
        self.stride = int(visual.patch_size[0])
        self.side = int(visual.image_size[0])
        self.center = self.stride / 2

    def __call__(self, pixels: Tensor) -> Tensor:
        """(rows, cols, D) of the model's input (1, 3, H, W), whole patches in both directions."""
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


def why_not(visual: Any) -> str:
    """What keeps an image tower from giving patches, in words; '' where nothing does."""
    blocks = getattr(getattr(visual, 'transformer', None), 'resblocks', None)
    if not blocks or not hasattr(visual, 'conv1') or not hasattr(visual, 'class_embedding'):
        return f'the image tower {type(visual).__name__} has no patch tokens'
    if getattr(visual, 'attn_pool', None) is not None or visual.proj is None:
        return 'the image tower pools by attention: its patches have no projection of their own'
    attention = getattr(blocks[-1], 'attn', None)
    if not isinstance(attention, torch.nn.MultiheadAttention) or not attention.batch_first:
        return f'the attention of {type(blocks[-1]).__name__} cannot be changed'
    return ''


def positions(visual: Any, rows: int, cols: int) -> Tensor:
    """Position embeddings (1 + rows * cols, C): the class token's, and the grid's, interpolated."""
    table = visual.positional_embedding
    own_rows, own_cols = visual.grid_size
    if (rows, cols) == (own_rows, own_cols):
        return table
    grid = table[1:].reshape(1, own_rows, own_cols, -1).permute(0, 3, 1, 2).float()
    grid = interpolate(grid, (rows, cols), mode='bicubic', align_corners=False, antialias=True)
    return torch.cat([table[:1], grid[0].flatten(1).T.to(table.dtype)])


def own_values(block: Any, tokens: Tensor) -> Tensor:
    """The block on tokens (1, L, C) when each attends to itself alone (MaskCLIP)."""
    attention = block.attn
    value = linear(block.ln_1(tokens), *_projection(attention, 2))
    tokens = tokens + block.ls_1(attention.out_proj(value))
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def neighbour_attention(block: Any, tokens: Tensor, nearness: Tensor) -> Tensor:
    """What the attention of the block gives at the patches (1, P, C) (NACLIP).

    tokens (1, 1 + P, C), the class token first; nearness (P, P) is added to the logits, the class
    token is nobody's neighbour.
    """
    attention = block.attn
    inputs = block.ln_1(tokens)
    key, value = (_heads(linear(inputs, *_projection(attention, part)), attention.num_heads)
                  for part in (1, 2))
    mask = torch.cat([nearness.new_zeros(len(nearness), 1), nearness], 1)
    mixed = scaled_dot_product_attention(key[:, :, 1:], key, value, attn_mask=mask)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def neighbourhood(rows: int, cols: int, like: Tensor, std: float = NEIGHBOURS) -> Tensor:
    """exp(-d^2 / (2 std^2)) (P, P) of the distance d, in patches, between any two of a grid."""
    down, across = (torch.exp(-(n[:, None] - n).square() / (2 * std * std)) for n in (
        torch.arange(count, device=like.device, dtype=torch.float32) for count in (rows, cols)))
    return torch.kron(down, across).to(like.dtype)


def _projection(attention: Any, part: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of the query (0), key (1) or value (2) projection."""
    return attention.in_proj_weight.chunk(3)[part], attention.in_proj_bias.chunk(3)[part]


def _heads(rows: Tensor, heads: int) -> Tensor:
    """(1, L, C) as (1, heads, L, C / heads)."""
    return rows.reshape(1, rows.shape[1], heads, -1).transpose(1, 2)


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
