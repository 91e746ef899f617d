# SPDX-License-Identifier: Apache-2.0
"""Whether a thing is there: the verdict, and the probability of it.

A relevancy ranks places. How likely the best of them is right depends on the encoder, on the scales
that the language field was trained at and on the negatives, so there is one pair of logistic
regressions for each combination. `bench/calibrate.py` fits them to simulated layouts whose ground
truth is known, and writes them to the folder beside this module.

The prior is even: things that are there have half of the weight of a fit, however many phrases
were asked.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypedDict

import numpy as np

from lerf_ros.config import LerfConfig, QueryConfig
from lerf_ros.query.answer import EVEN, NEUTRAL, Hit, Presence
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.settings import flat_fields

log = logging.getLogger(__name__)
FOLDER = Path(__file__).resolve().parent / 'calibrations'
# Settings that relevancies depend on; a calibration is valid for their values alone.
SETTINGS = ('query.negatives', 'query.temperature', 'query.relevant_fraction',
            'query.cluster_radius', 'query.whole_share', 'features.widths', 'features.pyramid',
            'index.voxel', 'index.scales', 'index.search_low', 'index.search_high',
            'index.search_unit', 'query.look_weight')
# What settings that are younger than a calibration were when it was fitted.
BEFORE: Mapping[str, object] = {'query.look_weight': 0.0}
FEATURES = ('log-odds of the relevancy, less rival words', 'logarithm of the points',
            'logarithm of the keyframes')
RIVALRY = 1.0    # weight of the words that fit better, see lookalikes.py
EXTREME = 1e-4   # relevancies are clipped to at least this distance from 0 and 1


@dataclass(frozen=True)
class Logistic:
    """Logistic regression: P = 1 / (1 + exp(-(weights . (x - mean) / scale + intercept))).

    mean, scale, weights: one number for each of FEATURES.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Returns the probabilities (N,) of samples (N, F)."""
        standard = (np.atleast_2d(features) - self.mean) / self.scale
        return 1 / (1 + np.exp(-(standard @ np.asarray(self.weights) + self.intercept)))


@dataclass(frozen=True)
class Calibration:
    """hit: that a place is what was asked for. presence: that it is in the map at all.

    threshold: the relevancy that separates best what is there from what is not; 0 if not fitted.
    """

    hit: Logistic
    presence: Logistic
    threshold: float = 0.0

    def of_hit(self, hit: Hit) -> float:
        """Returns the probability that this place is what was asked for."""
        return float(self.hit.probability(features_of(hit))[0])

    def of_presence(self, candidate: Hit | None, observed: float = 1.0) -> float:
        """Returns the probability that the thing is there.

        candidate: its best place; None where no place beats the negatives. observed: the fraction
        of the space that was seen. The rest may still hold the thing: with odds L from what was
        seen, the posterior odds are observed L + (1 - observed).
        """
        p = float(self.presence.probability(features_of(candidate))[0])
        seen = 1.0 if math.isnan(observed) else observed
        odds = seen * p / max(1 - p, 1e-9) + (1 - seen)
        return odds / (1 + odds)


def is_worth_telling(rank: int, hit: Hit) -> bool:
    """Returns whether a hit is part of an answer: the best is (rank 0), others if they are likely.

    Others that are more likely wrong than right come from pieces of surface that float about in a
    map of few images. Where probabilities are not known (NaN) all are.
    """
    return rank == 0 or not hit.probability < EVEN


def features_of(hit: Hit | None) -> np.ndarray:
    """Returns FEATURES (3,) of a place; for None, those of no points at even odds."""
    if hit is None:
        return np.zeros(len(FEATURES))
    return np.array([contrasted_odds(hit), math.log1p(hit.points), math.log1p(hit.keyframes)])


def contrasted_odds(hit: Hit) -> float:
    """Returns the log-odds of a hit's relevancy, the less the more words fit it better."""
    certain = min(max(hit.relevancy, EXTREME), 1 - EXTREME)
    return math.log(certain / (1 - certain)) - RIVALRY * math.log1p(hit.rivals)


