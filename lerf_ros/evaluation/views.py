# SPDX-License-Identifier: Apache-2.0
"""Views that are rendered to be judged, and what is known to be seen in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lerf_ros.evaluation.labels import ImageLabels
from lerf_ros.evaluation.localization import resized_boxes
from lerf_ros.geometry.camera import PinholeCamera

Size = tuple[int, int]   # width, height


@dataclass(frozen=True)
class LabelledView:
    """What a view shows: boxes (K, 4) in pixels and mask (H, W) of each object, by its index.

    An object without a mask is known by its boxes alone.
    """

    boxes_px: Mapping[int, np.ndarray]
    masks: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class EvalView:
    """A camera in the world, T_world_camera (4, 4), and the truth of what it sees.

    truth: gives it for the view at another size (width, height). photo: (H, W, 3) uint8 RGB where
    the view was really seen, None for a novel one.
    """

    camera: PinholeCamera
    T_world_camera: np.ndarray
    truth: Callable[[Size], LabelledView]
    photo: np.ndarray | None = None


def fitted(camera: PinholeCamera, side: int) -> PinholeCamera:
    """The camera with a longer side of at most `side` pixels."""
    shrink = max(1.0, max(camera.width, camera.height) / side)
    return camera.resized(max(round(camera.width / shrink), 1),
                          max(round(camera.height / shrink), 1))


def labelled_truth(labels: ImageLabels, texts: Sequence[str],
                   own_size: Size) -> Callable[[Size], LabelledView]:
    """The truth of labels, objects being numbered as their phrases in `texts`.

    own_size: (width, height) in pixels of the labelled image, where the labels do not say it.
    """
    labelled_size = labels.size or own_size

    def truth(size: Size) -> LabelledView:
        boxes, masks = {}, {}
        for i, text in enumerate(texts):
            if text in labels.texts():
                boxes[i] = resized_boxes(labels.boxes(text), labelled_size, size)
                mask = labels.mask(text)
                if mask is not None:
                    masks[i] = cv2.resize(mask.astype(np.uint8), size,
                                          interpolation=cv2.INTER_NEAREST).astype(bool)
        return LabelledView(boxes, masks)

    return truth
