# SPDX-License-Identifier: Apache-2.0
"""From the relevancy of points to places, on relevancies that are written out.

A table of 3,721 points, 1 cm apart, is segment 0; cubes of 216 points, 2 cm apart, stand on it.
"""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import WordEncoder, plain_index

from lerf_ros.config import QueryConfig
from lerf_ros.query.text_query import TextQuery

THRESHOLD = 0.68
STEPS = np.linspace(-0.5, 0.5, 6)
CUBE = np.stack(np.meshgrid(STEPS, STEPS, STEPS), -1).reshape(-1, 3) * 0.1 + [0, 0, 0.06]
SIDE = np.linspace(-0.3, 0.3, 61)
TABLE = np.stack(np.meshgrid(SIDE, SIDE, [0.0]), -1).reshape(-1, 3)


def table_with(*things, **settings):
    """A query of the table and of things (n, 3), which are the segments 1, 2, ..."""
    points = np.concatenate([TABLE, *things])
    segments = np.repeat(np.arange(len(things) + 1), [len(TABLE), *map(len, things)])
    index = plain_index(points, np.zeros((1, len(points), 2), np.float32), segments,
                        np.array([0.2], np.float32))
    return TextQuery(index, WordEncoder(), QueryConfig(**settings), 1.0)


def cube(x=0.0, y=0.0):
    return CUBE + [x, y, 0.0]


def on_table(query, low, high, x=0.0, y=0.0):
    """Indices of the table's points from `low` to `high` around (x, y), metres, nearest first."""
    away = np.linalg.norm(query.index.points[:len(TABLE), :2] - [x, y], axis=1)
    order = np.argsort(away, kind='stable')
    return order[(away[order] >= low) & (away[order] <= high)]


def of(query, segment):
    return np.flatnonzero(query.index.segments == segment)


def ask(query, *relevancies, rest=0.2):
    """Places of points (indices) with a relevancy each; all other points have `rest`."""
    values = np.full(len(query.index.points), rest, np.float32)
    for points, relevancy in relevancies:
        values[points] = relevancy
    return query.places(values, np.zeros(len(values), int), THRESHOLD, 5)


def segments_of(query, places):
    return [sorted(set(query.index.segments[place.members].tolist())) for place in places]


@pytest.mark.parametrize('patch', [15, 60])
def test_a_thing_is_found_although_relevancy_peaks_on_the_table_beside_it(patch):
    """41 points of the thing reach the threshold, the table's patch is more relevant."""
    query = table_with(cube())
    thing = of(query, 1)
    places = ask(query, (thing, 0.45), (thing[:41], 0.71),
                 (on_table(query, 0.07, 0.3)[:patch], 0.79))
    assert segments_of(query, places) == [[1]]
    assert places[0].hit.relevancy == pytest.approx(0.71)
    assert len(places[0].members) == 216


def test_a_few_points_far_from_everything_decide_nothing():
    query = table_with(cube())
    thing = of(query, 1)
    places = ask(query, (thing, 0.45), (thing[:41], 0.71), (on_table(query, 0, 0.02, 0.25), 0.95))
    assert segments_of(query, places) == [[1]]


def test_a_sliver_of_a_thing_is_the_thing():
    """21 of 216 points, less than a tenth, are relevant enough by themselves."""
    query = table_with(cube())
    thing = of(query, 1)
    (place,) = ask(query, (thing, 0.75), (thing[:21], 0.95))
    assert len(place.members) == 216 and place.hit.size == pytest.approx([0.1, 0.1, 0.11])


def test_a_sliver_of_a_second_thing_is_that_thing_if_most_of_it_fits():
    query = table_with(cube(), cube(0.2))
    second = of(query, 2)
    places = ask(query, (of(query, 1), 0.95), (second, 0.6), (second[:21], 0.9))
    assert segments_of(query, places) == [[1], [2]] and len(places[1].members) == 216


def test_spill_on_another_thing_is_no_place():
    query = table_with(cube(), cube(0.2))
    second = of(query, 2)
    places = ask(query, (of(query, 1), 0.95), (second, 0.3), (second[:21], 0.88))
    assert segments_of(query, places) == [[1]]


