# SPDX-License-Identifier: Apache-2.0
"""Dense embeddings of image towers that timm builds inside of open_clip.

Every cell passes through the tower's own head as if the image consisted of it alone:

- A convolutional tower pools its last map: each cell is a map of 1 x 1 (`ConvMap`).
- SigLIP and the Perception Encoder pool by attention. Over a single token the weight is 1, so what
  is left of the pooling is its value projection, its output projection and its MLP (`PooledTokens`,
  the value path).
- A transformer that pools its class token: in the last block each token attends to itself alone,
  so that a patch keeps its own value projection (`AloneTokens`; MaskCLIP, Zhou et al., 2022, arXiv
  2112.01071).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from torch import Tensor, nn

from lerf_ros.encoders.hub import require
from lerf_ros.errors import ConfigError

CROPS = 'crops (features.patches crops, or features.openclip_dense none)'


class Tower(Protocol):
    """An image tower that computes an embedding for each cell of an image."""

    stride: int     # pixels from one cell to the next
    center: float   # pixels from the border to the centre of the first cell
    side: int       # side in pixels of the images that it was trained on

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes (rows, cols, D) of the model's input (1, 3, H, W), multiples of the stride."""


class ConvTrunk(Protocol):
    """A convolutional network of timm."""

    feature_info: list[dict[str, object]]
    modules: Callable[[], Iterator[nn.Module]]
    forward_features: Callable[[Tensor], Tensor]
    forward_head: Callable[[Tensor], Tensor]


class Blocks(Protocol):
    """The blocks of a transformer, a list of modules."""

    def __getitem__(self, index: int) -> nn.Module: ...

    def __setitem__(self, index: int, block: nn.Module) -> None: ...


class Rope(Protocol):
    """Rotary position embeddings of timm for a fixed grid."""

    feat_shape: tuple[int, int]
    ref_feat_shape: tuple[int, int] | None

    def update_feat_shape(self, feat_shape: tuple[int, int]) -> None:
        """Computes the embeddings of a grid of rows x cols."""


class PatchEmbedding(Protocol):
    """The first layer of a transformer of timm."""

    img_size: tuple[int, int]
    strict_img_size: bool
    flatten: bool
    output_fmt: object


class TokenTrunk(Protocol):
    """A vision transformer of timm."""

    blocks: Blocks
    patch_embed: PatchEmbedding
    num_prefix_tokens: int
    feature_info: list[dict[str, object]]
    dynamic_img_size: bool
    rope: Rope | None
    attn_pool: nn.Module | None
    fc_norm: nn.Module
    head: nn.Module
    forward_features: Callable[[Tensor], Tensor]


class TimmTower(Protocol):
    """open_clip's image tower around a network of timm."""

    trunk: nn.Module
    head: nn.Module
    image_size: tuple[int, int]


