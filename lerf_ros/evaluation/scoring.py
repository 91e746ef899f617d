# SPDX-License-Identifier: Apache-2.0
"""Asks an index for what is there and for what is not, and compares with the ground truth.

Phrases are asked as `MapQuery.answer` asks them: read for colours and relations, and without what
looks more like other words. So a score is one of what a user is told, not of a part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lerf_ros.config import QueryConfig
from lerf_ros.encoders.card import relevancy_threshold
from lerf_ros.errors import NotUnderstoodError
from lerf_ros.evaluation.localization import (
    OVS_KERNEL,
    inside_box,
    iou,
    lerf_ovs_mask,
    peak_inside,
    smoothed_peak_inside,
)
from lerf_ros.evaluation.records import ObjectResult, PhraseScore
from lerf_ros.evaluation.scenes import TruthObject, ViewTruth
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.lerf import find
from lerf_ros.query.lookalikes import plain_words
from lerf_ros.query.phrases.likeliest import likeliest_answer
from lerf_ros.query.places import Place
from lerf_ros.query.presence import contrasted_odds
from lerf_ros.query.question import encode_phrases
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.search import PhraseResult
from lerf_ros.query.text_query import TextEncoder, TextQuery

OVS_SIDE = 990   # pixels: about the longer side of the images of LERF-OVS
# Two phrases are near in meaning from this cosine of their sentence embeddings on.
NEAR_COSINE = 0.6
# Words that are true of things whose names do not contain them: these are not absent.
ALSO_TRUE: Mapping[str, tuple[str, ...]] = {
    'mug': ('cup',), 'tennis ball': ('sports ball',), 'soccer ball': ('sports ball',),
    'basketball': ('sports ball',), 'pumpkin': ('lantern',)}    # the pumpkin is carved and lit
PLACES = 5      # places of a phrase that are asked for; the best one is judged
UNDECIDED = 0.5     # how well a phrase fits where nobody can tell, as without what it is related to


class AbsentWords(NamedTuple):
    """Phrases for things that are not there, far from and near to those that are, in meaning."""

    far: tuple[str, ...]
    near: tuple[str, ...]


def absent_words(present_texts: Sequence[str], candidates: Iterable[str],
                 encode_texts: Callable[[Sequence[str]], np.ndarray],
                 near: float = NEAR_COSINE) -> AbsentWords:
    """Splits candidates into phrases that are far from, and phrases that are near to a present one.

    A candidate is near when its largest cosine to a present text exceeds `near`. A candidate is
    dropped if it repeats another one, or if it equals, contains or is part of a present text, word
    by word and ignoring plurals: a coffee mug is a mug. The order is kept. encode_texts: maps N
    phrases to sentence embeddings (N, D). So is one that ALSO_TRUE names for a present text.
    """
    true = [*present_texts, *(word for name, words in ALSO_TRUE.items() for word in words
                              if any(overlap(name, text) for text in present_texts))]
    absent = [text for text in dict.fromkeys(candidates)
              if not any(overlap(text, other) for other in true)]
    if not absent or not present_texts:
        return AbsentWords(tuple(absent), ())
    cosine = unit_rows(encode_texts(absent)) @ unit_rows(encode_texts(list(present_texts))).T
    is_near = cosine.max(1) > near
    return AbsentWords(tuple(text for text, n in zip(absent, is_near) if not n),
                       tuple(text for text, n in zip(absent, is_near) if n))


def overlap(a: str, b: str) -> bool:
    """Returns whether the words of one phrase occur consecutively in the other."""
    short, long = sorted((plain_words(a), plain_words(b)), key=len)
    return bool(short) and any(long[i:i + len(short)] == short
                               for i in range(len(long) - len(short) + 1))


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Returns the rows (N, D) scaled to length one."""
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass(frozen=True)
class EvaluatedIndex:
    """An index to be scored, with its names in the tables.

    objects (N,): which of the scene's objects each point of the index lies on; -1 for none.
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
        """Returns the index, ready to be asked, with the threshold that is in force."""
        threshold = self.config.threshold or relevancy_threshold(
            self.text_encoder, self.config.temperature)
        return TextQuery(self.index, self.text_encoder, replace(
            self.config, threshold=threshold), self.radius)


def score_objects(evaluated: EvaluatedIndex, objects: Sequence[TruthObject],
                  views: Sequence[tuple[ViewTruth, Mapping[str, np.ndarray]]] = ()
                  ) -> list[ObjectResult]:
    """Returns a record for each object. An object with the same query is right as well.

    views: the ground truth of each view with the rendered relevancy (H, W) of each phrase.
    """
    query, rows = evaluated.query(), []
    for thing in objects:
        meant = [i for i, other in enumerate(objects) if other.query == thing.query]
        answer, likeliest = asked(query, thing.query)
        # Things that are there are localized, however sure the answer is.
        place = answer.places[0] if answer.places else likeliest()
        hit, iou_3d = score_place(evaluated, {i: objects[i] for i in meant}, place)
        rows.append(ObjectResult(
            evaluated.scene, evaluated.encoder, evaluated.method, thing.query, thing.pixels, hit,
            iou_3d, existence_score(answer), *score_views(thing.query, meant, views)))
    return rows


def asked(query: TextQuery, text: str) -> tuple[PhraseResult, Callable[[], Place | None]]:
    """Returns what a phrase finds, as a user asks for it; nothing if it is not understood.

    With it comes what tells where the thing is if it is known to be there.
    """
    try:
        question = encode_phrases(QueryRequest(text), query.encoder, query.config.negatives)
    except NotUnderstoodError:
        return PhraseResult(text, (), None), lambda: None
    found = find(query, question, None, query.config.threshold, PLACES).phrases[0]
    return found, lambda: likeliest_answer(query, question)


def score_place(evaluated: EvaluatedIndex, meant: Mapping[int, TruthObject],
                place: Place | None) -> tuple[bool | None, float | None]:
    """Returns whether the best hit is at one of the meant objects, and the best IoU of its points.

    place: None for no hit. Both results are None where the boxes of the objects are unknown.
    """
    boxes = [(thing.box_min, thing.box_max) for thing in meant.values()
             if thing.box_min is not None and thing.box_max is not None]
    if not boxes:
        return None, None
    if place is None:
        return False, 0.0
    found = np.zeros(len(evaluated.objects), bool)
    found[place.members] = True
    return (any(inside_box(place.hit.position, *box) for box in boxes),
            float(max(iou(found, evaluated.objects == i) for i in meant)))


def score_views(text: str, meant: Sequence[int],
                views: Sequence[tuple[ViewTruth, Mapping[str, np.ndarray]]]
                ) -> tuple[bool | None, bool | None, float | None]:
    """Returns localization by LERF's and by LERF-OVS' rule, and the IoU of LERF-OVS' mask.

    An object is localized when most of the views that show it say so; None where no view shows it.
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
            ious.append(iou(lerf_ovs_mask(maps[text], kernel=kernel), np.any(masks, axis=0)))
    return majority_vote(peaks), majority_vote(smooth), float(np.mean(ious)) if ious else None


