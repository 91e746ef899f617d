# SPDX-License-Identifier: Apache-2.0
"""ConSE: an image-text encoder that needs nothing but Python packages (the offline default).

Norouzi et al. (2013), "Zero-shot learning by convex combination of semantic embeddings": an
image's embedding is the convex combination of the sentence embeddings of its most probable
ImageNet classes; a phrase's embedding is its sentence embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from lerf_ros.features.conse_classifier import (
    IMAGE_SIDE,
    MODEL_NAME,
    STRIDE,
    ConseClassifier,
)
from lerf_ros.features.conse_vocabulary import TEMPLATE, class_embeddings
from lerf_ros.features.embedding_map import EmbeddingMap
from lerf_ros.features.english import DOUBTFUL, FOREIGN, EnglishJudge
from lerf_ros.features.readable import unread_words
from lerf_ros.features.sentence_encoder import DIMENSION, SentenceEncoder
from lerf_ros.features.sentence_encoder import MODEL_NAME as SENTENCE_MODEL

# Classes combined, and the temperature of their softmax (measured best on 17 photographs).
TOP = 5
TEMPERATURE = 2.0
# Effective receptive field of a cell: half of the gradient mass lies within this square.
RECEPTIVE_PX = 180.0
# Centre of cell (0, 0) in the resized image. 'Same' padding of even sizes puts the first tap of
# every stride-2 layer at 31.5; training at odd sizes taught the kernels to lean back towards 16.
# Measured on photographs as the shift at which the maps of an image and of its mirror image agree
# best: 25 (x) and 23 (y).
CELL_CENTER_PX = 24.0


class ConseEncoder:
    """The conse encoder; with text_only the classifier is not loaded."""

    name = 'conse'
    dimension = DIMENSION
    receptive_px = RECEPTIVE_PX

    def __init__(self, device: str = 'cpu', text_only: bool = False, batch: int = 32) -> None:
        """Raises EncoderUnavailableError when a package is missing."""
        self.device = device
        self._batch = batch
        self._sentences, self._english = SentenceEncoder(device), EnglishJudge()
        self._classifier: ConseClassifier | None = None
        self.vocabulary = np.empty((0, DIMENSION), np.float32)   # (1000, 384), class embeddings
        if not text_only:
            self._classifier = ConseClassifier(device)
            self.vocabulary = class_embeddings(self._sentences.encode, self._sentences.version())

    def identity(self) -> dict[str, str]:
        """The sentence encoder and the template span the space; the classifier only fills it."""
        return {'name': self.name, 'model': f'{MODEL_NAME}, {SENTENCE_MODEL}, {TEMPLATE!r}',
                'weights': self._sentences.version()}

    def unreadable(self, text: str) -> str:
        """Why a phrase cannot be read: it knows English only. Empty where it can."""
        return next(unread_words(text, self._sentences.is_unknown), '')

    def doubts(self, texts: Sequence[str], rows: np.ndarray) -> tuple[list[str], list[str]]:
        """Those of the texts, with embeddings (N, 384), that are not English, and that may not be.
        """
        logits = self._english.foreignness(rows)
        return ([text for text, logit in zip(texts, logits, strict=True) if logit > FOREIGN],
                [text for text, logit in zip(texts, logits, strict=True)
                 if DOUBTFUL < logit <= FOREIGN])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows (N, 384) float32 of phrases, put into the template of the classes."""
        return self._sentences.encode([TEMPLATE.format(text.strip()) for text in texts])

    @torch.inference_mode()
    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Unit rows (N, 384) float32 of RGB images (h, w, 3) uint8."""
        out = np.empty((len(images), DIMENSION), np.float32)
        for start in range(0, len(images), self._batch):
            some = images[start:start + self._batch]
            pixels = torch.cat([self._pixels(im, IMAGE_SIDE, IMAGE_SIDE) for im in some])
            network = self._network()
            ids, weights = combine(network.image_logits(network(pixels)[0]))
            rows = np.einsum('nk,nkd->nd', weights, self.vocabulary[ids])
            out[start:start + len(some)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return out

    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Embeddings at every 32nd pixel of the RGB image (H, W, 3) uint8 resized by `factor`."""
        return self.dense_with_features(image, factor)[0]

    @torch.inference_mode()
    def dense_with_features(self, image: np.ndarray,
                            factor: float) -> tuple[EmbeddingMap, np.ndarray]:
        """As `dense`, and unit features (rows, cols, 120) float16 at every 16th pixel."""
        height, width = image.shape[:2]
        w, h = (max(STRIDE, round(side * factor / STRIDE) * STRIDE) for side in (width, height))
        network = self._network()
        head, features = network(self._pixels(image, w, h))
        ids, weights = combine(network.cell_logits(head)[0].permute(1, 2, 0))
        sx, sy = width / w, height / h
        embeddings = EmbeddingMap(
            width_px=RECEPTIVE_PX * (sx * sy) ** 0.5,
            origin_px=(CELL_CENTER_PX * sx, CELL_CENTER_PX * sy),
            stride_px=(STRIDE * sx, STRIDE * sy),
            ids=ids, weights=weights.astype(np.float16), vocabulary=self.vocabulary)
        unit = torch.nn.functional.normalize(features[0], dim=0).permute(1, 2, 0)
        return embeddings, unit.to(torch.float16).cpu().numpy()

    def _network(self) -> ConseClassifier:
        if self._classifier is None:
            raise RuntimeError('this encoder was loaded with text_only and cannot encode images')
        return self._classifier

    def _pixels(self, image: np.ndarray, width: int, height: int) -> torch.Tensor:
        """The network's input (1, 3, height, width) of an RGB image."""
        resized = resize_image(image, width, height)
        pixels = torch.from_numpy((resized.astype(np.float32) - 127.0) / 128.0)
        # The channels stay last in memory: the layout in which the network is fastest.
        return pixels.permute(2, 0, 1)[None].to(self.device)


def combine(logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The most probable classes: ids (..., 5) int32 and weights (..., 5) float32 that sum to 1.

    logits: (..., 1000).
    """
    best = logits.topk(TOP, dim=-1)
    weights = torch.softmax(best.values.float() / TEMPERATURE, -1)
    return best.indices.to(torch.int32).cpu().numpy(), weights.cpu().numpy()


def resize_image(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes (H, W, 3) uint8: area averages when it shrinks, cubic when it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