def test_a_thing_has_no_second_place_on_the_table_around_it():
    """The spill reaches 7 cm from the foot, farther than cluster_radius."""
    query = table_with(cube())
    places = ask(query, (of(query, 1), 0.95), (on_table(query, 0.0, 0.12), 0.9))
    assert segments_of(query, places) == [[1]]


def test_what_lies_flat_on_the_table_and_beside_no_thing_is_a_place():
    query = table_with(cube())
    places = ask(query, (on_table(query, 0, 0.05, 0.2, 0.2), 0.9), (of(query, 1), 0.4))
    assert segments_of(query, places) == [[0]]
    assert places[0].hit.position[:2] == pytest.approx([0.2, 0.2], abs=6e-3)


def test_what_is_not_half_as_relevant_does_not_explain_what_lies_flat_beside_it():
    """A book in the table's segment, beside a cube that took a little of its relevancy."""
    query = table_with(cube())
    thing = of(query, 1)
    places = ask(query, (thing, 0.3), (thing[:41], 0.69), (on_table(query, 0, 0.05, 0.11), 0.95))
    assert segments_of(query, places) == [[0]]


def test_two_flat_things_are_two():
    query = table_with()
    places = ask(query, *((on_table(query, 0, 0.05, x), 0.9) for x in (-0.2, 0.2)))
    assert len(places) == 2


def test_a_table_is_one_place_and_not_its_patches():
    """Four patches are most relevant, a tenth of the table; all of it fits half as well."""
    query = table_with(cube())
    corners = [on_table(query, 0, 0.06, x, y) for x in (-0.2, 0.2) for y in (-0.2, 0.2)]
    places = ask(query, (of(query, 0), 0.74), *((corner, 0.9) for corner in corners),
                 (of(query, 1), 0.3))
    assert segments_of(query, places) == [[0]]
    assert places[0].hit.size[:2] == pytest.approx([0.6, 0.6], abs=0.01)


def test_patches_with_a_dip_between_them_are_one_place():
    query = table_with()
    bridge = np.flatnonzero((np.abs(query.index.points[:, 0]) < 0.2)
                            & (np.abs(query.index.points[:, 1]) < 0.02))
    places = ask(query, (bridge, 0.72), *((on_table(query, 0, 0.05, x), 0.9) for x in (-0.2, 0.2)))
    assert len(places) == 1 and places[0].hit.size[0] == pytest.approx(0.5, abs=0.01)


# Fragments of one thing --------------------------------------------------------------------------

def surface(along, up, normal, step=0.01):
    """Points of a rectangle 10 cm wide along y, and a normal for each."""
    a, b = np.meshgrid(np.arange(0.0, 0.101, step), np.arange(-0.05, 0.051, step))
    points = a.reshape(-1, 1) * np.add(along, up) + b.reshape(-1, 1) * [0.0, 1.0, 0.0]
    return points + [0, 0, 0.1], np.tile(np.asarray(normal, float), (len(points), 1))


TOP = surface((1, 0, 0), (0, 0, 0), (0, 0, 1))
BESIDE = surface((-1, 0, 0), (0, 0, 0), (0, 0, 1))          # goes on evenly
BELOW = surface((0, 0, 0), (0, 0, -0.9), (-1, 0, 0))        # over an edge
ABOVE = surface((0, 0, 0), (0, 0, 1), (1, 0, 0))            # a wall that stands on the first


@pytest.mark.parametrize(('other', 'places'), [(BESIDE, 1), (BELOW, 1), (ABOVE, 2)])
def test_fragments_of_one_surface_are_one_place_and_things_that_meet_are_two(other, places):
    points = other[0] + 0.01 * np.sign(other[0].mean(0) - TOP[0].mean(0)) * [1, 0, 0]
    query = table_with(TOP[0], points)
    normals = np.concatenate([np.tile([0.0, 0, 1], (len(TABLE), 1)), TOP[1], other[1]])
    query = TextQuery(replace(query.index, normals=normals.astype(np.float16)), WordEncoder(),
                      QueryConfig(), 1.0)
    assert len(ask(query, (of(query, 1), 0.95), (of(query, 2), 0.93))) == places


def test_things_that_stand_apart_are_not_joined():
    query = table_with(cube(), cube(0.14))
    assert len(ask(query, (of(query, 1), 0.95), (of(query, 2), 0.95))) == 2
