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

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.conse import resize_image
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.openclip import OpenClipEncoder
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


# Default receptive field of a cell as a fraction of the side that the tower was trained at.
# Convolutional: half of the gradient mass of EfficientNet-Lite2 lies within 180 of 260 pixels.
# Transformer: half of the side, an assumption.
CONV_FRACTION, VIT_FRACTION = 180 / 260, 0.5


class Tower(Protocol):
    """An image tower that computes an embedding for each cell of an image."""

    stride: int     # pixels from one cell to the next
    center: float   # pixels from the border to the centre of the first cell
    side: int       # side in pixels of the images that it was trained on

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes (rows, cols, D) of the model's input (1, 3, H, W), multiples of the stride."""


class TimmTrunk(Protocol):
    """A network of timm inside open_clip."""

    feature_info: list[dict[str, object]]
    modules: Callable[[], Iterator[nn.Module]]
    forward_features: Callable[[Tensor], Tensor]


class TimmTower(Protocol):
    """open_clip's image tower around a network of timm."""

    trunk: TimmTrunk
    head: nn.Module
    image_size: tuple[int, int]


class ConvMap:
    """The last feature map of a convolutional tower, with the model's own head on each cell.

    If the head is linear, the mean over the cells is the embedding of the image. Otherwise a cell
    gets the embedding of an image that looks like this cell everywhere.
    """

    def __init__(self, visual: TimmTower) -> None:
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
        # TensorFlow's padding adds an odd pixel to the right and below, so each halving shifts the
        # kernel by a fraction. On photographs the shift was measured as 25 and 23 of 32 pixels.
        same = any(type(module).__name__ == 'Conv2dSame' for module in trunk.modules())
        self.center = self.stride * (0.75 if same else 0.5)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See Tower."""
        found = self._visual.trunk.forward_features(pixels)[0]             # (C, rows, cols)
        cells = self._visual.head(found.flatten(1).T)
        return cells.reshape(*found.shape[1:], -1)


class DenseOpenClipEncoder(OpenClipEncoder):
    """An OpenClipEncoder that also computes dense embeddings of an image in one run."""

    def __init__(self, config: FeatureConfig, device: str = 'cpu', text_only: bool = False) -> None:
        """Loads the model that the openclip_* settings name.

        Raises ConfigError for a tower that does not support features.openclip_dense, and what
        OpenClipEncoder raises.
        """
        super().__init__(config.openclip_model, config.openclip_pretrained, device=device,
                         batch=config.batch, text_only=text_only)
        self.dense_mode = config.openclip_dense
        self.receptive_px = config.openclip_receptive_px
        self._tower: Tower | None = None
        if not text_only:
            self._tower = make_tower(self._model.visual, self.dense_mode)
            self.receptive_px = self.receptive_px or self._tower.side * (
                CONV_FRACTION if self.dense_mode == 'conv' else VIT_FRACTION)

    @torch.inference_mode()
    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Encodes the cells of an RGB image (H, W, 3) uint8 that is resized by `factor`.

        Embeddings are rounded to half precision, as those of crops are.
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


def make_tower(visual: nn.Module, mode: str) -> Tower:
    """Wraps an image tower for a mode: maskclip, naclip or conv.

    Raises ConfigError for a tower that does not support it.
    """
    if mode == 'conv':
        return ConvMap(cast(TimmTower, visual))
    return VitTokens(cast(VisionTransformer, visual), mode)
