# SPDX-License-Identifier: Apache-2.0
"""Shows how well fitted probabilities (evaluation/calibration.py) hold on places of other maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lerf_ros.evaluation.calibration import Samples, brier
from lerf_ros.evaluation.plots import finish, new_figure, save, style
from lerf_ros.query.presence import Logistic

BINS = 8


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram of B bins, in which both classes weigh the same.

    predicted (B,): mean probability. observed (B,): fraction of right samples. counts (B,).
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray


def class_weights(samples: Samples) -> np.ndarray:
    """Returns weights (N,) by which right and wrong samples weigh the same; their mean is 1."""
    return 0.5 / np.where(samples.right, samples.right.mean(), 1 - samples.right.mean())


def reliability(model: Logistic, samples: Samples, bins: int = BINS) -> Reliability:
    """Computes how often places of similar probability were right; empty bins are left out."""
    p, weight = model.probability(samples.features), class_weights(samples)
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
