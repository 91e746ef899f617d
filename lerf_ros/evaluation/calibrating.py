# SPDX-License-Identifier: Apache-2.0
"""Fits probabilities to places whose truth is known, and says how good they are on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.preprocessing import StandardScaler

from lerf_ros.evaluation.plots import finish, new_figure, save, style
from lerf_ros.query.presence import FEATURES, Logistic

BINS = 8
# Inverse of the penalty on the weights: a handful of layouts says little about three features.
STRENGTH = 0.1


@dataclass(frozen=True)
class Samples:
    """features (N, F) of places, and whether each was right (N,) bool."""

    features: np.ndarray
    right: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Samples]) -> Samples:
        """One after the other; FEATURES long even where there are none."""
        return cls(np.concatenate([np.zeros((0, len(FEATURES))), *(p.features for p in parts)]),
                   np.concatenate([np.zeros(0, bool), *(p.right for p in parts)]))

    @property
    def weights(self) -> np.ndarray:
        """(N,) that give right and wrong ones the same weight in all, 1 for each on average."""
        share = np.where(self.right, self.right.mean(), 1 - self.right.mean())
        return 0.5 / share


@dataclass(frozen=True)
class Reliability:
    """predicted (B,) and observed (B,): mean probability and share of right ones in each bin.

    counts (B,): samples. Samples of both classes weigh the same in all.
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray


def fit_logistic(samples: Samples) -> Logistic:
    """Regularised logistic regression at an even prior.

    Raises ValueError when all samples are right or all are wrong.
    """
    scaler = StandardScaler().fit(samples.features)
    scale = np.where(scaler.scale_ > 0, scaler.scale_, 1.0)
    model = LogisticRegression(C=STRENGTH, class_weight='balanced').fit(
        (samples.features - scaler.mean_) / scale, samples.right)
    return Logistic(tuple(map(float, scaler.mean_)), tuple(map(float, scale)),
                    tuple(map(float, model.coef_[0])), float(model.intercept_[0]))


def brier(model: Logistic, samples: Samples) -> float:
    """Mean squared error of the probabilities at an even prior; 0.25 is that of always 0.5."""
    return float(brier_score_loss(samples.right, model.probability(samples.features),
                                  sample_weight=samples.weights))


def reliability(model: Logistic, samples: Samples, bins: int = BINS) -> Reliability:
    """How often places of about one probability were right; empty bins are left out."""
    p, weight = model.probability(samples.features), samples.weights
    which = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    total = np.bincount(which, weight, bins)
    full = counts > 0
    return Reliability(np.bincount(which, weight * p, bins)[full] / total[full],
                       np.bincount(which, weight * samples.right, bins)[full] / total[full],
                       counts[full])


def plot_reliability(encoder: str, panels: dict[str, tuple[Logistic, Samples]],
                     folder: Path) -> Path:
    """reliability_ENCODER.png: a panel for each model with the samples it did not see."""
    figure, axes = new_figure(f'Reliability on layouts that were not fitted, {encoder}',
                              len(panels))
    for axis, (name, (model, samples)) in zip(axes, panels.items(), strict=True):
        r = reliability(model, samples)
        axis.plot([0, 1], [0, 1], color='0.5', linestyle=':', label='perfect')
        axis.plot(r.predicted, r.observed, marker='o', **style(0),
                  label=f'Brier {brier(model, samples):.3f}, {len(samples.right)} samples')
        for x, y, n in zip(r.predicted, r.observed, r.counts, strict=True):
            axis.annotate(str(n), (x, y), textcoords='offset points', xytext=(4, -11), fontsize=8)
        axis.set(title=name, xlabel='predicted probability', ylabel='share that was right',
                 xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        finish(axis, empty='no samples')
    return save(figure, folder, 'reliability', encoder)
