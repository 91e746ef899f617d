# SPDX-License-Identifier: Apache-2.0
"""Colours of relevancy, by the rule of the LERF paper."""

from __future__ import annotations

import math

import cv2
import numpy as np

from lerf_ros.query.answer import NEUTRAL, Answer

# The ten colours of matplotlib's `tab10`.
TAB10 = np.array([[31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189],
                  [140, 86, 75], [227, 119, 194], [127, 127, 127], [188, 189, 34],
                  [23, 190, 207]], np.uint8)

FADED = 0.35    # part of the paint outside of hits, and of a phrase that was not found


def answer_colors(answer: Answer) -> np.ndarray:
    """Returns colours (N, 3) uint8 of the points of an answer: `answer_paint` on the surface."""
    painted, share = answer_paint(answer)
    faint = share[:, None] * painted + (1 - share[:, None]) * np.asarray(answer.colors, np.float64)
    return np.asarray(np.round(faint), np.uint8)


def answer_paint(answer: Answer) -> tuple[np.ndarray, np.ndarray]:
    """Returns the paint (N, 3) uint8 of the points of an answer, and how thick it is (N,), 0..1.

    It is by relevancy, as in the paper; of several phrases each has a colour of its own, where it
    is found. Outside of the hits it is thin: relevancy spills onto what a thing stands on, which is
    not the thing. Where nothing was found all is thin: what is nearest to the phrase must not look
    like a place of it. What only photographs confirm, and not the field, has the lowest colour.
    """
    known = answer.found and answer.hit_numbers.any()   # which points are the hits
    inside = answer.hit_numbers > 0 if known else np.zeros(len(answer.relevancy), bool)
    if len(answer.texts) > 1 and len(answer.labels):
        threshold = NEUTRAL if math.isnan(answer.threshold) else answer.threshold
        painted = label_colors(answer.labels, inside | (answer.relevancy >= threshold),
                               answer.colors)
    else:
        painted = relevancy_colors(answer.relevancy, answer.colors)
        painted[inside & (answer.relevancy < NEUTRAL)] = turbo(np.zeros(1))[0]
    thin = FADED if known or not answer.found else 1.0
    return painted, np.where(inside, 1.0, thin)


def relevancy_colors(relevancy: np.ndarray, colors: np.ndarray,
                     least_top: float = 0.0) -> np.ndarray:
    """Returns colours (N, 3) uint8 RGB: turbo from 0.5 to the maximum, below 0.5 the surface's own.

    relevancy: (N,) in 0..1. colors: (N, 3) uint8 RGB of the surface. least_top: counts as the
    maximum where no relevancy is larger, for pictures that share their colours. Source: Kerr et
    al., LERF (2023), section 4: "we normalize the colormap from 50% (less relevant than canonical
    phrases) to the maximum relevancy".
    """
    relevancy = np.asarray(relevancy, np.float64)
    painted = np.array(colors, np.uint8)
    top = relevancy.max(initial=max(NEUTRAL, least_top))
    if top <= NEUTRAL:
        return painted
    relevant = relevancy >= NEUTRAL
    painted[relevant] = turbo((relevancy[relevant] - NEUTRAL) / (top - NEUTRAL))
    return painted


def level_colors(relevancy: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    """Returns the colours (N, 3) uint8 of relevancies (N,) in a cloud with relevancies (M,)."""
    top = max(float(np.max(cloud, initial=NEUTRAL)), NEUTRAL + 1e-6)
    return turbo((np.asarray(relevancy, np.float64) - NEUTRAL) / (top - NEUTRAL))


def label_colors(labels: np.ndarray, relevant: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Returns colours (N, 3) uint8: one for each label where relevant, else the surface's own.

    labels: (N,) int. relevant: (N,) bool. colors: (N, 3) uint8 RGB of the surface.
    """
    return np.where(relevant[:, None], TAB10[np.asarray(labels, int) % len(TAB10)],
                    np.asarray(colors, np.uint8))


def turbo(level: np.ndarray) -> np.ndarray:
    """Returns the colours (N, 3) uint8 RGB of levels (N,) in 0..1 in the turbo colour map."""
    bytes_ = np.round(np.clip(level, 0, 1) * 255).astype(np.uint8)
    if not len(bytes_):
        return np.zeros((0, 3), np.uint8)
    return cv2.applyColorMap(bytes_[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
