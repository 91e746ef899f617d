# SPDX-License-Identifier: Apache-2.0
"""The encoder `radio`: C-RADIO with its adaptor towards SigLIP 2 (Heinrich et al., 2025, arXiv
2412.07679), dense by RADSeg's correction of the last attention (Alama et al., 2025, arXiv
2511.19704).

An image is the class token of the teacher SigLIP 2 through the teacher's head. A patch goes through
the same head. In the last block of RADSeg, tokens that the attention made similar are mixed once
more: the attention's output is compared with itself head by head, and the values are averaged over
the tokens that are similar. A phrase goes through SigLIP 2's own text tower. The patches of the
backbone follow object borders and serve as dense features, so DINO is not loaded.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.card import CLIP_SCALE, ModelCard, margin_of_scale
from lerf_ros.encoders.dino import projection
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.hub import fingerprint, hub_or_cache, require
from lerf_ros.encoders.one_pass import (
    encode_cells,
    receptive_field,
    unit_rows,
    working_precision,
)
from lerf_ros.encoders.openclip import Preprocessing, SquarePixels, unavailable
from lerf_ros.encoders.pyramid import squares_of
from lerf_ros.encoders.radio_checkpoint import DEFAULT, TEXT_TOWERS, RadioParts, load_radio
from lerf_ros.encoders.timm_towers import Blocks, replaced
from lerf_ros.errors import ConfigError, EncoderUnavailableError

SIDE = 512              # of a crop: the resolution that C-RADIO v3 and v4 prefer
MAX_TOKENS = 64         # of a phrase, to which SigLIP 2 was trained
SHARPNESS = 10.0        # RADSeg's factor of the cosines between tokens
PATCHES = ('auto', 'radseg', 'plain', 'crops')
# CLIP's, with which SigLIP 2 was trained by RADIO.
PIXELS: Preprocessing = {
    'size': SIDE, 'interpolation': 'bicubic', 'mean': (0.48145466, 0.4578275, 0.40821073),
    'std': (0.26862954, 0.26130258, 0.27577711)}


class Backbone(Protocol):
    """timm's network of RADIO."""

    blocks: Blocks
    num_prefix_tokens: int
    forward_features: Callable[[Tensor], Tensor]


class Attention(Protocol):
    """An attention of timm."""

    num_heads: int
    scale: float
    proj: nn.Module


