# SPDX-License-Identifier: Apache-2.0
"""Where a thing is if it is there: its noun and its colours count together."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from query.phrases.colored_map import NOUNS, THINGS, VIEWER, LastWord, colored_index

from lerf_ros.config import QueryConfig
from lerf_ros.geometry.region import Region
from lerf_ros.index.language_index import as_stored, as_tensor
from lerf_ros.lerf import find
from lerf_ros.query.phrases.likeliest import likeliest_answer
from lerf_ros.query.question import encode_phrases
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextQuery

RED, BLUE = 0, 1
TWINS = THINGS[:2]
PLANES = 2              # the segments before those of THINGS
CONFIG = QueryConfig(threshold=0.75)


def margin(odds: float) -> np.ndarray:
    """An embedding that beats the negatives as a mug by so much that its log-odds are these."""
    other = odds / CONFIG.temperature
    row = np.zeros(len(NOUNS))
    row[NOUNS.index('mug')] = other + 0.5
    row[NOUNS.index('object')] = 0.5
    return row


def mugs(red: float, blue: float) -> TextQuery:
    """A red and a blue thing, of which 'mug' is true with these log-odds."""
    index = colored_index(TWINS)
    codes = as_tensor(index.codes).float().numpy().copy()
    for thing, odds in ((RED, red), (BLUE, blue)):
        codes[:, index.segments == PLANES + thing] = margin(odds)
    return TextQuery(replace(index, codes=as_stored(torch.from_numpy(codes))), LastWord(), CONFIG,
                     1.0)


def question(text):
    return encode_phrases(QueryRequest(text), LastWord(), CONFIG.negatives)


def place_of(query, text):
    place = likeliest_answer(query, question(text))
    return int(np.bincount(query.index.segments[place.members]).argmax()) - PLANES, place.hit


def test_a_thing_of_the_right_colour_wins_unless_its_noun_fits_far_worse():
    # ln(14/15 / 0.18) - ln(1/15 / 0.82) = 4.16 in log-odds lie between the two colours.
    thing, hit = place_of(mugs(red=4.1, blue=0.2), 'blue mug')
    assert thing == BLUE
    assert hit.relevancy == pytest.approx(1 / (1 + math.exp(-0.2)), abs=0.01)   # the noun's alone
    assert place_of(mugs(red=4.6, blue=0.2), 'blue mug')[0] == RED
    assert place_of(mugs(red=3.0, blue=0.2), 'mug')[0] == RED


def found(query, text):
    return find(query, question(text), None, CONFIG.threshold, 5).phrases[0]


def test_what_has_the_colour_and_may_be_it_is_told_below_the_threshold():
    result = found(mugs(red=3.0, blue=0.2), 'blue mug')
    assert (result.places, result.fit) == ((), 1.0)
    assert result.candidate.relevancy == pytest.approx(1 / (1 + math.exp(-0.2)), abs=0.01)
    assert result.reason == ("'mug' was found in 1 place, but none is blue: it is red; "
                             'the blue thing that is likeliest one has relevancy 0.55, '
                             'threshold 0.75')


def test_what_does_not_fit_the_noun_at_all_is_not_told():
    result = found(mugs(red=3.0, blue=-0.2), 'blue mug')
    assert result.candidate.relevancy == pytest.approx(1 / (1 + math.exp(-3)), abs=0.01)
    assert result.reason == "'mug' was found in 1 place, but none is blue: it is red"
    assert result.fit < 0.5


def test_a_region_holds_for_it_as_well():
    query = mugs(red=3.0, blue=0.2)
    around_the_red_one = np.eye(4)
    around_the_red_one[:3, 3] = -0.4, 0.0, 0.55
    result = find(query, question('blue mug'), Region(around_the_red_one, np.full(3, 0.3)),
                  CONFIG.threshold, 5).phrases[0]
    assert result.reason == "'mug' was found in 1 place, but none is blue: it is red"


def test_an_anchor_is_the_likeliest_thing_of_its_colour():
    query = mugs(red=3.0, blue=0.6)     # 0.65, below the threshold
    red = find(query, question('red mug left of the blue mug'), None, CONFIG.threshold, 5,
               viewer=VIEWER).phrases[0]
    assert [query.index.segments[place.members[0]] - PLANES for place in red.places] == [RED]


def test_an_anchor_of_another_colour_is_no_anchor():
    """A relation to a green mug says nothing of a red one: it must not be judged by that."""
    query = mugs(red=3.0, blue=2.0)
    result = find(query, question('red mug left of the green mug'), None, CONFIG.threshold, 5,
                  viewer=VIEWER).phrases[0]
    assert not result.places and np.isnan(result.fit)
    assert "'green mug' was not found" in result.reason
