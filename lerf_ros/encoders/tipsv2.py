# SPDX-License-Identifier: Apache-2.0
"""The encoder `tipsv2`: patches trained against text (Cao et al., 2026, arXiv 2604.12012).

It runs through transformers. The class token describes an image, and each patch of the last layer
is compared with text as it is, since the training aligns patches with text. Images are not
normalised: pixels lie in 0 to 1. Phrases have 64 tokens at most and lose their capitals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.card import ModelCard, margin_of_scale
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.hub import fingerprint, hub_or_cache, require
from lerf_ros.encoders.one_pass import (
    encode_cells,
    receptive_field,
    unit_rows,
    working_precision,
)
from lerf_ros.encoders.openclip import SquarePixels, unavailable
from lerf_ros.encoders.pyramid import squares_of
from lerf_ros.encoders.timm_towers import Blocks, EachAlone, replaced
from lerf_ros.errors import ConfigError, EncoderUnavailableError

DEFAULT = 'b14'
REPOSITORIES = {name: f'google/tipsv2-{name}' for name in ('b14', 'l14', 'so400m14', 'g14')}
MAX_TOKENS = 64
PATCHES = ('auto', 'plain', 'maskclip', 'crops')


class Pooled(Protocol):
    """What a tower of transformers returns."""

    last_hidden_state: Tensor
    pooler_output: Tensor


class VisionConfig(Protocol):
    """The sizes of an image tower of transformers."""

    patch_size: int
    image_size: int
    num_register_tokens: int


class Layers(Protocol):
    """The layers of an image tower of transformers."""

    layer: Blocks


class VisionModel(Protocol):
    """The image tower of TIPSv2."""

    config: VisionConfig
    encoder: Layers

    def __call__(self, pixel_values: Tensor) -> Pooled:
        """Computes tokens (N, prefix + patches, C) of pixels (N, 3, H, W)."""


class TextConfig(Protocol):
    """The sizes of a text tower of transformers."""

    hidden_size: int


class TipsConfig(Protocol):
    """The sizes of both towers."""

    text_config: TextConfig


class TipsModel(Protocol):
    """TIPSv2 in transformers."""

    config: TipsConfig
    vision_model: VisionModel
    get_text_features: Callable[..., Pooled]
    get_image_features: Callable[[Tensor], Pooled]


class TipsPatches:
    """The patches of TIPSv2, plain or with each token alone in the last layer."""

    def __init__(self, vision: VisionModel, alone: bool) -> None:
        self._vision, self._alone = vision, alone
        self.stride, self.side = vision.config.patch_size, vision.config.image_size
        self.center = self.stride / 2

    def __call__(self, pixels: Tensor) -> Tensor:
        """See Tower."""
        layers = self._vision.encoder.layer
        with replaced(layers, TupleAlone(layers[-1])) if self._alone else nullcontext():
            tokens = self._vision(pixels).last_hidden_state[0]
        rows, cols = (side // self.stride for side in pixels.shape[-2:])
        return tokens[1 + self._vision.config.num_register_tokens:].reshape(rows, cols, -1)


class TupleAlone(EachAlone):
    """EachAlone for layers of transformers, which are given a mask by position."""

    def forward(self, tokens: Tensor, *_: object, **__: object) -> Tensor:
        """Maps tokens (N, L, C) to tokens (N, L, C)."""
        return super().forward(tokens)


class TipsEncoder:
    """TIPSv2 for crops and phrases; text_only drops the image tower."""

    name = 'tipsv2'

    def __init__(self, model: str = DEFAULT, patches: str = 'auto', device: str = 'cpu',
                 batch: int = 32, text_only: bool = False, receptive_px: float = 0.0) -> None:
        """Loads a model: b14, l14, so400m14, g14, a repository of the hub, or a folder.

        Raises EncoderUnavailableError for a missing package or missing weights, and ConfigError
        for patches that it does not have.
        """
        if patches not in PATCHES:
            raise ConfigError(f'features.patches = {patches!r}: tipsv2 has {", ".join(PATCHES)}')
        self.device, self._batch, self._model_name = device, batch, model
        self._dtype = working_precision(device)
        module, self._tokenizer = load_tips(REPOSITORIES.get(model, model))
        module = module.to(device=device, dtype=self._dtype).eval()
        self._model = cast(TipsModel, module)
        self._weights = fingerprint(module)
        self.margin = margin_of_scale(1 / float(module.get_parameter('temperature').detach()))
        self.card = ModelCard(f'TIPSv2 {model}', 'Apache-2.0', sum(
            weight.numel() for weight in module.parameters()))
        self.dense_mode, self.receptive_px = patches, receptive_px
        self.dimension = self._model.config.text_config.hidden_size
        self._tower: TipsPatches | None = None
        if text_only:
            del self._model.vision_model
            return
        self._tower = TipsPatches(self._model.vision_model, patches == 'maskclip')
        self.receptive_px = receptive_field(self._tower, receptive_px)
        self._squares = SquarePixels(
            {'size': self._tower.side, 'mean': (0, 0, 0), 'std': (1, 1, 1),
             'interpolation': 'bilinear'}, device, self._dtype)

    def identity(self) -> dict[str, str]:
        """Returns name, model and a fingerprint of the weights of both towers."""
        return {'name': self.name, 'model': Path(self._model_name).name, 'weights': self._weights}

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of phrases, without a template."""
        rows = []
        for start in range(0, len(texts), self._batch):
            tokens = self._tokenizer(list(texts[start:start + self._batch]), padding='max_length',
                                     truncation=True, max_length=MAX_TOKENS, return_tensors='pt')
            rows.append(unit_rows(self._model.get_text_features(
                input_ids=tokens['input_ids'].to(self.device),
                attention_mask=tokens['attention_mask'].to(self.device)).pooler_output))
        return np.concatenate(rows)

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB images (h, w, 3) uint8, squashed."""
        return np.concatenate([self.encode_squares(square) for square in squares_of(
            images, self._image_tower().side)])

    @torch.inference_mode()
    def encode_squares(self, squares: np.ndarray) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB crops (N, side, side, 3) uint8."""
        self._image_tower()
        return np.concatenate([
            unit_rows(self._model.get_image_features(
                self._squares(squares[start:start + self._batch])).pooler_output)
            for start in range(0, len(squares), self._batch)])

    def _image_tower(self) -> TipsPatches:
        if self._tower is None:
            raise RuntimeError('this encoder was loaded with text_only and cannot encode images')
        return self._tower


