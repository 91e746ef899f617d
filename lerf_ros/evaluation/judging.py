# SPDX-License-Identifier: Apache-2.0
"""Asks an index for everything that is there and for what is not, and compares with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from lerf_ros.config import QueryConfig
from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.localization import (
    OVS_KERNEL,
    lerf_ovs_mask,
    mask_iou,
    peak_inside,
    smoothed_peak_inside,
)
from lerf_ros.evaluation.rows import ObjectResult, PhraseScore
from lerf_ros.evaluation.scenes import TruthObject
from lerf_ros.evaluation.views import LabelledView
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import Hit
from lerf_ros.query.places import SCORE_POINTS
from lerf_ros.query.text_query import TextEncoder, TextQuery

# A hit's position comes from points on the surface, which are as exact as the depth: a gripper's
# tolerance around the object's box.
HIT_MARGIN_M = 0.03


def inside_box(position: np.ndarray, low: np.ndarray, high: np.ndarray,
               margin: float = HIT_MARGIN_M) -> bool:
    """True when the position (3,) lies in the box grown by `margin` on every side."""
    return bool(points_in_box(np.asarray(position)[None], low, high, margin)[0])


def points_in_box(points: np.ndarray, low: np.ndarray, high: np.ndarray,
                  margin: float = 0.0) -> np.ndarray:
    """Which points (N, 3) lie in the box grown by `margin` on every side, (N,) bool."""
    points = np.asarray(points, np.float64)
    above = points >= np.asarray(low) - margin
    below = points <= np.asarray(high) + margin
    return np.all(above & below, axis=-1)


def point_iou(returned: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two choices (N,) bool among the same points.

    0 where both are empty: an object without points cannot be found.
    """
    returned, truth = np.asarray(returned, bool), np.asarray(truth, bool)
    union = np.count_nonzero(returned | truth)
    return np.count_nonzero(returned & truth) / union if union else 0.0


def box_iou(low_a: np.ndarray, high_a: np.ndarray, low_b: np.ndarray,
            high_b: np.ndarray) -> float:
    """Intersection over union of the volumes of two boxes; 0 where neither has a volume."""
    low_a, high_a, low_b, high_b = (np.asarray(corner, np.float64)
                                    for corner in (low_a, high_a, low_b, high_b))
    shared = float(np.prod(np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None)))
    union = float(np.prod(high_a - low_a) + np.prod(high_b - low_b)) - shared
    return shared / union if union > 0 else 0.0


# From this cosine of their sentence embeddings on, two phrases are near in meaning.
NEAR_COSINE = 0.6


@dataclass(frozen=True)
class PrecisionRecall:
    """The phrases that are said to exist at each threshold, against those that do.

    thresholds (T,): the scores that occur, ascending. precision (T,), recall (T,): of the
    phrases whose score is at least the threshold. average_precision: the sum over thresholds of
    precision times the recall gained there; chance is the share of present phrases.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    average_precision: float


class AbsentWords(NamedTuple):
    """Phrases for things that are not there, by their nearness in meaning to what is."""

    far: tuple[str, ...]
    near: tuple[str, ...]


def existence_curve(scores: np.ndarray, present: np.ndarray) -> PrecisionRecall:
    """Precision and recall of scores (N,) of phrases that are present (N,) bool or not.

    Equal scores share one threshold. Raises DatasetError when no phrase is present.
    """
    if not np.any(present):
        raise DatasetError('existence cannot be judged: none of the phrases is present')
    precision, recall, thresholds = precision_recall_curve(present, scores)
    # scikit-learn ends with a point of no threshold: recall 0, precision 1.
    return PrecisionRecall(thresholds, precision[:-1], recall[:-1],
                           average_precision(scores, present))


def average_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """The curve's average precision; NaN when no phrase is present (as a resample may have it)."""
    if not np.any(present):
        return float('nan')
    return float(average_precision_score(present, scores))


def absent_words(present_texts: Sequence[str], candidates: Iterable[str],
                 encode_texts: Callable[[Sequence[str]], np.ndarray],
                 near: float = NEAR_COSINE) -> AbsentWords:
    """Splits candidates into those far from and those near to every present text.

    A candidate is near when its largest cosine to a present text exceeds `near`. Dropped: a
    candidate that equals a present text, contains it ('coffee mug' for 'mug') or is contained in
    it (who sees a coffee mug sees a mug), word by word and without plurals. Order is kept,
    repetitions are not. encode_texts: N phrases to (N, dimension), sentence embeddings.
    """
    absent = [text for text in dict.fromkeys(candidates)
              if not any(overlap(text, other) for other in present_texts)]
    if not absent or not present_texts:
        return AbsentWords(tuple(absent), ())
    cosine = unit_rows(encode_texts(absent)) @ unit_rows(encode_texts(list(present_texts))).T
    is_near = cosine.max(1) > near
    return AbsentWords(tuple(text for text, n in zip(absent, is_near) if not n),
                       tuple(text for text, n in zip(absent, is_near) if n))


def overlap(a: str, b: str) -> bool:
    """True when the words of one phrase occur in the other one after the other."""
    short, long = sorted((words(a), words(b)), key=len)
    return bool(short) and any(long[i:i + len(short)] == short
                               for i in range(len(long) - len(short) + 1))


def words(text: str) -> list[str]:
    """Words in lower case without articles and without a plural's s."""
    spaced = text.lower().replace('-', ' ').split()
    return [word.removesuffix('s') for word in spaced if word not in ('a', 'an', 'the')]


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length one."""
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


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
