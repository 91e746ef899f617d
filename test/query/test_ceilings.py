# SPDX-License-Identifier: Apache-2.0
"""The first pass over submaps leaves nothing out that a full search finds."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import CONFIG, WORDS, WordEncoder, axis, cube_index, plain_index, write_map
from hypothesis import given, settings
from hypothesis import strategies as st

from lerf_ros.geometry.region import Region
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.index.groups import GROUP
from lerf_ros.index.looks import SecondLooks
from lerf_ros.query.answer import Presence
from lerf_ros.query.ceilings import group_margins, highest_peak, may_reach
from lerf_ros.query.question import Question, encode_phrases
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextQuery
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet
from lerf_ros.submap_query import SubmapQuery

RANK, LOOKS = 6, 3


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_query(seed, scales, points, noise, looks):
    """Things of 40 points or so on a floor, whose meanings differ by `noise` within each."""
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.integers(-1, max(points // 40, 1), points))
    means = unit(rng.normal(size=(scales, segments.max(initial=0) + 2, RANK)))
    codes = unit(means[:, segments] + noise * rng.normal(size=(scales, points, RANK)))
    index = plain_index(rng.random((points, 3)), codes, segments,
                        np.geomspace(0.05, 0.4, scales).astype(np.float32))
    if looks:
        things = np.repeat(np.unique(segments[segments >= 1]), LOOKS)
        index = replace(index, looks=SecondLooks(
            things.astype(np.int32), np.zeros(len(things), np.int32),
            np.zeros((len(things), 4), np.float32),
            unit(rng.normal(size=(len(things), RANK))).astype(np.float16)))
    config = replace(CONFIG.query, look_weight=0.6 * looks, threshold=0.68)
    return rng, TextQuery(index, None, config, 1.0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 5]), st.integers(1, 400),
       st.sampled_from([0.0, 0.05, 0.2, 0.6]), st.booleans(), st.floats(0.4, 0.95))
def test_no_point_reaches_what_the_first_pass_says_that_none_can(seed, scales, points, noise,
                                                                 looks, floor):
    rng, query = random_query(seed, scales, points, noise, looks)
    rows = unit(rng.normal(size=(5, RANK)))
    question = Question(('a',), rows[:1], rows[1:])
    values = query.fit_row(rows[0], rows[1:]).values
    assert may_reach(query, question, floor)[0] or values.max() < floor
    # Nor is it so careful that it leaves nothing out: away from the floor it is right.
    assert not may_reach(query, question, floor)[0] or values.max() > floor - 0.1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 5]), st.integers(1, 400),
       st.sampled_from([0.0, 0.05, 0.2, 0.6]))
def test_margins_of_a_group_hold_all_of_its_points(seed, scales, points, noise):
    rng, query = random_query(seed, scales, points, noise, False)
    rows = unit(rng.normal(size=(5, RANK)))
    groups, margins = query.index.groups, group_margins(query.index.groups, rows[0], rows[1:])
    assert sorted(groups.members.tolist()) == list(range(points))
    exact = query.scorer.margins_at(np.arange(points), rows[0], rows[1:])
    for k in range(len(groups.starts)):
        own = groups.points_of(np.array([k]))
        assert len(own) <= GROUP and len(set(query.index.segments[own].tolist())) == 1
        slack = 0.01                                                    # of bfloat16
        assert margins.low[k] - slack <= exact[own].min()
        assert exact[own].max() <= margins.high[k] + slack


def test_the_peak_between_scales_is_bounded_in_sight():
    """Through 0, 1, 1 the parabola is highest in the middle of the ones: 1 + 1/8."""
    exact = np.array([[0.0], [1.0], [1.0]])
    assert highest_peak(exact, exact)[0] == pytest.approx(1.125)
    assert highest_peak(exact - [[0.2], [0], [0]], exact)[0] == pytest.approx(1.15)


PLACES = {'mug': 0.0, 'plate': 1.8, 'ball': 3.6}


@pytest.fixture(scope='module')
def building(tmp_path_factory):
    """Three cubes, 1.8 m apart; each holds one thing on its floor."""
    folder = SubmapFolder(tmp_path_factory.mktemp('building'), True)
    made = SubmapSet.begin(SubmapLattice((0.0, 0.0, 0.0), 1.2, 0.25))
    for number, (word, x) in enumerate(PLACES.items()):
        index = cube_index({word: ((0.0, 0.0, 0.05), 0.1)})
        moved = replace(index, points=index.points + np.array([x, 0, 0], np.float32))
        write_map(folder.path_of(number), moved)
        made = made.with_cell((number, 0, 0))
    folder.write(made)
    return folder.path


def asked(folder):
    """A query of the building, and the numbers of submaps that were searched as a whole."""
    query, searched = SubmapQuery(folder, encoder=WordEncoder()), []
    query.refresh()
    for submap in query._submaps:
        def ask(request, submap=submap, old=submap.query.ask):
            searched.append(submap.number)
            return old(request)
        submap.query.ask = ask
    return query, searched


def request(word, **fields):
    return QueryRequest(word, plan_grasps=False, **fields)


@pytest.mark.parametrize('word', [*PLACES, 'floor'])
def test_only_submaps_that_can_have_a_place_are_searched_and_the_answer_is_the_same(
        building, word, monkeypatch):
    query, searched = asked(building)
    short = query.ask(request(word))
    assert searched == ([list(PLACES).index(word)] if word in PLACES else [0, 1, 2])
    monkeypatch.setattr('lerf_ros.submap_query.may_reach',
                        lambda query, question, floor: np.ones(1, bool))
    full = query.ask(request(word))
    assert len(searched) == (4 if word in PLACES else 6)
    assert [hit.position.tolist() for hit in short.hits] == [
        hit.position.tolist() for hit in full.hits]
    assert short.presence == full.presence == Presence.PRESENT
    assert [p.text for p in short.phrases] == [word]


def test_what_is_nowhere_costs_one_submap(building):
    query, searched = asked(building)
    answer = query.ask(request('object', negatives=('mug', 'plate', 'ball', 'floor')))
    assert searched == [0] and not answer.hits
    assert answer.not_found_reason and len(answer.points_world) == len(answer.relevancy)


def test_a_region_asks_no_submap_outside_of_it(building, monkeypatch):
    """Not even the first pass looks into the others."""
    query, searched = asked(building)
    looked = []

    def spied(of, question, floor):
        looked.append(of)
        return may_reach(of, question, floor)
    monkeypatch.setattr('lerf_ros.submap_query.may_reach', spied)
    T = np.eye(4)
    T[:3, 3] = 3.6, 0.0, 0.0
    answer = query.ask(request('ball', region=Region(T, np.full(3, 0.5))))
    assert len(answer.hits) == 1 and searched == [2]
    indexes = [submap.query.text_query for submap in query._submaps]
    assert indexes[0] not in looked and 'scorer' not in indexes[0].__dict__
    T[:3, 3] = 50.0, 0.0, 0.0
    searched.clear()
    away = query.ask(request('ball', region=Region(T, np.full(3, 0.5))))
    assert searched == [0] and away.presence != Presence.PRESENT


def test_a_phrase_with_a_relation_looks_for_its_noun(building):
    query, searched = asked(building)
    encoder = WordEncoder()
    question = encode_phrases(request('mug on floor'), encoder, CONFIG.query.negatives)
    found = [may_reach(submap.query.text_query, question, 0.68)[0] for submap in query._submaps]
    assert found == [True, False, False]
    assert set(WORDS) >= {'mug', 'floor'} and axis('mug') @ axis('floor') == 0
