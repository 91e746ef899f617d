# SPDX-License-Identifier: Apache-2.0
"""The interface of image-text encoders, and the choice of one by its name."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.card import ModelCard
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.errors import EncoderMismatchError, EncoderUnavailableError
from lerf_ros.settings import nearest


class ImageTextEncoder(Protocol):
    """Maps images and phrases into one embedding space in which cosines compare them."""

    name: str
    dimension: int

    def identity(self) -> dict[str, str]:
        """Returns what makes embeddings comparable (name, model, weights); stored with a map."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the embeddings of phrases as unit rows (N, dimension) float32."""

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB images (h, w, 3) uint8 of any size."""


@runtime_checkable
class SquareEncoder(Protocol):
    """An encoder that takes many crops of one size at once and resizes them on its device."""

    def encode_squares(self, squares: np.ndarray) -> np.ndarray:
        """Returns unit rows (N, dimension) float32 of RGB crops (N, side, side, 3) uint8."""


@runtime_checkable
class DenseEncoder(Protocol):
    """An encoder that gives a grid of embeddings over an image in one run."""

    name: str
    dimension: int
    receptive_px: float   # effective receptive field in pixels of the resized image

    def identity(self) -> dict[str, str]:
        """See ImageTextEncoder."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See ImageTextEncoder."""

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """See ImageTextEncoder."""

    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Encodes an RGB image (H, W, 3) uint8 that is resized by `factor` first."""


@runtime_checkable
class FeatureEncoder(Protocol):
    """A dense encoder whose network also gives features that follow object borders."""

    def dense_with_features(self, image: np.ndarray,
                            factor: float) -> tuple[EmbeddingMap, np.ndarray]:
        """Returns DenseEncoder.dense and unit features (rows, cols, C) float16 of one run."""


# Each module has `load(config, device, text_only)`.
ENCODERS = {'conse': 'conse', 'openclip': 'openclip_patches', 'radio': 'radio',
            'siglip2': 'openclip_families', 'pe': 'openclip_families', 'tipsv2': 'tipsv2',
            'mobileclip2': 'openclip_families'}
log = logging.getLogger(__name__)


def load_encoder(config: FeatureConfig, device: str = 'cpu',
                 text_only: bool = False) -> ImageTextEncoder:
    """Loads the encoder that `config.encoder` names; text_only omits what only images need.

    Where it is chosen for a map, its model, size and licence go to the log; a licence that does
    not allow every use is a warning. Raises EncoderUnavailableError for an unknown name, a missing
    package or missing weights, and ConfigError for dense embeddings that the model does not
    provide.
    """
    if config.encoder not in ENCODERS:
        raise EncoderUnavailableError(
            f'unknown encoder {config.encoder!r}{nearest(config.encoder, list(ENCODERS))}; '
            f'known are {", ".join(ENCODERS)}')
    module = importlib.import_module(f'lerf_ros.encoders.{ENCODERS[config.encoder]}')
    encoder: ImageTextEncoder = module.load(config, device, text_only)
    card = getattr(encoder, 'card', None)
    if isinstance(card, ModelCard) and not text_only:
        log.log(logging.WARNING if card.limits else logging.INFO, card.line(config.encoder))
    return encoder


def check_identity(encoder: ImageTextEncoder, identity: dict[str, str]) -> None:
    """Raises EncoderMismatchError when the map was made with another encoder."""
    if encoder.identity() != identity:
        raise EncoderMismatchError(
            f'the map was made with encoder {identity}, this machine has '
            f'{encoder.identity()}: their embeddings cannot be compared; install the '
            "map's encoder or make the map again")
