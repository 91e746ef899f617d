# SPDX-License-Identifier: Apache-2.0
"""OWL-ViT, a rival of LERF in 2D: an open-vocabulary detector on rendered views.

Minderer et al., Simple Open-Vocabulary Object Detection with Vision Transformers (2205.06230).
LERF (section 4.3) takes the best-scored box of each phrase in a rendered view. The paper does not
say how that box is compared with the label; here its centre must be inside the label's box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from lerf_ros.encoders.hub import cache_folder, first_line, hub_or_cache, require
from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.evaluation.frozen_radiance import FrozenRadiance
from lerf_ros.evaluation.localization import points_in_boxes
from lerf_ros.evaluation.records import ObjectResult
from lerf_ros.evaluation.scenes import EvalScene, TruthObject, ViewTruth
from lerf_ros.evaluation.scoring import majority_vote

MODEL = 'google/owlvit-base-patch32'
EXTRA = 'openclip'    # the extra that installs transformers
OWL_VIT = 'owl-vit'
PICTURE_SIDE = 480   # pixels: longer side of the pictures it sees, if the photograph is larger


@dataclass(frozen=True)
class Detection:
    """The best box of a phrase: score 0..1, box_px (4,) x, y, x, y, the low corner first.

    Coordinates are continuous: the image spans 0..W and 0..H. The box may extend beyond it.
    """

    text: str
    score: float
    box_px: np.ndarray

    @property
    def center_px(self) -> np.ndarray:
        """Returns the centre (2,) of the box, x before y."""
        return (self.box_px[:2] + self.box_px[2:]) / 2


class OwlVitDetector:
    """Finds the best box of each phrase in an image."""

    def __init__(self, model: str = MODEL, device: str = 'cpu') -> None:
        """model: a name on the Hugging Face hub, or a folder that holds model and tokenizer.

        Raises EncoderUnavailableError for a missing package, and for weights that are neither in
        the cache nor available from the hub.
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
        """Returns one detection per phrase, in pixels of the image (H, W, 3) uint8 RGB.

        Phrases are used verbatim, and truncated to the 16 tokens of the model. They do not compete:
        the score of a phrase does not depend on the others.
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
    """Converts boxes (N, 4) to corners in pixels (N, 4).

    boxes: centre x, y, width and height as fractions of the image. The model squeezes an image into
    a square without padding, so each axis has its own factor.
    """
    center, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([center - half, center + half], 1) * [width, height, width, height]


def unavailable(model: str, error: BaseException) -> str:
    """Returns the message for a detector that could not be loaded."""
    return (f'the OWL-ViT model {model} is neither a folder nor in the cache folder '
            f'{cache_folder(EXTRA)} and could not be loaded from the Hugging Face hub '
            f'({first_line(error)}): connect once so that it is downloaded, copy the cache folder '
            'from another machine, or leave this rival out')


class Detector(Protocol):
    """OwlVitDetector, or a substitute in a test."""

    def detect(self, image: np.ndarray, texts: Sequence[str]) -> list[Detection]: ...


def run_detector(scene: EvalScene, frozen: FrozenRadiance,
                 detector: Detector) -> list[ObjectResult]:
    """Returns a record for each object, from the evaluated views, which are rendered larger."""
    shown = []
    for small in frozen.views:
        view = frozen.render(small.view, PICTURE_SIDE, samples=1)
        size = view.camera.width, view.camera.height
        shown.append((view.view.truth(size), view.picture()))
    return score_detector(scene.name, detector, scene.objects, shown)


def score_detector(scene: str, detector: Detector, objects: Sequence[TruthObject],
                   views: Sequence[tuple[ViewTruth, np.ndarray]]) -> list[ObjectResult]:
    """Returns a record for each object. An object with the same query is right as well.

    views: ground truth and picture (H, W, 3) uint8 RGB. An object is localized when the centre of
    the best box of its phrase is inside a labelled box, in most of the views that show it.
    """
    texts = list(dict.fromkeys(thing.query for thing in objects))
    answers = [{found.text: found for found in detector.detect(picture, texts)}
               for _, picture in views]
    rows = []
    for thing in objects:
        meant = [i for i, other in enumerate(objects) if other.query == thing.query]
        right = [points_in_boxes(pixel_of(found[thing.query]), boxes)
                 for (truth, _), found in zip(views, answers)
                 if len(boxes := boxes_of(truth, meant))]
        score = max((found[thing.query].score for found in answers), default=0.0)
        rows.append(ObjectResult(scene, OWL_VIT, OWL_VIT, thing.query, thing.pixels, None, None,
                                 score, majority_vote(right)))
    return rows


def boxes_of(truth: ViewTruth, meant: Sequence[int]) -> np.ndarray:
    """Returns all boxes (K, 4) of the meant objects in a view."""
    return np.concatenate([np.empty((0, 4)),
                           *(truth.boxes_px[i] for i in meant if i in truth.boxes_px)])


def pixel_of(found: Detection) -> np.ndarray:
    """Returns the pixel (1, 2), column before row, that holds the centre of a box."""
    return np.floor(found.center_px)[None]
