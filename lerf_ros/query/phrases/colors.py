# SPDX-License-Identifier: Apache-2.0
"""How far a colour is what the eleven basic colour terms name, by a fuzzy model in CIELAB.

The model and its numbers are those of Benavente, Vanrell and Baldrich, 'Parametric fuzzy sets for
automatic color naming', J. Opt. Soc. Am. A 25(10), 2582-2593 (2008), fitted to names that people
gave: in each of six ranges of lightness, an ellipse in the plane (a, b) separates the colours from
black, gray and white, and half-planes from its centre separate them from each other; all borders
are sigmoids. Colours of a map are first freed of the cast of the light (`balanced`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from lerf_ros.query.phrases.vocabulary import BASIC_COLORS, COLORS


class Level(NamedTuple):
    """Borders in one range of lightness.

    center (2,): a, b. radii (2,) and angle, radians, of the ellipse; steepness of its border.
    sectors: name, angle at which it begins, radians anticlockwise from a, and steepness there.
    """

    center: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    steepness: float
    sectors: tuple[tuple[str, float, float], ...]


NEUTRALS = ('black', 'gray', 'white')
# Fraction of its points that must have a colour, so that a thing is said to have it. Nearly
# everything has black, gray and white somewhere: shadows, metal, highlights.
COLORED, UNCOLORED = 0.15, 0.15
VIVID_CHROMA = 25.0
# A field learns colours roughly: with less chroma than this a point of a map counts as neutral.
ROUGH_CHROMA, ROUGH_STEEPNESS = 11.0, 0.5
VIVID_SHARE = 0.06      # of the points, from which they may tell the colour of a thing
MOSTLY = 0.5            # of the vivid ones must then have the colour

LIGHTNESS = (31.0, 42.0, 51.0, 66.0, 76.0)     # between the levels
LEVELS = (
    Level((0.42, 0.25), (5.89, 7.47), 0.041, 9.84, (
        ('red', -0.039, 0.90), ('brown', 0.584, 1.72), ('green', 1.825, 0.84),
        ('blue', 3.920, 1.95), ('purple', 5.286, 1.01))),
    Level((0.23, 0.66), (6.46, 7.87), 0.307, 6.03, (
        ('red', 0.039, 0.52), ('brown', 0.719, 5.00), ('green', 1.691, 0.69),
        ('blue', 3.673, 0.96), ('purple', 5.262, 0.92), ('pink', 6.009, 1.10))),
    Level((-0.12, 0.52), (5.38, 6.98), 0.342, 6.81, (
        ('red', 0.237, 1.00), ('orange', 0.776, 0.57), ('brown', 1.069, 0.52),
        ('green', 1.687, 0.84), ('blue', 3.480, 0.60), ('purple', 5.267, 0.80),
        ('pink', 5.888, 0.62))),
    Level((-0.44, 1.08), (6.06, 7.50), 0.428, 7.32, (
        ('red', 0.463, 0.94), ('orange', 0.576, 0.75), ('yellow', 1.398, 0.48),
        ('green', 1.670, 0.73), ('blue', 3.461, 0.64), ('purple', 5.257, 0.76),
        ('pink', 5.691, 5.00))),
    Level((-0.57, 1.16), (5.37, 6.90), 0.432, 100.0, (
        ('orange', 0.449, 2.00), ('yellow', 1.294, 0.84), ('green', 1.785, 0.86),
        ('blue', 3.291, 0.74), ('purple', 5.221, 0.47), ('pink', 5.715, 1.74))),
    Level((-1.26, 1.81), (6.04, 7.39), -0.021, 100.0, (
        ('orange', 0.449, 1.03), ('yellow', 1.264, 0.79), ('green', 1.854, 0.96),
        ('blue', 3.317, 0.90), ('purple', 5.246, 0.60), ('pink', 5.718, 1.93))))
BLACK_TO_GRAY, GRAY_TO_WHITE = (28.28, 0.71), (79.65, 0.31)    # lightness and steepness

# The light of a room: points of little colour, in the brighter half, are taken for white or gray.
NEUTRAL_CHROMA = 20.0
NEUTRAL_SHARE = 0.05        # of all points, at least, or nothing is known of the light
MOST_CAST = 1.25            # times by which a channel is corrected at most
CAST_POWER = 0.5            # of the cast that is taken out: walls are seldom quite white
WHITE_SHARE, WHITE_LUMINANCE = 0.02, 0.8    # so many points are as bright as white in fair light
MOST_GAIN = 2.0
SHADE_LIGHTNESS = 45.0      # below it a colour is dark
# Shadows make gray of white, and highlights gray of black: each word takes that much of gray.
WHITE_FROM, BLACK_TO, STEEPNESS = 56.0, 36.0, 0.3
# A side in shadow has the name that it would have in so many times the light, but less surely.
SHADOW, SURENESS = 1.3, 0.8     # the former of the lightness above that of black


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(x / 2))


def to_lab(colors: np.ndarray) -> np.ndarray:
    """Returns CIELAB (N, 3), white point D65, of sRGB colours (N, 3) in 0..1."""
    if not len(colors):
        return np.zeros((0, 3))
    return cv2.cvtColor(colors.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0].astype(np.float64)


def memberships(lab: np.ndarray) -> np.ndarray:
    """Returns how far colours (N, 3) are each of BASIC_COLORS, (N, 11) in 0..1, sums about 1."""
    out = np.zeros((len(lab), len(BASIC_COLORS)))
    level_of = np.searchsorted(LIGHTNESS, lab[:, 0], side='right')
    for number, level in enumerate(LEVELS):
        chosen = np.flatnonzero(level_of == number)
        for name, values in chromatic(lab[chosen, 1:], level).items():
            out[chosen, BASIC_COLORS.index(name)] = values
    rest = np.clip(1 - out.sum(1), 0, 1)
    light, white = (sigmoid(steepness * (lab[:, 0] - at))
                    for at, steepness in (BLACK_TO_GRAY, GRAY_TO_WHITE))
    for name, part in (('black', 1 - light), ('gray', light * (1 - white)),
                       ('white', light * white)):
        out[:, BASIC_COLORS.index(name)] = rest * part
    return out


def chromatic(ab: np.ndarray, level: Level) -> dict[str, np.ndarray]:
    """Returns how far points (N, 2) of a level are each of its colours, (N,)."""
    at = ab - level.center
    turn = np.array([[np.cos(level.angle), -np.sin(level.angle)],
                     [np.sin(level.angle), np.cos(level.angle)]])
    away = ((at @ turn / level.radii) ** 2).sum(1) - 1
    colorful = sigmoid(np.clip(level.steepness * away, -500, 500))
    begins = {name: sigmoid(steepness * (at @ [-np.sin(angle), np.cos(angle)]))
              for name, angle, steepness in level.sectors}
    names = list(begins)
    return {name: colorful * begins[name] * (1 - begins[names[(k + 1) % len(names)]])
            for k, name in enumerate(names)}


def word_memberships(lab: np.ndarray, words: Sequence[str], shade: str = '') -> np.ndarray:
    """Returns how far colours (N, 3), CIELAB, are what each word says, (N, W) in 0..1.

    words: of vocabulary.COLORS. shade: 'dark', 'light' or ''.
    """
    basic = memberships(lab)
    gray = [BASIC_COLORS.index(name) for name in NEUTRALS]
    lit = memberships(np.minimum(lab * SHADOW, [100.0, np.inf, np.inf]))
    basic = np.maximum(basic, np.where(basic[:, gray].sum(1, keepdims=True) > 0.5, 0.0,
                                       SURENESS * lit))
    rough = sigmoid(ROUGH_STEEPNESS * (np.hypot(lab[:, 1], lab[:, 2]) - ROUGH_CHROMA))[:, None]
    neutral = np.maximum(basic[:, gray].sum(1), 1 - rough[:, 0])
    light = lab[:, :1] >= [BLACK_TO_GRAY[0], GRAY_TO_WHITE[0]]
    basic = basic * rough
    # What has too little chroma for a colour is black, gray or white instead.
    basic[:, gray] += (1 - rough) * np.concatenate(
        [~light[:, :1], light[:, :1] & ~light[:, 1:], light[:, 1:]], 1)
    wide = {'white': neutral * sigmoid(STEEPNESS * (lab[:, 0] - WHITE_FROM)),
            'black': neutral * sigmoid(STEEPNESS * (BLACK_TO - lab[:, 0]))}
    columns = [np.minimum(sum(wide[name] if name in wide else basic[:, BASIC_COLORS.index(name)]
                              for name in COLORS[word]), 1.0) for word in words]
    fits = np.stack(columns, 1) if columns else np.zeros((len(lab), 0))
    if not shade:
        return fits
    sign = 1.0 if shade == 'light' else -1.0
    return fits * sigmoid(sign * (lab[:, 0] - SHADE_LIGHTNESS) / 5)[:, None]


def thing_colors(lab: np.ndarray, words: Sequence[str], shade: str = '') -> np.ndarray:
    """Returns how well words say what colour a thing has whose points have colours (n, 3), (W,).

    From 1 on it has that colour. A colour counts by its part of all points, or of the vivid ones: a
    drum with a white skin and metal hoops is red if its shell is.
    """
    fits = word_memberships(lab, words, shade)
    vivid = np.hypot(lab[:, 1], lab[:, 2]) > VIVID_CHROMA
    of_vivid = fits[vivid].mean(0) if vivid.any() else np.zeros(len(words))
    enough = min(vivid.mean() / VIVID_SHARE, 1.0)
    neutral = np.array([set(COLORS[word]) <= set(NEUTRALS) for word in words])
    return np.where(neutral, fits.mean(0) / UNCOLORED * (1 - vivid.mean() / 2),
                    np.maximum(fits.mean(0) / COLORED, enough * of_vivid / MOSTLY))


def balanced(colors: np.ndarray) -> np.ndarray:
    """Returns CIELAB (N, 3) of a map's colours (N, 3) uint8 sRGB, under white, bright light.

    What is bright and nearly without colour is taken for white or gray, as walls and paper are: a
    mean of the whole room would take the colour of its table for that of the light.
    """
    srgb = colors.astype(np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    light = light_of(linear, to_lab(srgb))
    corrected = linear / light
    low = 12.92 * corrected
    high = 1.055 * np.clip(corrected, 0, None) ** (1 / 2.4) - 0.055
    return to_lab(np.clip(np.where(corrected <= 0.0031308, low, high), 0, 1))


def light_of(linear: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """Returns the light (3,), linear RGB, in which points of these colours (N, 3) were seen."""
    if not len(linear):
        return np.ones(3)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    gain = WHITE_LUMINANCE / max(float(np.quantile(luminance, 1 - WHITE_SHARE)), 1e-6)
    gain = float(np.clip(gain, 1.0, MOST_GAIN))
    neutral = ((np.hypot(lab[:, 1], lab[:, 2]) < NEUTRAL_CHROMA)
               & (luminance >= np.median(luminance)) & (linear.max(1) < 0.98))
    if neutral.mean() < NEUTRAL_SHARE:
        return np.full(3, 1 / gain)
    mean = linear[neutral].mean(0)
    cast = mean / max(float(mean @ [0.2126, 0.7152, 0.0722]), 1e-6)
    return np.clip(cast, 1 / MOST_CAST, MOST_CAST) ** CAST_POWER / gain
