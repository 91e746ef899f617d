# SPDX-License-Identifier: Apache-2.0
"""The automatic exposure of the simulated camera, on images of one grey."""

import math

import numpy as np
import pytest

from lerf_ros.simulation.sensor import AutoExposure, expose, luminance, with_gain


def grey(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def test_without_exposure_the_image_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    same, gain = expose(image, None, None, 0.5)
    assert same is image and gain is None


def test_gain_multiplies_light_and_is_cut_at_white():
    # Four times the light is twice the grey, as gamma is 2.
    np.testing.assert_array_equal(with_gain(grey(60), 4.0), grey(120))
    np.testing.assert_array_equal(with_gain(grey(200), 4.0), grey(255))
    np.testing.assert_array_equal(with_gain(grey(77), 1.0), grey(77))


def test_the_first_image_is_exposed_to_the_target():
    exposure = AutoExposure(target=0.16, high=8.0)
    image, gain = expose(grey(51), None, exposure, 0.5)   # luminance 0.04
    np.testing.assert_array_equal(image, grey(102))
    assert luminance(image).mean() == pytest.approx(0.16)
    assert gain == pytest.approx(4.0, rel=1e-5)


def test_gain_stays_within_its_limits():
    exposure = AutoExposure(target=0.25, low=0.5, high=2.0)
    assert exposure.wanted_gain(grey(0)) == 2.0
    assert exposure.wanted_gain(grey(255)) == 0.5


def test_gain_follows_late():
    exposure = AutoExposure(target=0.25, lag_s=2.0, low=0.01, high=100.0)
    wanted = exposure.wanted_gain(grey(100))
    image, gain = expose(grey(100), 1.0, exposure, 2.0)
    np.testing.assert_array_equal(image, grey(100))   # the gain of before
    # After one lag 1/e of the stops are left, after two 1/e^2.
    assert math.log(wanted / gain) == pytest.approx(math.log(wanted) / math.e)
    _, gain = expose(grey(100), gain, exposure, 2.0)
    assert math.log(wanted / gain) == pytest.approx(math.log(wanted) / math.e ** 2)


def test_one_surface_is_darker_beside_something_bright():
    dark, bright = grey(80), grey(80)
    bright[:, 3:] = 250
    alone, _ = expose(dark, None, AutoExposure(), 0.5)
    beside, _ = expose(bright, None, AutoExposure(), 0.5)
    assert beside[0, 0, 0] < alone[0, 0, 0]
