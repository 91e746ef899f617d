# SPDX-License-Identifier: Apache-2.0
"""The picture of a map from above: where things are drawn, what covers what, what is said."""

import numpy as np

from lerf_ros.query.answer import Answer, Hit, PhraseAnswer, Presence
from lerf_ros.show.from_above import (
    LONGEST_PX,
    MARGIN_PX,
    PALE,
    PlanView,
    color_of,
    draw_name,
    from_above,
    overlap,
    said,
    surface,
)

# A floor of 4 m by 2 m, a ceiling, and a red box on a table.
FLOOR = np.array([[x, y, 0.0] for x in np.arange(0, 4.01, 0.02) for y in np.arange(0, 2.01, 0.02)])
THING = np.array([[x, y, 0.8] for x in np.arange(3, 3.1, 0.01) for y in np.arange(0.5, 0.6, 0.01)])


def hit_at(x, y, label='mug'):
    return Hit(np.array([x, y, 0.8]), np.eye(3), np.array([0.2, 0.2, 0.2]), 0.9, 0.1, 50, 5, label)


def answer_of(text, hits=(), presence=None, points=FLOOR, **more):
    presence = presence if presence is not None else Presence(bool(hits))
    return Answer(text, presence, 0.6, tuple(hits), points, np.zeros(len(points)),
                  np.full((len(points), 3), 100, np.uint8), None, 'map', True, 1, 0, **more)


def pale(value):
    return round(255 * PALE + (1 - PALE) * value)


def test_x_goes_to_the_right_and_y_up_at_one_scale():
    view = PlanView.of(FLOOR)
    assert view.width == LONGEST_PX and view.height == round(2 * view.scale) + 2 * MARGIN_PX
    assert view.scale == (LONGEST_PX - 2 * MARGIN_PX) / 4
    (left, bottom), (right, top) = view.pixels(np.array([[0.0, 0.0, 5.0], [4.0, 2.0, -1.0]]))
    assert abs(left - MARGIN_PX) <= 1 and abs(right - (LONGEST_PX - MARGIN_PX)) <= 1
    assert abs(top - MARGIN_PX) <= 1 and abs(bottom - (view.height - MARGIN_PX)) <= 1


def test_what_is_higher_covers_what_is_lower_but_for_a_ceiling():
    ceiling = FLOOR + [0, 0, 2.5]
    points = np.concatenate([ceiling, THING, FLOOR])
    colors = np.repeat([[0, 0, 255], [255, 0, 0], [100, 100, 100]],
                       [len(ceiling), len(THING), len(FLOOR)], axis=0).astype(np.uint8)
    view = PlanView.of(points)
    picture = surface(view, points, colors, 2.0)
    column, row = view.pixels(np.array([[3.05, 0.55]]))[0]
    assert picture[row, column].tolist() == [255, pale(0), pale(0)]
    column, row = view.pixels(np.array([[1.0, 1.0]]))[0]
    assert picture[row, column].tolist() == [pale(100)] * 3
    column, row = view.pixels(np.array([[1.0, 1.0]]))[0]
    assert surface(view, points, colors, np.inf)[row, column].tolist() == [pale(0), pale(0), 255]


def test_each_phrase_has_a_colour_at_its_places_and_a_line_in_the_legend():
    asked = [answer_of('mug', [hit_at(1.0, 1.0), hit_at(3.0, 1.5)]),
             answer_of('teapot', [hit_at(2.0, 0.5)]), answer_of('tram')]
    picture, view = from_above(asked), PlanView.of(FLOOR)
    for number, places in enumerate(([(1.0, 1.0), (3.0, 1.5)], [(2.0, 0.5)])):
        for x, y in places:
            column, row = view.pixels(np.array([[x - 0.1, y]]))[0]     # the left edge of the box
            near = picture[row, column - 2:column + 3].astype(int)
            assert (np.abs(near - color_of(number)).sum(1) < 12).any()
    below = picture[view.height:]
    for number in range(3):
        assert (below == color_of(number)).all(-1).sum() > 100
    assert [said(answer) for answer in asked] == ['2 found', 'found', 'absent']
    assert said(answer_of('cat', presence=Presence.NOT_OBSERVED)) == 'not observed'


def test_phrases_that_were_asked_together_have_a_colour_each():
    parts = (PhraseAnswer('mug', Presence.PRESENT, (hit_at(1.0, 1.0),)),
             PhraseAnswer('tram', Presence.ABSENT))
    together = answer_of('mug; tram', parts[0].hits, phrases=parts)
    apart = [answer_of('mug', parts[0].hits), answer_of('tram')]
    assert np.array_equal(from_above([together]), from_above(apart))


def test_names_do_not_cover_each_other():
    picture = np.full((200, 600, 3), 255, np.uint8)
    corners = np.array([[290, 90], [310, 110]] * 4)
    taken = []
    for name in ('tea', 'mug', 'pot'):
        draw_name(picture, corners, name, (0, 0, 0), taken)
    assert not any(overlap(a, b) for k, a in enumerate(taken) for b in taken[:k])
    draw_name(picture, np.array([[599, 100]] * 8), 'at the edge', (0, 0, 0), taken)
    assert taken[-1][2] < 600


def test_a_map_without_points_has_a_legend_alone():
    assert from_above([answer_of('mug', points=np.zeros((0, 3)))]).shape[0] < 60