class ConvMap:
    """The last feature map of a convolutional tower, with the model's own head on each cell.

    If the head is linear, the mean over the cells is the embedding of the image. Otherwise a cell
    gets the embedding of an image that looks like this cell everywhere.
    """

    def __init__(self, visual: TimmTower) -> None:
        """Raises ConfigError for a tower that is none of timm's convolutional networks."""
        if not is_convolutional(visual):
            raise ConfigError(
                f'dense embeddings by conv: the image tower {type(visual).__name__} is no '
                f"convolutional network that timm knows; choose 'auto', or {CROPS}")
        self._trunk, self._head = cast(ConvTrunk, visual.trunk), visual.head
        self.stride = cast(int, self._trunk.feature_info[-1]['reduction'])
        self.side = int(visual.image_size[0])
        # TensorFlow's padding adds an odd pixel to the right and below, so each halving shifts the
        # kernel by a fraction. On photographs the shift was measured as 25 and 23 of 32 pixels.
        same = any(type(module).__name__ == 'Conv2dSame' for module in self._trunk.modules())
        self.center = self.stride * (0.75 if same else 0.5)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See Tower."""
        found = self._trunk.forward_features(pixels)[0]                    # (C, rows, cols)
        cells = found.flatten(1).T[:, :, None, None]                       # (P, C, 1, 1)
        return self._head(self._trunk.forward_head(cells)).reshape(*found.shape[1:], -1)


def is_convolutional(visual: TimmTower) -> bool:
    """Returns whether a tower has a last feature map (C, rows, cols) that a head of its own pools.

    A head of open_clip that pools by attention (abs_attn, rot_attn) needs the whole map.
    """
    trunk = getattr(visual, 'trunk', None)
    info = getattr(trunk, 'feature_info', [])
    return bool(info and info[-1].get('reduction') and not hasattr(trunk, 'patch_embed')
                and not any(name.startswith('pool') for name, _ in visual.head.named_children()))


class TokenTower:
    """A vision transformer of timm that takes images of any size; base of the two below."""

    def __init__(self, visual: TimmTower, mode: str) -> None:
        """mode: as the user calls it. Raises ConfigError for a tower without patches."""
        trunk = getattr(visual, 'trunk', None)
        reason = no_patches(trunk)
        if reason:
            raise ConfigError(f'dense embeddings by {mode}: the image tower '
                              f'{type(trunk or visual).__name__} {reason}; choose {CROPS}')
        self.trunk, self.head = cast(TokenTrunk, trunk), visual.head
        self.stride = cast(int, self.trunk.feature_info[-1]['reduction'])
        self.side, self.center = int(visual.image_size[0]), self.stride / 2
        take_any_size(self.trunk)

    def patches(self, pixels: Tensor) -> tuple[Tensor, int, int]:
        """Computes the patches (P, C) of the model's input (1, 3, H, W), and rows and columns."""
        rows, cols = (side // self.stride for side in pixels.shape[-2:])
        with rotary_grid(self.trunk, rows, cols):
            tokens = self.trunk.forward_features(pixels)[0]
        return tokens[self.trunk.num_prefix_tokens:], rows, cols


class PooledTokens(TokenTower):
    """The value path of a tower that pools by attention: each patch is pooled alone."""

    def __init__(self, visual: TimmTower) -> None:
        """Raises ConfigError for a tower that does not pool by attention."""
        super().__init__(visual, 'value')
        if self.trunk.attn_pool is None:
            raise ConfigError("dense embeddings by value: the image tower does not pool by "
                              "attention; choose 'auto' or 'maskclip'")
        self._pool = self.trunk.attn_pool

    def __call__(self, pixels: Tensor) -> Tensor:
        """See Tower."""
        patches, rows, cols = self.patches(pixels)
        pooled = self._pool(patches[:, None])                              # P sequences of one
        return self.head(self.trunk.head(self.trunk.fc_norm(pooled))).reshape(rows, cols, -1)


class AloneTokens(TokenTower):
    """The patches of a tower that pools its class token; the last block sees each token alone."""

    def __init__(self, visual: TimmTower) -> None:
        """Raises ConfigError for a tower that does not pool its class token."""
        super().__init__(visual, 'maskclip')
        if self.trunk.attn_pool is not None or getattr(self.trunk, 'global_pool', '') != 'token':
            raise ConfigError("dense embeddings by maskclip: the image tower does not pool its "
                              "class token; choose 'auto'")

    def __call__(self, pixels: Tensor) -> Tensor:
        """See Tower."""
        with replaced(self.trunk.blocks, EachAlone(self.trunk.blocks[-1])):
            patches, rows, cols = self.patches(pixels)
        return self.head(self.trunk.head(self.trunk.fc_norm(patches))).reshape(rows, cols, -1)


class EachAlone(nn.Module):
    """A transformer block that sees each token as a sequence of one.

    Its attention has the weight 1 then: what is left is the value and the output projection.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._block = block

    def forward(self, tokens: Tensor, **_: object) -> Tensor:
        """Maps tokens (N, L, C) to tokens (N, L, C); masks and rotations do not matter."""
        return self._block(tokens.flatten(0, 1)[:, None]).reshape(tokens.shape)


def no_patches(trunk: object) -> str:
    """Returns why a network of timm has no usable patches, in words, or '' if it has."""
    needed = ('blocks', 'patch_embed', 'num_prefix_tokens', 'fc_norm', 'forward_features')
    if not all(hasattr(trunk, name) for name in needed):
        return 'is no vision transformer of timm'
    if not hasattr(getattr(trunk, 'patch_embed', None), 'strict_img_size'):
        return 'takes images of one size only'
    rope = getattr(trunk, 'rope', None)
    if rope is not None and getattr(rope, 'ref_feat_shape', None) is None:
        return 'has rotary positions that depend on the number of patches'
    return ''


def take_any_size(trunk: TokenTrunk) -> None:
    """Makes a transformer that was built for one size take images of any size.

    It resamples its table of positions then, as if built with dynamic_img_size; images of its own
    size are encoded as before.
    """
    layers = require('timm.layers', 'openclip')
    trunk.dynamic_img_size = True
    embed = trunk.patch_embed
    embed.strict_img_size, embed.flatten = False, False
    embed.output_fmt = layers.Format.NHWC


@contextlib.contextmanager
def rotary_grid(trunk: TokenTrunk, rows: int, cols: int) -> Iterator[None]:
    """Sets rotary position embeddings to a grid, inside the block; crops have their own grid."""
    rope = getattr(trunk, 'rope', None)
    if rope is None:
        yield
        return
    before = rope.feat_shape
    rope.update_feat_shape((rows, cols))
    try:
        yield
    finally:
        rope.update_feat_shape(before)


@contextlib.contextmanager
def replaced(blocks: Blocks, last: nn.Module) -> Iterator[None]:
    """Puts `last` in the place of the last block, inside the block."""
    before = blocks[-1]
    blocks[-1] = last
    try:
        yield
    finally:
        blocks[-1] = before


def timm_tower(visual: nn.Module, mode: str) -> Tower:
    """Wraps a tower of timm for a mode: auto, conv, value or maskclip.

    auto: what the tower's own pooling asks for. Raises ConfigError if the tower does not fit.
    """
    tower = cast(TimmTower, visual)
    if mode == 'conv' or (mode == 'auto' and is_convolutional(tower)):
        return ConvMap(tower)
    pools = getattr(tower.trunk, 'attn_pool', None) is not None
    if mode == 'value' or (mode == 'auto' and pools):
        return PooledTokens(tower)
    if mode == 'naclip':
        raise ConfigError(f'dense embeddings by naclip: {type(tower.trunk).__name__} of timm is '
                          "not changed that way; choose 'auto'")
    return AloneTokens(tower)
