# SPDX-License-Identifier: Apache-2.0
"""The `openclip` encoder: any model of open_clip, run on crops."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TypedDict

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from lerf_ros.encoders.card import ModelCard, margin_of_scale
from lerf_ros.encoders.hub import (
    OFFLINE_ENCODER,
    cache_folder,
    fingerprint,
    first_line,
    hub_or_cache,
    require,
)
from lerf_ros.encoders.one_pass import unit_rows, working_precision
from lerf_ros.encoders.readable import unread_words
from lerf_ros.errors import EncoderUnavailableError

BLACK, WHITE = 0.0, 255.0


class Preprocessing(TypedDict, total=False):
    """open_clip's description of a model's input."""

    size: int | tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


class SquarePixels:
    """open_clip's own preprocessing of square images, for a batch on the device.

    The filter is the one that the model was trained with (mostly bicubic; LERF's released code
    uses bilinear for every model), with antialiasing as in PIL. Values are rounded to whole grey
    levels after resizing, also as in PIL, so that both paths agree.
    """

    def __init__(self, preprocess: Preprocessing, device: str, dtype: torch.dtype) -> None:
        """Takes open_clip's description of the model's input."""
        size = preprocess['size']
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self._mode = 'bilinear' if preprocess.get('interpolation') == 'bilinear' else 'bicubic'
        self._mean, self._std = (
            WHITE * torch.tensor(values, device=device).view(1, -1, 1, 1)
            for values in (preprocess['mean'], preprocess['std']))
        self._device = device
        self._dtype = dtype

    @property
    def square(self) -> bool:
        """Whether the model's input is square; otherwise models differ in how a crop fits it."""
        return self.size[0] == self.size[1]

    def __call__(self, squares: np.ndarray) -> torch.Tensor:
        """Computes the model's input (N, 3, size, size) of RGB crops (N, side, side, 3) uint8."""
        pixels = torch.from_numpy(squares).to(self._device).permute(0, 3, 1, 2).float()
        for size in ((pixels.shape[-2], self.size[1]), self.size):   # across, then down, as PIL
            if pixels.shape[-2:] != size:
                pixels = interpolate(pixels, size, mode=self._mode, align_corners=False,
                                     antialias=True).round_().clamp_(BLACK, WHITE)
        return self._scaled(pixels)

    def normalised(self, images: np.ndarray) -> torch.Tensor:
        """Computes the model's input (N, 3, H, W) of RGB images (N, H, W, 3) uint8, not resized."""
        return self._scaled(torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float())

    def _scaled(self, pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels - self._mean) / self._std).to(self._dtype)


RESEARCH = 'for research only'
# Licences of weights by the prefix of their tag, and what they do not allow.
LICENCES = {'openai': ('MIT', ''), 'laion': ('MIT', ''), 'webli': ('Apache-2.0', ''),
            'meta': ('Apache-2.0', ''), 'dfndr2b': ("Apple's for research models", RESEARCH),
            'datacompdr': ("Apple's", 'see its model card before commercial use')}


def openclip_card(model: str, tag: str, parameters: int) -> ModelCard:
    """Returns what is known of a model of open_clip and of the weights with a tag."""
    licence, limits = next((known for prefix, known in LICENCES.items()
                            if tag.startswith(prefix)), ('not known here: see its model card', ''))
    return ModelCard(' '.join([model, tag]).strip(), licence, parameters, limits)


# Prefixes of tags of weights trained on English captions: OpenAI's, LAION-400M and LAION-2B-en.
ENGLISH_WEIGHTS = ('openai', 'laion400m', 'laion2b')