class SelfCorrelating(nn.Module):
    """A transformer block of timm whose attention RADSeg corrects."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._block = block

    def forward(self, tokens: Tensor, **_: object) -> Tensor:
        """Maps tokens (1, L, C) to tokens (1, L, C)."""
        b = self._block
        attention = b.get_submodule('attn')
        mixed = self_correlating(attention, b.get_submodule('norm1')(tokens))
        tokens = tokens + b.get_submodule('ls1')(mixed)
        inner = b.get_submodule('mlp')(b.get_submodule('norm2')(tokens))
        return tokens + b.get_submodule('ls2')(inner)


def self_correlating(attention: nn.Module, tokens: Tensor) -> Tensor:
    """Computes RADSeg's self-correlating attention (1, L, C) of tokens (1, L, C).

    One head at a time, because a whole image has thousands of tokens.
    """
    a = cast(Attention, attention)
    query, key, value = (projection(attention, tokens, part)[0].chunk(a.num_heads, -1)
                         for part in range(3))
    plain = [torch.softmax(q @ k.T * a.scale, -1) @ v
             for q, k, v in zip(query, key, value, strict=True)]
    output = a.proj(torch.cat(plain, -1))
    mixed = []
    for own, v in zip(output.chunk(a.num_heads, -1), value, strict=True):
        unit = normalize(own, dim=-1)
        alike = unit @ unit.T * SHARPNESS
        weights = torch.softmax(alike.masked_fill(alike < 0, -torch.inf), -1)
        mixed.append(weights @ v)
    return a.proj(torch.cat(mixed, -1))[None]


class RadioPatches:
    """The patches of the backbone; `features` are those before the head, of the newest run."""

    stride, side, center = 16, SIDE, 8.0

    def __init__(self, parts: RadioParts, corrected: bool) -> None:
        """corrected: by RADSeg."""
        self._backbone, self._head = cast(Backbone, parts.backbone), parts.head
        self._corrected = corrected
        self.features = torch.zeros(0)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See Tower."""
        blocks = self._backbone.blocks
        with replaced(blocks, SelfCorrelating(blocks[-1])) if self._corrected else nullcontext():
            tokens = self._backbone.forward_features(pixels)[0]
        rows, cols = (side // self.stride for side in pixels.shape[-2:])
        self.features = tokens[self._backbone.num_prefix_tokens:].reshape(rows, cols, -1)
        return self._head(self.features)


class RadioEncoder:
    """C-RADIO for crops and phrases; text_only loads the text tower alone."""

    name = 'radio'

    def __init__(self, config: FeatureConfig, device: str = 'cpu', text_only: bool = False) -> None:
        """Loads the model and the text tower that the settings name.

        Raises EncoderUnavailableError for a missing package or missing weights, and ConfigError
        for patches that it does not have.
        """
        if config.patches not in PATCHES:
            raise ConfigError(f'features.patches = {config.patches!r}: radio has '
                              f'{", ".join(PATCHES)}')
        self.device, self._batch, self._model_name = device, config.batch, config.model or DEFAULT
        self._text_place = config.text_model or TEXT_TOWERS['siglip2-g-384']
        self._dtype = working_precision(device, torch.bfloat16)
        texts, self._tokenizer = load_text_tower(self._text_place)
        self._texts = texts.to(device=device, dtype=self._dtype).eval()
        self._text_weights = fingerprint(self._texts)
        # The adaptor imitates SigLIP 2's embeddings; their factor is not part of either file.
        self.margin = margin_of_scale(CLIP_SCALE)
        self.dense_mode, self.receptive_px = config.patches, config.openclip_receptive_px
        self.dimension = len(self.encode_texts(['object'])[0])
        self._parts: RadioParts | None = None
        self._tower: RadioPatches | None = None
        self.card = self._card()
        if not text_only:
            self._load_images()

    def _load_images(self) -> None:
        parts = load_radio(self._model_name)
        made = len(parts.head.final[-1].get_parameter('bias'))
        if made != self.dimension:
            raise EncoderUnavailableError(
                f'{self._model_name} gives embeddings of {made} numbers and the text tower '
                f'{self._text_place} of {self.dimension}: they do not belong together')
        for module in (parts.backbone, parts.head):
            module.to(device=self.device, dtype=self._dtype).eval()
        self._parts = parts
        # One identity for crops and patches; what the cache keeps depends on the backbone too.
        self.dense_mode = f'{self.dense_mode} {fingerprint(parts.backbone)}'
        self._tower = RadioPatches(parts, not self.dense_mode.startswith('plain'))
        self.receptive_px = receptive_field(self._tower, self.receptive_px)
        self._squares = SquarePixels(PIXELS, self.device, self._dtype)
        self.card = self._card()

    def _card(self) -> ModelCard:
        modules = [self._texts, *([self._parts.backbone, self._parts.head] if self._parts else [])]
        return ModelCard(
            f'{Path(self._model_name).name} and the text tower {self._text_place}',
            'NVIDIA Open Model License (C-RADIO) and Apache-2.0 (text tower)',
            sum(weight.numel() for module in modules for weight in module.parameters()))

    def identity(self) -> dict[str, str]:
        """Returns name, model and a fingerprint of the text tower, which defines the space."""
        return {'name': self.name, 'weights': self._text_weights,
                'model': f'{Path(self._model_name).name}, {Path(self._text_place).name}'}

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of phrases, without a template."""
        rows = []
        for start in range(0, len(texts), self._batch):
            some = [canonical(text) for text in texts[start:start + self._batch]]
            tokens = self._tokenizer(some, padding='max_length', truncation=True,
                                     max_length=MAX_TOKENS, return_tensors='pt')
            found = self._texts(input_ids=tokens['input_ids'].to(self.device))
            rows.append(unit_rows(found.pooler_output))
        return np.concatenate(rows)

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB images (h, w, 3) uint8, squashed."""
        return np.concatenate([self.encode_squares(square) for square in squares_of(images, SIDE)])

    @torch.inference_mode()
    def encode_squares(self, squares: np.ndarray) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB crops (N, side, side, 3) uint8."""
        parts = self._loaded()[0]
        backbone = cast(Backbone, parts.backbone)
        return np.concatenate([
            unit_rows(parts.head(backbone.forward_features(
                self._squares(squares[start:start + self._batch]))[:, parts.slot]))
            for start in range(0, len(squares), self._batch)])

    def _loaded(self) -> tuple[RadioParts, RadioPatches]:
        if self._parts is None or self._tower is None:
            raise RuntimeError('this encoder was loaded with text_only and cannot encode images')
        return self._parts, self._tower


class DenseRadioEncoder(RadioEncoder):
    """A RadioEncoder that also gives the patches of an image from one run."""

    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Encodes the patches of an RGB image (H, W, 3) uint8 that is resized by `factor`."""
        return self.dense_with_features(image, factor)[0]

    @torch.inference_mode()
    def dense_with_features(self, image: np.ndarray,
                            factor: float) -> tuple[EmbeddingMap, np.ndarray]:
        """Returns `dense` and unit features (rows, cols, C) float16 of the backbone."""
        tower = self._loaded()[1]
        cells = encode_cells(tower, self._squares.normalised, image, factor, self.receptive_px)
        unit = normalize(tower.features.float(), dim=-1)
        return cells, unit.to(torch.float16).cpu().numpy()


def canonical(text: str) -> str:
    """Returns a phrase as SigLIP 2 was trained on: without capitals and punctuation."""
    plain = text.replace('_', ' ').translate(str.maketrans('', '', string.punctuation))
    return ' '.join(plain.lower().split())


Tokenize = Callable[..., dict[str, Tensor]]


def load_text_tower(place: str) -> tuple[nn.Module, Tokenize]:
    """Loads SigLIP 2's text tower and tokenizer from a folder or a repository of the hub.

    Runs no code from there. Raises EncoderUnavailableError.
    """
    transformers = require('transformers', 'openclip')
    local = Path(place).is_dir()
    try:
        with nullcontext() if local else hub_or_cache():
            kind = transformers.AutoConfig.from_pretrained(place).model_type
            tower = transformers.Siglip2TextModel if kind.startswith('siglip2') \
                else transformers.SiglipTextModel
            return (tower.from_pretrained(place, trust_remote_code=False),
                    transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False))
    except Exception as error:   # whatever the hub's client or the checkpoint raises
        raise EncoderUnavailableError(unavailable(place, '', error)) from error


def load(config: FeatureConfig, device: str, text_only: bool) -> RadioEncoder:
    """Loads the model that the settings name; raises what RadioEncoder raises."""
    kind = RadioEncoder if config.patches == 'crops' else DenseRadioEncoder
    return kind(config, device, text_only)
