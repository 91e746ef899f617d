# SPDX-License-Identifier: Apache-2.0
"""Which views of a scene are judged, and the truth of those that have label images."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from lerf_ros.evaluation.scenes import EvalScene
from lerf_ros.evaluation.views import EvalView, LabelledView

MIN_PIXELS = 12   # an object with fewer of them in a view is not judged there


def views_to_judge(scene: EvalScene, count: int, every: int = 0) -> tuple[EvalView, ...]:
    """The views that were labelled, all of them, or else `count` frames that show the most.

    every: of the latter only the held-out ones of every so many frames are taken; 0 takes all.
    """
    return scene.views or tuple(
        EvalView(scene.frames[i].camera, scene.frames[i].T_world_camera,
                 partial(label_view, scene, i), scene.frames[i].image)
        for i in most_showing(scene, count, every))


def label_view(scene: EvalScene, frame: int, size: tuple[int, int]) -> LabelledView:
    """The objects in a frame, seen at another size (width, height)."""
    boxes, masks = {}, {}
    if scene.labels is not None:
        # OpenCV resizes no 32-bit integers.
        labels = cv2.resize(scene.labels[frame].astype(np.float32), size,
                            interpolation=cv2.INTER_NEAREST)
        for i in range(len(scene.objects)):
            mask = labels == i
            if mask.sum() >= MIN_PIXELS:
                y, x = np.nonzero(mask)
                boxes[i] = np.array([[x.min(), y.min(), x.max(), y.max()]])
                masks[i] = mask
    return LabelledView(boxes, masks)


def most_showing(scene: EvalScene, count: int, every: int = 0) -> tuple[int, ...]:
    """Frames that together show the most objects, each adding the most to those before.

    every: only the held-out ones of every so many frames are taken; 0 takes all.
    """
    if scene.labels is None or count == 0:
        return ()
    frames = [i for i in range(len(scene.frames)) if not every or i % every == every - 1]
    seen = {i: np.bincount(scene.labels[i][scene.labels[i] >= 0].ravel(),
                           minlength=len(scene.objects))[:len(scene.objects)] > 0 for i in frames}
    times, chosen = np.zeros(len(scene.objects)), []
    for _ in range(min(count, len(frames))):
        # An object that was shown k times already is worth 1 / (k + 1).
        best = max((i for i in frames if i not in chosen),
                   key=lambda i: float((seen[i] / (times + 1)).sum()))
        chosen.append(best)
        times += seen[best]
    return tuple(sorted(chosen))