class OpenClipEncoder:
    """Encodes crops and phrases with open_clip, in half precision on a GPU, single on a CPU."""

    def __init__(self, model: str, pretrained: str, device: str = 'cpu', batch: int = 32,
                 text_only: bool = False, name: str = 'openclip') -> None:
        """Loads a model.

        model: open_clip name, `hf-hub:` or `local-dir:`. pretrained: its weights tag or file.
        batch: images encoded at once. text_only: the image tower is dropped after loading. name:
        what users call the encoder.
        Raises EncoderUnavailableError for a model that does not exist, a missing package, and
        weights that are neither in the cache nor available from the hub.
        """
        open_clip = require('open_clip', 'openclip')
        self.name, self.device = name, device
        self._model_name = model
        self._pretrained = '' if ':' in model else pretrained
        self._batch = batch
        self._dtype = working_precision(device)
        check_model_name(open_clip, model, self._pretrained)
        try:
            with hub_or_cache():
                # pretrained_hf: a complete checkpoint includes the weights of the text tower.
                # OpenAI's weights were trained with QuickGELU, which their names do not tell.
                tag = open_clip.get_pretrained_cfg(model, self._pretrained)
                self._model, _, self._preprocess = open_clip.create_model_and_transforms(
                    model, pretrained=self._pretrained or None, device=device,
                    precision='fp16' if self._dtype == torch.float16 else 'fp32',
                    pretrained_hf=False, force_quick_gelu=bool(tag.get('quick_gelu')))
                self._tokenizer = open_clip.get_tokenizer(model)
        except Exception as error:   # whatever the hub's client or the checkpoint raises
            raise EncoderUnavailableError(unavailable(model, self._pretrained, error)) from error
        self._model.eval()
        self.margin = margin_of_scale(float(self._model.logit_scale.detach().exp()))
        self.card = openclip_card(model, self._pretrained,
                                  sum(weight.numel() for weight in self._model.parameters()))
        self._squares = SquarePixels(open_clip.get_model_preprocess_cfg(self._model), device,
                                     self._dtype)
        self._full_weights = ''   # fingerprint of both towers, taken before one is dropped
        if text_only:
            self._drop_image_tower()
        self.dimension = len(self.encode_texts(['object'])[0])

    def _drop_image_tower(self) -> None:
        self._full_weights = fingerprint(self._model)
        del self._model.visual
        if self.device.startswith('cuda'):
            torch.cuda.empty_cache()

    def identity(self) -> dict[str, str]:
        """Returns name, model and a fingerprint of the weights."""
        return {'name': self.name, 'model': ' '.join([self._model_name, self._pretrained]).strip(),
                'weights': self._full_weights or fingerprint(self._model)}

    def unreadable(self, text: str) -> str:
        """Returns why a phrase cannot be read, or '' if it can or that is unknown.

        Tokens are bytes, so no word is unknown; but weights trained on English captions alone know
        no other script. Emoji and other languages in Latin letters do mean something to them, and
        are answered.
        """
        if not self._pretrained.startswith(ENGLISH_WEIGHTS):
            return ''
        return next(unread_words(text, lambda word: False), '') if any(
            map(str.isalpha, text)) else ''

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of phrases, without a template, as in LERF."""
        rows = [self._unit(self._model.encode_text(
            self._tokenizer(list(texts[start:start + self._batch])).to(self.device)))
            for start in range(0, len(texts), self._batch)]
        return np.concatenate(rows)

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB images (h, w, 3) uint8 of any size."""
        rows = []
        for start in range(0, len(images), self._batch):
            pixels = torch.stack([self._preprocess(Image.fromarray(np.ascontiguousarray(image)))
                                  for image in images[start:start + self._batch]])
            rows.append(self._encode(pixels.to(device=self.device, dtype=self._dtype)))
        return np.concatenate(rows)

    def encode_squares(self, squares: np.ndarray) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB crops (N, side, side, 3) uint8.

        They equal those of encode_images up to a cosine of 0.999; no crop passes through PIL.
        """
        if not self._squares.square:
            return self.encode_images(list(squares))
        return np.concatenate([self._encode(self._squares(squares[start:start + self._batch]))
                               for start in range(0, len(squares), self._batch)])

    @torch.inference_mode()
    def _encode(self, pixels: torch.Tensor) -> np.ndarray:
        """Returns unit rows (N, dimension) of the model's input (N, 3, H, W)."""
        if self._full_weights:
            raise RuntimeError('this encoder was loaded with text_only and cannot encode images')
        return self._unit(self._model.encode_image(pixels))

    @staticmethod
    def _unit(rows: torch.Tensor) -> np.ndarray:
        return unit_rows(rows)


def check_model_name(open_clip: ModuleType, model: str, pretrained: str) -> None:
    """Raises EncoderUnavailableError for a model or weights tag that open_clip does not have."""
    if ':' in model:
        return
    if model not in open_clip.list_models():
        raise EncoderUnavailableError(
            f'open_clip has no model {model!r}; `python -c "import open_clip; '
            'print(open_clip.list_models())"` lists them, others are hf-hub:... or local-dir:...')
    tags = open_clip.list_pretrained_tags_by_model(model)
    if '/' not in pretrained and '.' not in pretrained and pretrained not in tags:
        raise EncoderUnavailableError(
            f'open_clip has no weights {pretrained!r} for {model}: choose one of '
            f'{", ".join(tags)} or give a file')


def unavailable(model: str, pretrained: str, error: BaseException) -> str:
    """Returns the message for a model that could not be loaded."""
    if model.startswith('local-dir:'):
        return (f'the open_clip model in {model.removeprefix("local-dir:")} cannot be loaded '
                f'({first_line(error)}): the folder needs open_clip_config.json and weights')
    return (f'the weights of {" ".join([model, pretrained]).strip()} are not in the cache folder '
            f'{cache_folder()} and could not be loaded from the Hugging Face hub '
            f'({first_line(error)}): connect once so that they are downloaded, copy the cache '
            f'folder from another machine, or set features.encoder to {OFFLINE_ENCODER!r}, which '
            'works offline')
