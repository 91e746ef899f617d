# SPDX-License-Identifier: Apache-2.0
"""Colours have the names that people gave them."""

import numpy as np
import pytest

from lerf_ros.query.phrases.colors import balanced, memberships, to_lab, word_memberships
from lerf_ros.query.phrases.vocabulary import BASIC_COLORS, COLORS

# Means of what took part in the xkcd colour survey called so (2010, public domain), sRGB.
SURVEYED = {'red': (229, 0, 0), 'orange': (249, 115, 6), 'brown': (101, 55, 0),
            'yellow': (255, 255, 20), 'green': (21, 176, 26), 'blue': (3, 67, 223),
            'purple': (126, 30, 156), 'pink': (255, 129, 192), 'black': (0, 0, 0),
            'gray': (146, 149, 145), 'white': (255, 255, 255)}


def lab(*colors: tuple[int, int, int]) -> np.ndarray:
    return to_lab(np.array(colors) / 255)


@pytest.mark.parametrize('name', BASIC_COLORS)
def test_surveyed_colours_have_their_names(name):
    fits = memberships(lab(SURVEYED[name]))[0]
    assert BASIC_COLORS[int(fits.argmax())] == name
    assert fits.max() > 0.9


def test_memberships_add_up_to_one():
    rng = np.random.default_rng(0)
    sums = memberships(lab(*rng.integers(0, 256, (500, 3)))).sum(1)
    assert np.abs(sums - 1).max() < 0.2 and np.abs(sums - 1).mean() < 0.02


def test_variants_are_colours_that_are_known():
    assert all(set(basic) <= set(BASIC_COLORS) for basic in COLORS.values())
    fits = word_memberships(lab((64, 224, 208), (229, 0, 0)), ('turquoise',))[:, 0]
    assert fits[0] > 0.9 > 0.1 > fits[1]


def test_a_side_in_shadow_keeps_its_colour():
    # The lower one is called brown by itself: 0.7 of the light of a red mug.
    fits = word_memberships(lab((191, 20, 18), (134, 14, 12)), ('red', 'blue'))
    assert (fits[:, 0] >= 0.7).all() and (fits[:, 1] < 0.01).all()


def test_white_in_shadow_is_white_and_black_with_highlights_is_black():
    fits = word_memberships(lab((180, 179, 178), (60, 60, 60), (105, 105, 105)),
                            ('white', 'black'))
    assert fits[0, 0] > 0.9 and fits[1, 1] > 0.9
    assert fits[2].max() < 0.1      # gray is neither


def test_shades_tell_dark_from_light():
    navy, sky = lab((15, 35, 85)), lab((120, 170, 250))
    assert word_memberships(navy, ('blue',), 'dark')[0, 0] > 0.8
    assert word_memberships(navy, ('blue',), 'light')[0, 0] < 0.2
    assert word_memberships(sky, ('blue',), 'light')[0, 0] > 0.8


def test_the_cast_of_the_light_is_taken_out():
    # A white wall, a table of brown wood and a white mug under a yellow lamp.
    cast = np.array([1.0, 0.96, 0.86])
    room = np.repeat([[235, 235, 235], [150, 105, 70], [240, 240, 240]], [300, 600, 40], axis=0)
    seen = (room * cast).round().astype(np.uint8)
    white = BASIC_COLORS.index('white')
    assert memberships(to_lab(seen[-1:] / 255))[0, white] < 0.5
    assert memberships(balanced(seen)[-1:])[0, white] > 0.9
    # The wood stays wood.
    assert memberships(balanced(seen)[400:401])[0].argmax() in (
        BASIC_COLORS.index('brown'), BASIC_COLORS.index('orange'))


def test_a_room_without_anything_neutral_keeps_its_hues():
    table = np.tile(np.array([[200, 120, 60]], np.uint8), (50, 1))
    before, after = to_lab(table[:1] / 255)[0], balanced(table)[0]
    assert abs(np.arctan2(*before[:0:-1]) - np.arctan2(*after[:0:-1])) < 0.1


def test_a_dark_picture_is_judged_as_if_it_was_bright():
    room = np.repeat([[130, 130, 130], [60, 8, 8]], [100, 100], axis=0).astype(np.uint8)
    assert BASIC_COLORS[int(memberships(balanced(room)[:1]).argmax())] in ('gray', 'white')
    assert balanced(room)[0, 0] > to_lab(room[:1] / 255)[0, 0] + 15


def test_no_points_have_no_colours():
    assert balanced(np.zeros((0, 3), np.uint8)).shape == (0, 3)