def majority_vote(answers: Sequence[bool]) -> bool | None:
    """Returns whether more than half of the answers are yes; None without answers."""
    return 2 * sum(answers) > len(answers) if answers else None


def kernel_px(relevancy: np.ndarray) -> int:
    """Returns the side of LERF-OVS' filter, scaled to the resolution of a map (H, W)."""
    return max(1, round(OVS_KERNEL * max(relevancy.shape) / OVS_SIDE))


def existence_score(answer: PhraseResult) -> float:
    """Returns how relevant a phrase's best place is, times how well the rest of the phrase fits.

    Words that fit the place better lower it, as they lower probabilities. Its rank decides whether
    the phrase counts as found before another one.
    """
    fit = UNDECIDED if math.isnan(answer.fit) else answer.fit
    return fit / (1 + math.exp(-contrasted_odds(answer.candidate))) if answer.candidate else 0.0


def score_phrases(evaluated: EvaluatedIndex, present: Sequence[str],
                  absent: AbsentWords) -> list[PhraseScore]:
    """Returns the existence scores of present phrases and of absent ones, far and near."""
    query = evaluated.query()
    return [PhraseScore(evaluated.scene, evaluated.encoder, evaluated.method, text, there, near,
                        existence_score(asked(query, text)[0]))
            for texts, there, near in ((dict.fromkeys(present), True, False),
                                       (absent.far, False, False), (absent.near, False, True))
            for text in texts]