class DenseTipsEncoder(TipsEncoder):
    """A TipsEncoder that also gives the patches of an image from one run."""

    @torch.inference_mode()
    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Encodes the patches of an RGB image (H, W, 3) uint8 that is resized by `factor`."""
        return encode_cells(self._image_tower(), self._squares.normalised, image, factor,
                            self.receptive_px)


Tokenize = Callable[..., dict[str, Tensor]]


def load_tips(place: str) -> tuple[nn.Module, Tokenize]:
    """Loads model and tokenizer from a folder or a repository of the hub; runs no code from it.

    Raises EncoderUnavailableError.
    """
    transformers = require('transformers', 'openclip')
    if not hasattr(transformers, 'Tipsv2Model'):
        raise EncoderUnavailableError(
            f'transformers {transformers.__version__} has no TIPSv2: pip install -U transformers')
    local = Path(place).is_dir()
    try:
        with nullcontext() if local else hub_or_cache():
            model = transformers.Tipsv2Model.from_pretrained(place, trust_remote_code=False)
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:   # whatever the hub's client or the checkpoint raises
        raise EncoderUnavailableError(unavailable(place, '', error)) from error
    return model, tokenizer


def load(config: FeatureConfig, device: str, text_only: bool) -> TipsEncoder:
    """Loads the model that `config.model` names; raises what TipsEncoder raises."""
    kind = TipsEncoder if config.patches == 'crops' else DenseTipsEncoder
    return kind(config.model or DEFAULT, config.patches, device, config.batch, text_only,
                config.openclip_receptive_px)
