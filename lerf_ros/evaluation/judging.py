# SPDX-License-Identifier: Apache-2.0
"""Asks an index for everything that is there and for what is not, and compares with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.config import QueryConfig
from lerf_ros.evaluation.eval_rows import ObjectResult, PhraseScore
from lerf_ros.evaluation.eval_views import LabelledView
from lerf_ros.evaluation.existence import AbsentWords
from lerf_ros.evaluation.extents import inside_box, point_iou
from lerf_ros.evaluation.localization import (
    OVS_KERNEL,
    lerf_ovs_mask,
    mask_iou,
    peak_inside,
    smoothed_peak_inside,
)
from lerf_ros.evaluation.scenes import TruthObject
from lerf_ros.query.answer import Hit
from lerf_ros.query.language_index import LanguageIndex
from lerf_ros.query.text_query import SCORE_POINTS, TextEncoder, TextQuery


@dataclass(frozen=True)
class Contender:
    """What is judged: an index, which object each of its points is on (-1: none), and its name.

    objects (N,) index into the scene's objects.
    """

    scene: str
    encoder: str
    method: str
    index: LanguageIndex
    objects: np.ndarray
    text_encoder: TextEncoder
    radius: float
    config: QueryConfig

    def query(self) -> TextQuery:
        return TextQuery(self.index, self.text_encoder, self.config, self.radius)


def judge_objects(contender: Contender, objects: Sequence[TruthObject],
                  views: Sequence[tuple[LabelledView, Mapping[str, np.ndarray]]] = ()
                  ) -> list[ObjectResult]:
    """One row for each object; what shares its query counts as meant as well.

    views: labelled views with the rendered relevancy (H, W) of each phrase.
    """
    query, rows = contender.query(), []
    for thing in objects:
        meant = [i for i, other in enumerate(objects) if other.query == thing.query]
        values, scales = query.relevancy(thing.query)
        place = query.best_place(values, scales)
        hit, iou = judge_place(contender, {i: objects[i] for i in meant}, place)
        rows.append(ObjectResult(
            contender.scene, contender.encoder, contender.method, thing.query, thing.pixels, hit,
            iou, score(values), *judge_views(thing.query, meant, views)))
    return rows


def judge_place(contender: Contender, meant: Mapping[int, TruthObject],
                place: tuple[Hit, np.ndarray] | None) -> tuple[bool | None, float | None]:
    """Whether the best hit is at one of the meant objects, and the IoU of its points with one.

    place: the hit with the indices of its points, None for no hit. None for both where the boxes
    of the objects are not known.
    """
    boxes = [(thing.box_min, thing.box_max) for thing in meant.values()
             if thing.box_min is not None and thing.box_max is not None]
    if not boxes:
        return None, None
    if place is None:
        return False, 0.0
    found = np.zeros(len(contender.objects), bool)
    found[place[1]] = True
    return (any(inside_box(place[0].position, *box) for box in boxes),
            float(max(point_iou(found, contender.objects == i) for i in meant)))


def judge_views(text: str, meant: Sequence[int],
                views: Sequence[tuple[LabelledView, Mapping[str, np.ndarray]]]
                ) -> tuple[bool | None, bool | None, float | None]:
    """LERF's and LERF-OVS's localization and the latter's IoU in the views that show the object.

    Right in most of the views counts as right; None where no view shows it.
    """
    peaks, smooth, ious = [], [], []
    for truth, maps in views:
        shown = [i for i in meant if i in truth.boxes_px]
        if not shown or text not in maps:
            continue
        boxes, kernel = np.concatenate([truth.boxes_px[i] for i in shown]), kernel_px(maps[text])
        peaks.append(peak_inside(maps[text], boxes))
        smooth.append(smoothed_peak_inside(maps[text], boxes, kernel))
        masks = [truth.masks[i] for i in shown if i in truth.masks]
        if masks:
            ious.append(mask_iou(lerf_ovs_mask(maps[text], kernel=kernel), np.any(masks, axis=0)))
    return most(peaks), most(smooth), float(np.mean(ious)) if ious else None


def most(answers: Sequence[bool]) -> bool | None:
    """Whether more than half of them are yes; None for none at all."""
    return 2 * sum(answers) > len(answers) if answers else None


def kernel_px(relevancy: np.ndarray) -> int:
    """The side of LERF-OVS' filter for a map (H, W) that is smaller than its images are."""
    return max(1, round(OVS_KERNEL * max(relevancy.shape) / OVS_SIDE))


OVS_SIDE = 990   # pixels: about the longer side of the images of LERF-OVS


def score(values: np.ndarray) -> float:
    """Relevancy of a whole map: the mean of its best points, one noisy point is no thing."""
    return float(np.sort(values)[-SCORE_POINTS:].mean()) if len(values) else 0.0


def judge_phrases(contender: Contender, present: Sequence[str],
                  absent: AbsentWords) -> list[PhraseScore]:
    """How high the map scores what is there, what is not, and what is nearly there."""
    query = contender.query()
    return [PhraseScore(contender.scene, contender.encoder, contender.method, text, there, near,
                        score(query.relevancy(text)[0]))
            for texts, there, near in ((dict.fromkeys(present), True, False),
                                       (absent.far, False, False), (absent.near, False, True))
            for text in texts]