def settings_of(flat: Mapping[str, object]) -> dict[str, object]:
    """Returns the SETTINGS among `flat`, which is by dotted name, with values as in JSON."""
    return json.loads(json.dumps({name: flat[name] for name in SETTINGS}))


class StoredLogistic(TypedDict):
    """A Logistic as it is stored in a calibration file."""

    mean: list[float]
    scale: list[float]
    weights: list[float]
    intercept: float


class StoredCalibration(TypedDict, total=False):
    """A calibration file: the encoder and the settings that it is valid for, and two models.

    threshold: the relevancy that separates best what is there from what is not.
    """

    encoder: dict[str, str]
    settings: dict[str, object]
    hit: StoredLogistic
    presence: StoredLogistic
    threshold: float


def find_calibration(identity: Mapping[str, str], settings: Mapping[str, object],
                     folder: Path = FOLDER) -> Calibration | None:
    """Returns the calibration of an encoder at settings (by dotted name); None without one."""
    return next(filter(None, (matching(stored, identity, settings)
                              for stored in read_calibrations(folder))), None)


def matching(stored: StoredCalibration, identity: Mapping[str, str],
             settings: Mapping[str, object]) -> Calibration | None:
    """Returns a stored calibration if it is for this encoder at these settings, else None."""
    fitted = {**BEFORE, **stored['settings']}
    if stored['encoder'] != dict(identity) or fitted != settings_of(settings):
        return None
    return Calibration(logistic(stored['hit']), logistic(stored['presence']),
                       float(stored.get('threshold', 0.0)))


def map_calibration(file: Path, identity: Mapping[str, str],
                    settings: Mapping[str, object]) -> Calibration | None:
    """Returns the calibration in a file beside a map, if it is for this encoder and settings.

    A file that cannot be read counts as none, with a warning.
    """
    if not file.is_file():
        return None
    try:
        return matching(json.loads(file.read_text()), identity, settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning('%s cannot be read (%s: %s): probabilities stay unknown until `lerf_ros '
                    'calibrate` writes it anew', file, type(error).__name__, error)
        return None


def in_force(config: LerfConfig, identity: Mapping[str, str], own: float, file: Path,
             looks: bool) -> tuple[QueryConfig, Calibration | None]:
    """Returns the settings of queries with the threshold in force, and the calibration.

    own: the encoder's threshold. file: the calibration beside the map, which counts before those
    of the package. A configured threshold counts before that of a calibration, and this before the
    encoder's own. looks: whether the index has second looks; without any they have no weight.
    """
    if not looks:
        config = replace(config, query=replace(config.query, look_weight=0.0))
    settings = {name: value for name, _, value in flat_fields(config)}
    calibration = map_calibration(file, identity, settings) or find_calibration(identity, settings)
    threshold = config.query.threshold or (calibration.threshold if calibration else 0.0) or own
    return replace(config.query, threshold=threshold), calibration


@cache
def read_calibrations(folder: Path) -> tuple[StoredCalibration, ...]:
    """Reads all calibration files of a folder."""
    return tuple(json.loads(path.read_text()) for path in sorted(folder.glob('*.json')))


def logistic(stored: StoredLogistic) -> Logistic:
    """Returns the regression that was stored."""
    return Logistic(tuple(stored['mean']), tuple(stored['scale']), tuple(stored['weights']),
                    float(stored['intercept']))


def decide_presence(hits: tuple[Hit, ...], candidate: Hit | None, place: MappedPlace,
                    fit: float = 1.0) -> Presence:
    """Returns whether the thing is there.

    A hit means PRESENT. Without a hit the verdict is NOT_OBSERVED where too little of the place
    was seen or mapped finely enough, or where the best place below the threshold (candidate) beats
    the negatives but few keyframes saw it. So it is where nobody can tell whether what the phrase
    says of colours and relations holds (fit is NaN).
    """
    if hits:
        return Presence.PRESENT
    doubtful = math.isnan(fit) or (candidate is not None and candidate.relevancy > NEUTRAL
                                   and candidate.keyframes < place.keyframes)
    return Presence.ABSENT if place.enough and not doubtful else Presence.NOT_OBSERVED
