# SPDX-License-Identifier: Apache-2.0
"""Fits threshold and probabilities of one encoder to maps whose ground truth is known.

Asked are all objects of a scene and words for things that it does not hold. A place is right if it
lies in the object's box in space or, where labels are boxes in images, in one of its boxes in most
of the labelled views that show both. The threshold is the relevancy that separates best what is
there from what is not (Youden's index: share of the present found, less share of the absent found);
the probabilities are two logistic regressions at an even prior (query/presence.py).

Half of the absent words' weight is that of words near in meaning to something that is there, if any
were asked: an encoder mistakes a wine bottle for a beer bottle, hardly for a zebra. Presence is
fitted to the relevancy alone: how many points and keyframes a thing has depends on the scenes that
were asked, and would be certainty borrowed from them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lerf_ros.config import LerfConfig
from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.command import EVERYDAY_NAMES
from lerf_ros.evaluation.localization import inside_box
from lerf_ros.evaluation.scenes import EvalScene, EvalView, TruthObject
from lerf_ros.evaluation.scoring import AbsentWords
from lerf_ros.evaluation.scoring import absent_words as near_words
from lerf_ros.lerf import find
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import NEUTRAL
from lerf_ros.query.presence import FEATURES, Logistic, features_of, settings_of
from lerf_ros.query.question import encode_phrases
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextEncoder
from lerf_ros.settings import flat_fields
from lerf_ros.simulation.objects import ABSENT
from lerf_ros.storage.durable import write_json
from lerf_ros.storage.map_directory import CALIBRATION

ANY = 1e-6          # a threshold that every place reaches
PLACES = 5          # places of each phrase that are judged
LEAST = 3           # of each kind that a fit needs
MARGIN_M = 0.02
# Inverse of the penalty on the weights: a few scenes say little about three features.
STRENGTH = 0.1


@dataclass(frozen=True)
class Samples:
    """Features (N, F), relevancies (N,), and whether each was right (N,) bool.

    near (N,) bool: wrong ones that are near in meaning to something right; None for none. share
    (N,): weight of each, None where it follows from these.
    """

    features: np.ndarray
    relevancy: np.ndarray
    right: np.ndarray
    near: np.ndarray | None = None
    share: np.ndarray | None = None

    @property
    def is_near(self) -> np.ndarray:
        """Returns `near`, (N,) bool."""
        return np.zeros(len(self.right), bool) if self.near is None else self.near

    def part(self, rows: np.ndarray) -> Samples:
        """Returns the samples at rows (K,)."""
        return Samples(self.features[rows], self.relevancy[rows], self.right[rows],
                       self.is_near[rows], None if self.share is None else self.share[rows])

    @property
    def weights(self) -> np.ndarray:
        """Returns the weight (N,) of each sample: half for the right ones, the rest for the wrong.

        Of the wrong ones, near and far words share theirs evenly. `share` counts before all that.
        """
        if self.share is not None:
            return self.share / self.share.sum()
        kinds = [self.right, ~self.right & ~self.is_near, ~self.right & self.is_near]
        wrong = [kind for kind in kinds[1:] if kind.any()]
        out = np.zeros(len(self.right))
        for kind, share in [(kinds[0], 0.5), *((kind, 0.5 / len(wrong)) for kind in wrong)]:
            if kind.any():
                out[kind] = share / kind.sum()
        return out


@dataclass(frozen=True)
class Fit:
    """What a calibration file holds, and how good it is.

    found, false: shares of the present and of the absent phrases that reach the threshold. brier:
    of presence, as fitted and on phrases that were left out; always saying 0.5 has 0.25.
    """

    threshold: float
    hit: Logistic
    presence: Logistic
    found: float
    false: float
    brier: float
    brier_left_out: float


def absent_words(scene: EvalScene, encoder: TextEncoder) -> AbsentWords:
    """Returns words for things that a scene does not hold, as far as its labels tell.

    Near in meaning are those that are near by the cosines of the encoder.
    """
    present = [word for thing in scene.objects for word in (thing.name, thing.query)]
    known = ' '.join(present).lower()
    far = [word for word in ABSENT if word not in known]
    near = near_words([*present, *scene.label_names], EVERYDAY_NAMES, encoder.encode_texts).near
    return AbsentWords(tuple(far), tuple(word for word in near if word not in far))


def ask_scene(query: MapQuery, scene: EvalScene, absent: Sequence[str],
              near: Sequence[str] = ()) -> tuple[Samples, Samples]:
    """Returns samples of places and of presences from the map of one scene.

    absent: words for what is not there; near: those of them that are near to what is there.
    """
    phrases = dict.fromkeys(thing.query for thing in scene.objects)
    places, presences, shares = [], [], []
    far = [text for text in absent if text not in near]
    for text in (*phrases, *absent):
        things = [thing for thing in scene.objects if thing.query == text]
        asked, config = query.text_query, query.text_query.config
        question = encode_phrases(QueryRequest(text, whole_phrase=True), asked.encoder,
                                  config.negatives)
        found = find(asked, question, None, ANY, PLACES)
        for hit in found.hits:
            right = any(is_there(hit.position, thing, scene) for thing in things)
            places.append((features_of(hit), hit.relevancy, right))
            shares.append(share_of(bool(things), text in near, len(phrases), len(far), len(near)))
        best = find(asked, question, None, config.threshold, PLACES).phrases[0].candidate
        presences.append((features_of(best), best.relevancy if best else NEUTRAL, bool(things)))
    asked_near = np.array([text in near for text in (*phrases, *absent)], bool)
    return (replace(samples(places), share=np.array(shares)),
            replace(samples(presences), near=asked_near))


def share_of(there: bool, near: bool, present: int, far: int, nearby: int) -> float:
    """Returns the weight of a place of one phrase, among so many that are there, far and near.

    Phrases that are there have half of it all, whether they have places or not, and near and far
    ones share the rest. So a probability is that of a place that is shown, of what is as often
    there as not; were places weighted instead, the words that find nothing would count for nothing.
    """
    if there:
        return 0.5 / present
    count = nearby if near else far
    return (0.25 if far and nearby else 0.5) / count


def samples(rows: Sequence[tuple[np.ndarray, float, bool]]) -> Samples:
    """Returns rows of features, relevancy and right or wrong as arrays."""
    return Samples(np.array([row[0] for row in rows]).reshape(-1, len(FEATURES)),
                   np.array([row[1] for row in rows], float),
                   np.array([row[2] for row in rows], bool))


def joined(parts: Sequence[Samples]) -> Samples:
    """Returns the samples of several scenes as one."""
    return Samples(np.concatenate([part.features for part in parts]),
                   np.concatenate([part.relevancy for part in parts]),
                   np.concatenate([part.right for part in parts]),
                   np.concatenate([part.is_near for part in parts]),
                   np.concatenate([part.share for part in parts if part.share is not None])
                   if all(part.share is not None for part in parts) else None)


def is_there(position: np.ndarray, thing: TruthObject, scene: EvalScene) -> bool:
    """Returns whether a position (3,), world, lies at an object."""
    if thing.box_min is not None and thing.box_max is not None:
        return inside_box(position, thing.box_min, thing.box_max, MARGIN_M)
    label = scene.objects.index(thing)
    seen = [inside for view in scene.views
            if (inside := inside_view(position, label, view)) is not None]
    return bool(seen) and float(np.mean(seen)) > 0.5


def inside_view(position: np.ndarray, label: int, view: EvalView) -> bool | None:
    """Returns whether a position is seen in a box of an object; None if the view lacks either."""
    camera = view.camera
    size = camera.width, camera.height
    boxes = view.truth(size).boxes_px.get(label)
    in_camera = np.linalg.inv(view.T_world_camera) @ np.append(position, 1.0)
    if boxes is None or in_camera[2] <= 0:
        return None
    x, y = camera.project(in_camera[None, :3])[0]
    if not (0 <= x < size[0] and 0 <= y < size[1]):
        return None
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in boxes)


def fit_calibration(places: Sequence[Samples], presences: Sequence[Samples]) -> Fit:
    """Fits threshold and probabilities to the samples of all scenes.

    Raises DatasetError where too few places or phrases are right, or wrong.
    """
    hits, present = joined(places), joined(presences)
    for what, some in (('places', hits), ('phrases', present)):
        right, wrong = int(some.right.sum()), int((~some.right).sum())
        if min(right, wrong) < LEAST:
            raise DatasetError(
                f'{right} {what} are right and {wrong} wrong: a calibration needs {LEAST} of '
                'each; label more objects, train the map longer, or calibrate on simulated layouts')
    threshold = best_threshold(present)
    model = fit_presence(present)
    reach = present.relevancy >= threshold
    return Fit(threshold, fit_logistic(hits), model, float(reach[present.right].mean()),
               float(reach[~present.right].mean()), brier(model, present), left_out(present))


def best_threshold(some: Samples) -> float:
    """Returns the relevancy with the largest Youden index, midway between two samples.

    Near and far words count evenly, however many of each were asked.
    """
    levels = np.unique(some.relevancy)
    between = (levels[1:] + levels[:-1]) / 2 if len(levels) > 1 else levels
    signed = np.where(some.right, some.weights, -some.weights)
    score = [float(signed[some.relevancy >= level].sum()) for level in between]
    return float(between[int(np.argmax(score))])


def fit_presence(some: Samples) -> Logistic:
    """Fits presence to the relevancy alone; the other features have no weight."""
    relevancy = np.zeros_like(some.features)
    relevancy[:, 0] = some.features[:, 0]
    return fit_logistic(replace(some, features=relevancy))


def fit_logistic(some: Samples) -> Logistic:
    """Fits a regularised logistic regression with an even prior."""
    scaler = StandardScaler().fit(some.features)
    scale = np.where(scaler.scale_ > 0, scaler.scale_, 1.0)
    model = LogisticRegression(C=STRENGTH).fit(
        (some.features - scaler.mean_) / scale, some.right, len(some.right) * some.weights)
    return Logistic(tuple(map(float, scaler.mean_)), tuple(map(float, scale)),
                    tuple(map(float, model.coef_[0])), float(model.intercept_[0]))


def brier(model: Logistic, some: Samples) -> float:
    """Returns the Brier score with the weights of the samples: even for right and wrong."""
    error = (model.probability(some.features) - some.right) ** 2
    return float((error * some.weights).sum() / some.weights.sum())


def left_out(some: Samples, parts: int = 2) -> float:
    """Returns the mean Brier score on parts of the phrases that a fit to the others gives."""
    scores, order = [], np.argsort(some.right, kind='stable')     # both kinds in every part
    for k in range(parts):
        rest = np.delete(order, np.s_[k::parts])
        scores.append(brier(fit_presence(some.part(rest)), some.part(order[k::parts])))
    return float(np.mean(scores))


def map_config(query: MapQuery) -> LerfConfig:
    """Returns the settings that a map was made with, and those of queries as they are in force."""
    made = LerfConfig().override(query.info['config'])
    return replace(made, query=query.text_query.config)


def write_calibration(query: MapQuery, fit: Fit, scenes: Sequence[str]) -> Path:
    """Writes a calibration beside the map, where queries find it; returns its place."""
    config = map_config(query)
    content = {'encoder': dict(query.info['encoder']), 'threshold': fit.threshold,
               'settings': settings_of({name: value for name, _, value in flat_fields(config)}),
               'hit': stored(fit.hit), 'presence': stored(fit.presence), 'scenes': list(scenes),
               'reported': {'found': fit.found, 'false': fit.false, 'brier': fit.brier,
                            'brier_left_out': fit.brier_left_out}}
    path = query.directory.path / CALIBRATION
    write_json(path, json.loads(json.dumps(content)))
    return path


def stored(model: Logistic) -> dict[str, object]:
    """Returns a regression as it is stored."""
    return {'mean': list(model.mean), 'scale': list(model.scale), 'weights': list(model.weights),
            'intercept': model.intercept}
