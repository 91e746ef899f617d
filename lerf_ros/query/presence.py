# SPDX-License-Identifier: Apache-2.0
"""From relevancy to probability: logistic regressions, one for each encoder and its settings.

A relevancy ranks places; how likely the best of them is right depends on the encoder, on the
scales that it was trained at and on the negatives. `bench/calibrate.py` fits, on simulated layouts
whose truth is known, and writes the files beside this module.

Prior: even. Half of the weight of a fit is on things that are there, whatever the number of
phrases that were asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lerf_ros.geometry.region import Region
from lerf_ros.index.coverage import Coverage
from lerf_ros.query.answer import Hit, Presence

FOLDER = Path(__file__).resolve().parent / 'calibrations'
# What changes how relevancies come about; a calibration holds for these settings alone.
SETTINGS = ('query.negatives', 'query.temperature', 'query.relevant_fraction',
            'query.cluster_radius', 'query.whole_share', 'features.widths', 'features.pyramid',
            'index.voxel', 'index.scales', 'index.search_low', 'index.search_high',
            'index.search_unit')
FEATURES = ('log-odds of the relevancy', 'logarithm of the points', 'logarithm of the keyframes')
EXTREME = 1e-4   # relevancies are taken to be at least as far as this from 0 and 1


@dataclass(frozen=True)
class Logistic:
    """P(y) = 1 / (1 + exp(-(weights . (x - mean) / scale + intercept))); all of FEATURES long."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """(N,) of rows (N, F)."""
        standard = (np.atleast_2d(features) - self.mean) / self.scale
        return 1 / (1 + np.exp(-(standard @ np.asarray(self.weights) + self.intercept)))


@dataclass(frozen=True)
class Calibration:
    """hit: whether a place is what was asked for. presence: whether it is in the map at all."""

    hit: Logistic
    presence: Logistic

    def of_hit(self, hit: Hit) -> float:
        """Probability that this place is what was asked for."""
        return float(self.hit.probability(features_of(hit))[0])

    def of_presence(self, candidate: Hit | None, observed: float = 1.0) -> float:
        """Probability that the thing is there, by its best place; None: no place is any good.

        observed: the part of the space that was seen. The rest may hold the thing as before: with
        the odds L of what was seen alone, the posterior odds are observed L + (1 - observed).
        """
        p = float(self.presence.probability(features_of(candidate))[0])
        seen = 1.0 if math.isnan(observed) else observed
        odds = seen * p / max(1 - p, 1e-9) + (1 - seen)
        return odds / (1 + odds)


def features_of(hit: Hit | None) -> np.ndarray:
    """FEATURES (3,) of a place; where there is none, of one with no points at even odds."""
    relevancy, points, keyframes = (0.5, 0, 0) if hit is None \
        else (hit.relevancy, hit.points, hit.keyframes)
    certain = min(max(relevancy, EXTREME), 1 - EXTREME)
    return np.array([math.log(certain / (1 - certain)), math.log1p(points),
                     math.log1p(keyframes)])


def settings_of(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings, by dotted name, that a calibration depends on, as JSON has them."""
    return json.loads(json.dumps({name: flat[name] for name in SETTINGS}))


def find_calibration(identity: Mapping[str, str], settings: Mapping[str, Any],
                     folder: Path = FOLDER) -> Calibration | None:
    """The calibration of this encoder at these settings (by dotted name); None without one."""
    wanted = settings_of(settings)
    for stored in read_calibrations(folder):
        if stored['encoder'] == dict(identity) and stored['settings'] == wanted:
            return Calibration(logistic(stored['hit']), logistic(stored['presence']))
    return None


@cache
def read_calibrations(folder: Path) -> tuple[dict[str, Any], ...]:
    """The content of all calibration files."""
    return tuple(json.loads(path.read_text()) for path in sorted(folder.glob('*.json')))


def logistic(stored: Mapping[str, Any]) -> Logistic:
    """A regression as it was stored."""
    return Logistic(tuple(stored['mean']), tuple(stored['scale']), tuple(stored['weights']),
                    float(stored['intercept']))


EVEN = 0.5   # relevancy at which a phrase and its strongest negative fit equally well


def judge_presence(hits: tuple[Hit, ...], candidate: Hit | None, coverage: Coverage | None,
                   region: Region | None, min_observed: float) -> tuple[Presence, float]:
    """Whether the thing is there, and the part of the space asked about that was seen, 0..1.

    A hit settles it. Without one, too little seen leaves it open, and so does a candidate, the
    best place below the threshold, that beats the negatives where few keyframes looked. A map
    without coverage (NaN) is taken to have seen all of its space.
    """
    observed = coverage.observed(region) if coverage is not None else float('nan')
    if hits:
        return Presence.PRESENT, observed
    if coverage is None:
        return Presence.ABSENT, observed
    doubtful = (candidate is not None and candidate.relevancy > EVEN
                and candidate.keyframes < int(coverage.needed[1]))
    unseen = observed < min_observed
    return (Presence.NOT_OBSERVED if unseen or doubtful else Presence.ABSENT), observed
