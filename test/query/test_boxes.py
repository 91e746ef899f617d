# SPDX-License-Identifier: Apache-2.0
"""Boxes of things with handles are straight."""

import numpy as np
import pytest

from lerf_ros.query.boxes import longer_side, upright_box

NO_PLANES = np.zeros((0, 4))


def disc(radius, count=1500, seed=0):
    rng = np.random.default_rng(seed)
    angle, away = rng.uniform(0, 2 * np.pi, count), radius * np.sqrt(rng.random(count))
    return np.stack([away * np.cos(angle), away * np.sin(angle)], 1)


def bar(low, high, width, count=400, seed=1):
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(low, high, count), rng.uniform(-width / 2, width / 2, count)], 1)


def turned(ground, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return ground @ np.array([[c, s], [-s, c]])


def askew(ground, degrees):
    """By how many degrees the box of a thing whose axes are turned lies askew."""
    x, _ = longer_side(turned(ground, degrees), 0.0)
    off = (np.degrees(np.arctan2(x[1], x[0])) - degrees) % 90
    return min(off, 90 - off)


PAN = np.concatenate([disc(0.12), bar(0.12, 0.32, 0.025)])            # the tightest: 22 degrees
MUG = np.concatenate([disc(0.05), bar(0.05, 0.08, 0.015)])
HAMMER = np.concatenate([bar(-0.1, 0.15, 0.025), turned(bar(-0.05, 0.05, 0.03), 90) + [0.15, 0]])
BOX = np.stack(np.meshgrid(np.linspace(-0.1, 0.1, 40), np.linspace(-0.04, 0.04, 20)), -1)


@pytest.mark.parametrize('degrees', [0, 17, 33, 61, 88])
@pytest.mark.parametrize(('thing', 'most'), [(PAN, 2), (MUG, 4), (HAMMER, 2),
                                             (BOX.reshape(-1, 2), 0.1)])
def test_a_box_is_straight(thing, most, degrees):
    assert askew(thing, degrees) <= most


def test_the_box_of_a_pan_has_its_length_and_width():
    pan = turned(PAN, 33)
    points = np.concatenate([np.insert(pan, 2, z, axis=1) for z in (0.0, 0.05)])
    box = upright_box(points, NO_PLANES, 0.0, 0.0)
    assert box.size == pytest.approx([0.44, 0.24, 0.05], abs=0.01)


@pytest.mark.parametrize('ground', [np.zeros((1, 2)), np.zeros((5, 2)),
                                    np.arange(9.0)[:, None] * [1.0, 2.0]])
def test_what_has_no_area_has_a_box(ground):
    x, y = longer_side(ground, 0.0)
    assert np.linalg.norm(x) == pytest.approx(1) and x @ y == pytest.approx(0)


@pytest.mark.parametrize('seed', range(5))
def test_around_what_is_round_a_box_is_not_turned_by_chance(seed):
    ground = disc(0.05, seed=seed) + np.random.default_rng(seed).normal(0, 1e-3, (1500, 2))
    assert longer_side(ground, 0.005)[0].tolist() == [1, 0, 0]
