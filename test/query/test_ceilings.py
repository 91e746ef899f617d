# SPDX-License-Identifier: Apache-2.0
"""The first pass leaves nothing out that a full search finds, and answers stay the same."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import CONFIG, WORDS, WordEncoder, axis, cube_index, plain_index, write_map
from hypothesis import given, settings
from hypothesis import strategies as st

from lerf_ros.geometry.region import Region
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.index.coverage import Coverage
from lerf_ros.index.groups import GROUP
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.looks import SecondLooks
from lerf_ros.query.answer import Presence
from lerf_ros.query.ceilings import Ceilings, group_margins, highest_peak
from lerf_ros.query.question import Question, encode_phrases
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.search import Limits, search
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
    values, ceilings = query.fit_row(rows[0], rows[1:]).values, Ceilings(query, question)
    reached = ceilings.reached(floor)[0]
    assert values.max() <= ceilings.most[0]
    assert values.max() < floor if reached == 0 else values.max() <= reached <= ceilings.most[0]
    assert bool(reached) == bool(ceilings.reached(floor, False)[0])
    # Nor is it so careful that it leaves nothing out: what it says is nearly reached.
    assert reached == 0 or values.max() > reached - 0.1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 400), st.sampled_from([0.05, 0.6]),
       st.floats(0.05, 1.0))
def test_a_part_of_an_index_is_no_more_relevant_than_the_ceiling_of_all(seed, points, noise, share):
    """Second looks lift what a region has of a thing the more, the less relevant that part is."""
    rng, query = random_query(seed, 3, points, noise, True)
    rows = unit(rng.normal(size=(5, RANK)))
    ceilings = Ceilings(query, Question(('a',), rows[:1], rows[1:]), region=True)
    inside = rng.random(points) < share
    part = search(query, ['a'], rows[:1], rows[1:], inside, Limits(0.05, 9)).phrases[0]
    field = query.scorer.each_phrase(rows[:1], rows[1:])[0][0]
    values = query.with_looks(np.where(inside, field, 0.0),
                              query.looks.of(rows[:1], rows[1:]).segments[0])
    assert values.max() <= min(ceilings.most[0], max(ceilings.reached(0.01)[0], 0.01))
    assert all(hit.relevancy <= ceilings.most[0] for hit in part.hits)


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
        own = groups.members[groups.places_of(np.array([k]))]
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


class NoCeilings:
    """Says of everything that it may be anywhere."""

    def __init__(self, query, question, region):
        self.most = np.ones(len(question.names))

    def reached(self, floor, closely=True):
        return self.most


def everything(query, monkeypatch, of):
    """The answer to a request when each submap that it touches is searched as a whole."""
    with monkeypatch.context() as patch:
        patch.setattr('lerf_ros.submap_query.Ceilings', NoCeilings)
        return query.ask(of)


def say(answer):
    """All that an answer says but for points of submaps that were not asked."""
    return [(p.text, p.presence, p.best, p.probability, p.not_found_reason, p.looks_more_like,
             p.understood, [(h.position.tolist(), h.size.tolist(), h.relevancy, h.points,
                             h.probability, h.last_keyframe) for h in p.hits])
            for p in answer.phrases], answer.presence, answer.observed, answer.learning


@pytest.mark.parametrize('word', [*PLACES, 'floor'])
def test_only_submaps_that_can_have_a_place_are_searched_and_the_answer_is_the_same(
        building, word, monkeypatch):
    query, searched = asked(building)
    short = query.ask(request(word))
    assert sorted(searched) == ([list(PLACES).index(word)] if word in PLACES else [0, 1, 2])
    full = everything(query, monkeypatch, request(word))
    assert len(searched) == (4 if word in PLACES else 6)
    assert str(say(short)) == str(say(full)) and short.presence == Presence.PRESENT


def test_points_are_looked_at_only_where_their_groups_leave_room(building, monkeypatch):
    query, looked, reached = asked(building)[0], [], Ceilings.reached

    def counted(self, floor, closely=True):
        looked.append(floor)
        return reached(self, floor, closely)

    monkeypatch.setattr(Ceilings, 'reached', counted)
    least = query._submaps[0].query.text_query.config.threshold
    query.ask(request('mug'))
    assert looked == [pytest.approx(least)]
    query.ask(request('floor'))                 # which is in all of them
    assert len(looked) == 4


def test_what_is_nowhere_costs_one_submap(building):
    query, searched = asked(building)
    answer = query.ask(request('object', negatives=('mug', 'plate', 'ball', 'floor')))
    assert searched == [0] and not answer.hits
    assert answer.not_found_reason and len(answer.points_world) == len(answer.relevancy)


def test_a_region_asks_no_submap_outside_of_it(building):
    """Not even the first pass looks into the others."""
    query, searched = asked(building)
    T = np.eye(4)
    T[:3, 3] = 3.6, 0.0, 0.0
    answer = query.ask(request('ball', region=Region(T, np.full(3, 0.5))))
    assert len(answer.hits) == 1 and searched == [2]
    assert 'scorer' not in query._submaps[0].query.text_query.__dict__
    T[:3, 3] = 50.0, 0.0, 0.0
    searched.clear()
    away = query.ask(request('ball', region=Region(T, np.full(3, 0.5))))
    assert searched == [0] and away.presence != Presence.PRESENT


def test_a_phrase_with_a_relation_looks_for_its_noun(building):
    query, searched = asked(building)
    question = encode_phrases(request('mug on floor'), WordEncoder(), CONFIG.query.negatives)
    found = [Ceilings(submap.query.text_query, question).reached(0.68)[0] > 0
             for submap in query._submaps]
    assert found == [True, False, False]
    assert set(WORDS) >= {'mug', 'floor'} and axis('mug') @ axis('floor') == 0


NAMES = ['mug', 'plate', 'ball', 'floor', 'cup', 'pan']


class RandomEncoder:
    """Words in random directions, of which some are alike, so that much is nearly found."""

    name, dimension = 'words', RANK

    def identity(self):
        return {'name': self.name}

    def encode_texts(self, texts):
        rows = np.random.default_rng(3).normal(size=(30, RANK))
        rows = {word: row for word, row in zip(NAMES, rows, strict=False)}
        return unit(np.stack([rows[text] if text in rows else np.random.default_rng(
            sum(map(ord, text))).normal(size=RANK) for text in texts]))


def hall(folder, seed):
    """Nine overlapping cubes; a thing in an overlap is in all of them, if they learned it alike."""
    rng, encoder = np.random.default_rng(seed), RandomEncoder()
    made, folder = SubmapSet.begin(SubmapLattice((0.0, 0.0, 0.0), 1.0, 0.3)), SubmapFolder(
        folder, True)
    things = rng.uniform([-1, -1, 0.1], [3.8, 3.8, 0.1], (25, 3))
    kinds, steps = rng.integers(0, 3, 25), np.linspace(-0.06, 0.06, 4)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    meanings = encoder.encode_texts(NAMES)
    for number in range(9):
        cell = (number % 3, number // 3, 0)
        middle = np.array(made.lattice.scene(cell).center)
        seen = np.flatnonzero(np.abs(things - middle).max(1) < 1.15)
        floor = np.append(rng.uniform(-1, 1, (400, 2)), np.zeros((400, 1)), 1) + middle * [1, 1, 0]
        points = np.concatenate([*(things[k] + cube for k in seen), floor])
        segments = np.repeat(np.arange(len(seen) + 1), [*[len(cube)] * len(seen), len(floor)])
        means = np.append(meanings[kinds[seen]], meanings[3:4], 0)[segments]
        own = rng.normal(size=(len(seen) + 1, RANK))[segments]     # not learned alike
        codes = unit(means[None] + 0.25 * own + 0.1 * rng.normal(size=(3, len(points), RANK)))
        index = plain_index(points, codes, (segments + 1) % (len(seen) + 1),
                            np.geomspace(0.05, 0.4, 3).astype(np.float32))
        index = replace(index, keyframes=rng.integers(2, 5, len(points)))
        write_map(folder.path_of(number), index, coverage=Coverage(
            *(np.full((4, 4, 4), 9, np.uint16) for _ in range(3)), np.array([*middle, 1.0]),
            np.array([2, rng.integers(2, 5)], np.int32)).arrays())
        made = made.with_cell(cell)
    folder.write(made)
    return folder.path


@pytest.mark.parametrize('seed', range(3))
def test_answers_are_those_of_a_search_of_everything(seed, tmp_path, monkeypatch):
    """Found and absent phrases, several at once, few hits, regions, relations, thresholds."""
    query = SubmapQuery(hall(tmp_path, seed), {'query.most_rival_words': 0}, 'cpu', RandomEncoder())
    query.refresh()
    T = np.eye(4)
    T[:3, 3] = 1.4, 1.4, 0.1
    region = Region(T, np.array([1.5, 2.5, 1.0]))
    requests = [
        request('mug'), request('cup'), request('mug', max_hits=1), request('ball', max_hits=2),
        request('', texts=('mug', 'cup', 'saucer'), max_hits=3, threshold=0.9),
        request('plate', region=region), request('wok', region=region, threshold=0.99),
        request('mug nearest to ball'), request('ball', threshold=0.3),
        *(request(name, threshold=0.99) for name in ('wok', 'lamp', 'cup', 'pan', 'sofa'))]
    found = [query.ask(of) for of in requests]
    full = [everything(query, monkeypatch, of) for of in requests]
    assert [str(say(a)) for a in found] == [str(say(a)) for a in full]
    presences = {a.presence for a in full}
    assert Presence.PRESENT in presences and len(presences) > 1


@pytest.mark.parametrize('seed', range(3))
def test_the_best_places_of_many_are_those_of_a_search_of_everything(seed, tmp_path, monkeypatch):
    """Where fewer are wanted than there are, submaps are left out, and none that matters."""
    query = SubmapQuery(hall(tmp_path, seed + 10), {'query.most_rival_words': 0}, 'cpu',
                        RandomEncoder())
    query.refresh()
    requests = [request(name, max_hits=most, threshold=threshold)
                for name in ('mug', 'plate', 'ball') for most in (1, 3)
                for threshold in (0.4, 0.7)]
    found = [query.ask(of) for of in requests]
    assert [str(say(a)) for a in found] == [
        str(say(everything(query, monkeypatch, of))) for of in requests]
    assert any(len(answer.hits) > 1 for answer in found)


def test_what_looks_say_of_segments_is_known_without_each_look():
    rng, query = random_query(0, 2, 300, 0.1, True)
    rows = unit(rng.normal(size=(5, RANK)))
    told = query.looks.of(rows[:2], rows[2:])
    np.testing.assert_array_equal(query.looks.of_segments(rows[:2], rows[2:]), told.segments)


def test_groups_are_stored_with_an_index_and_made_for_maps_without():
    index = random_query(0, 3, 400, 0.1, False)[1].index
    stored = index.arrays()
    again = LanguageIndex.from_arrays(stored)
    assert again.groups.middles is stored['group_middles']      # nothing is computed
    made = LanguageIndex.from_arrays({name: array for name, array in stored.items()
                                      if not name.startswith('group_')}).groups
    for name, array in again.groups.arrays().items():
        np.testing.assert_array_equal(array, made.arrays()[name])
    assert len(replace(again, points=again.points[:9], codes=again.codes[:, :9], segments=(
        again.segments[:9])).groups.members) == 9       # those of another index are not kept
