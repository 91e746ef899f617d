# SPDX-License-Identifier: Apache-2.0
"""OWL-ViT as LERF's rival in 2D: an open-vocabulary detector on rendered views.

Minderer et al., Simple Open-Vocabulary Object Detection with Vision Transformers (2205.06230).
LERF (section 4.3) gives each phrase its best-scored box in a rendered view. How that box is
compared with the label is not written there; its centre is the detector's point here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.features.extras import require
from lerf_ros.features.hub import cache_folder, first_line, hub_or_cache

MODEL = 'google/owlvit-base-patch32'
EXTRA = 'offline'    # the extra that brings transformers


@dataclass(frozen=True)
class Detection:
    """A phrase's best box: score 0..1, box_px (4,) x, y, x, y with the low corner first.

    Coordinates are continuous: the image spans 0..W and 0..H; the box may reach beyond it.
    """

    text: str
    score: float
    box_px: np.ndarray

    @property
    def center_px(self) -> np.ndarray:
        """The detector's point (2,), x before y."""
        return (self.box_px[:2] + self.box_px[2:]) / 2


class OwlVitDetector:
    """The best box of each phrase in an image."""

    def __init__(self, model: str = MODEL, device: str = 'cpu') -> None:
        """model: a name on the Hugging Face hub or a folder that holds model and tokenizer.

        Raises EncoderUnavailableError for a missing package and for weights that are neither in
        the cache nor to be had from the hub.
        """
        transformers = require('transformers', EXTRA)
        try:
            with hub_or_cache(EXTRA):
                processor = transformers.OwlViTProcessor.from_pretrained(model)
                self._model = transformers.OwlViTForObjectDetection.from_pretrained(model)
        except Exception as error:   # whatever the hub's client or the checkpoint raises
            raise EncoderUnavailableError(unavailable(model, error)) from error
        self._tokenizer, self._preprocess = processor.tokenizer, processor.image_processor
        self._device = device
        self._model.to(device).eval()

    @torch.inference_mode()
    def detect(self, image: np.ndarray, texts: Sequence[str]) -> list[Detection]:
        """One detection per phrase, in their order, in pixels of the image (H, W, 3) uint8 RGB.

        Phrases are used as they are and cut at the model's length (16 tokens). They do not
        compete: a phrase has the same score alone and among others.
        """
        if not texts:
            return []
        tokens = self._tokenizer(list(texts), padding='max_length', truncation=True,
                                 max_length=self._model.config.text_config.max_position_embeddings,
                                 return_tensors='pt')
        pixels = self._preprocess(images=np.ascontiguousarray(image), return_tensors='pt',
                                  input_data_format='channels_last')
        answer = self._model(input_ids=tokens['input_ids'].to(self._device),
                             attention_mask=tokens['attention_mask'].to(self._device),
                             pixel_values=pixels['pixel_values'].to(self._device))
        scores = answer.logits[0].float().sigmoid().cpu().numpy()               # (boxes, texts)
        boxes = corners_px(answer.pred_boxes[0].float().cpu().numpy(), image.shape[1],
                           image.shape[0])
        best = scores.argmax(0)
        return [Detection(text, float(scores[best[i], i]), boxes[best[i]])
                for i, text in enumerate(texts)]


def corners_px(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Centre x, y, width, height (N, 4) as fractions of the image, as corners in pixels (N, 4).

    The model squeezes an image into a square without padding, so each axis has its own factor.
    """
    center, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([center - half, center + half], 1) * [width, height, width, height]


def unavailable(model: str, error: BaseException) -> str:
    """What to say when the detector could not be loaded."""
    return (f'the OWL-ViT model {model} is neither a folder nor in the cache folder '
            f'{cache_folder(EXTRA)} and could not be loaded from the Hugging Face hub '
            f'({first_line(error)}): connect once so that it is downloaded, copy the cache folder '
            'from another machine, or leave this rival out')
