# SPDX-License-Identifier: Apache-2.0
"""Fits probabilities to places whose ground truth is known, and measures them on other places."""

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
# Inverse of the penalty on the weights: a few layouts say little about three features.
STRENGTH = 0.1


@dataclass(frozen=True)
class Samples:
    """Features (N, F) of places, and whether each place was right (N,) bool."""

    features: np.ndarray
    right: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Samples]) -> Samples:
        """Returns all samples in a row; rows have FEATURES columns even where there are none."""
        return cls(np.concatenate([np.zeros((0, len(FEATURES))), *(p.features for p in parts)]),
                   np.concatenate([np.zeros(0, bool), *(p.right for p in parts)]))

    @property
    def weights(self) -> np.ndarray:
        """Returns weights (N,) by which right and wrong samples weigh the same; their mean is 1."""
        fraction = np.where(self.right, self.right.mean(), 1 - self.right.mean())
        return 0.5 / fraction


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram of B bins, in which both classes weigh the same.

    predicted (B,): mean probability. observed (B,): fraction of right samples. counts (B,).
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray


def fit_logistic(samples: Samples) -> Logistic:
    """Fits a regularised logistic regression with an even prior.

    Raises ValueError when all samples are right or all are wrong.
    """
    scaler = StandardScaler().fit(samples.features)
    scale = np.where(scaler.scale_ > 0, scaler.scale_, 1.0)
    model = LogisticRegression(C=STRENGTH, class_weight='balanced').fit(
        (samples.features - scaler.mean_) / scale, samples.right)
    return Logistic(tuple(map(float, scaler.mean_)), tuple(map(float, scale)),
                    tuple(map(float, model.coef_[0])), float(model.intercept_[0]))


def brier(model: Logistic, samples: Samples) -> float:
    """Returns the Brier score at an even prior; always predicting 0.5 scores 0.25."""
    return float(brier_score_loss(samples.right, model.probability(samples.features),
                                  sample_weight=samples.weights))


def reliability(model: Logistic, samples: Samples, bins: int = BINS) -> Reliability:
    """Computes how often places of similar probability were right; empty bins are left out."""
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
    """Writes reliability_ENCODER.png: a panel for each model, with samples it was not fitted to."""
    figure, axes = new_figure(f'Reliability on layouts that were not fitted, {encoder}',
                              len(panels))
    for axis, (name, (model, samples)) in zip(axes, panels.items(), strict=True):
        r = reliability(model, samples)
        axis.plot([0, 1], [0, 1], color='0.5', linestyle=':', label='perfect')
        axis.plot(r.predicted, r.observed, marker='o', **style(0),
                  label=f'Brier {brier(model, samples):.3f}, {len(samples.right)} samples')
        for x, y, n in zip(r.predicted, r.observed, r.counts, strict=True):
            axis.annotate(str(n), (x, y), textcoords='offset points', xytext=(4, -11), fontsize=8)
        axis.set(title=name, xlabel='predicted probability', ylabel='fraction that was right',
                 xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        finish(axis, empty='no samples')
    return save(figure, folder, 'reliability', encoder)
