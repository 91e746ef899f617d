# SPDX-License-Identifier: Apache-2.0
"""A detector's best box in rendered views, judged as LERF judges OWL-ViT: in 2D alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lerf_ros.evaluation.eval_rows import ObjectResult
from lerf_ros.evaluation.eval_views import LabelledView
from lerf_ros.evaluation.frozen_radiance import FrozenRadiance
from lerf_ros.evaluation.judging import most
from lerf_ros.evaluation.localization import points_in_boxes
from lerf_ros.evaluation.owl_vit import Detection
from lerf_ros.evaluation.scenes import EvalScene, TruthObject

OWL_VIT = 'owl-vit'
PICTURE_SIDE = 480   # pixels: longer side of what it is shown, or the photograph's if smaller


class Detector(Protocol):
    """owl_vit.OwlVitDetector, or what stands in for it."""

    def detect(self, image: np.ndarray, texts: Sequence[str]) -> list[Detection]: ...


def run_detector(scene: EvalScene, frozen: FrozenRadiance,
                 detector: Detector) -> list[ObjectResult]:
    """One row for each object, from all views that are judged, rendered larger than for a field."""
    shown = []
    for judged in frozen.views:
        view = frozen.render(judged.view, PICTURE_SIDE, samples=1)
        size = view.camera.width, view.camera.height
        shown.append((judged.view.truth(size), view.picture()))
    return judge_detector(scene.name, detector, scene.objects, shown)


def judge_detector(scene: str, detector: Detector, objects: Sequence[TruthObject],
                   views: Sequence[tuple[LabelledView, np.ndarray]]) -> list[ObjectResult]:
    """One row for each object; what shares its query counts as meant as well.

    views: the truth and the picture (H, W, 3) uint8 RGB. Localized: the centre of the phrase's
    best box is inside a labelled box, in most of the views that show the object.
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
                                 score, most(right)))
    return rows


def boxes_of(truth: LabelledView, meant: Sequence[int]) -> np.ndarray:
    """All boxes (K, 4) of the meant objects in a view."""
    return np.concatenate([np.empty((0, 4)),
                           *(truth.boxes_px[i] for i in meant if i in truth.boxes_px)])


def pixel_of(found: Detection) -> np.ndarray:
    """The pixel (1, 2), column before row, in which the centre of a box lies."""
    return np.floor(found.center_px)[None]
