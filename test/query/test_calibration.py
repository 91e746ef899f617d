# SPDX-License-Identifier: Apache-2.0
"""Probabilities: the regression recovers a known law, and queries use the fitting one only."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hand_made_map import CONFIG, WordEncoder, write_map

import lerf_ros.map_query
import lerf_ros.query.presence as calibration_module
from lerf_ros.commands.query import lines
from lerf_ros.evaluation.calibration import Samples, brier, fit_logistic, fit_presence
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Hit
from lerf_ros.query.places import Place
from lerf_ros.query.presence import (
    FEATURES,
    FOLDER,
    SETTINGS,
    Calibration,
    Logistic,
    features_of,
    find_calibration,
    read_calibrations,
    settings_of,
)
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.search import PhraseResult, SearchResult
from lerf_ros.settings import flat_fields
from lerf_ros.show.words import summary, there

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'bench'))

from reliability import plot_reliability, reliability

# P = sigmoid(2 x - 3 + 0 y + 0 z)
LAW = Logistic((0.0, 0, 0), (1.0, 1, 1), (2.0, 0, 0), -3.0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def hit(relevancy, points=50, keyframes=9):
    return Hit(np.zeros(3), np.eye(3), np.ones(3), relevancy, 0.1, points, keyframes)


def drawn(law=LAW, count=20000, seed=0):
    """Samples that follow a law exactly, both classes equally often by weight."""
    rng = np.random.default_rng(seed)
    features = rng.normal(1.5, 1.0, (count, 3))      # 2 * 1.5 - 3 = 0: half of them are right
    return of(features, rng.random(count) < law.probability(features))


def of(features, right):
    """Samples whose relevancies are not asked for."""
    return Samples(features, np.zeros(len(features)), right)


def off(fitted, samples):
    """By how much the fitted probabilities differ from the law's, on average."""
    f = samples.features
    return float(np.abs(fitted.probability(f) - LAW.probability(f)).mean())


def test_features_are_log_odds_and_logarithms():
    assert features_of(hit(sigmoid(1.2), 99, 9)) == pytest.approx(
        [1.2, math.log(100), math.log(10)])
    assert features_of(None).tolist() == [0, 0, 0]
    assert np.isfinite(features_of(hit(1.0))).all()


def test_words_that_fit_better_lower_the_log_odds():
    """Each doubling of one more than their number takes ln 2."""
    none, one, three = (features_of(replace(hit(0.9), rivals=count))[0] for count in (0, 1, 3))
    assert none - one == pytest.approx(np.log(2)) == one - three


def test_the_fit_recovers_the_law():
    fitted, samples = fit_logistic(drawn()), drawn(seed=1)
    assert off(fitted, samples) < 0.01
    r = reliability(fitted, samples)
    assert r.observed == pytest.approx(r.predicted, abs=0.04)
    assert r.counts.sum() == 20000


def test_the_prior_is_even_whatever_was_asked():
    samples = drawn()
    keep = samples.right | (np.arange(20000) % 10 == 0)     # a tenth of the wrong ones
    fewer = fit_logistic(samples.part(keep))
    assert off(fewer, samples) < 0.02


def test_presence_is_fitted_to_the_relevancy_alone():
    """In these samples what is there has more points, and that says nothing elsewhere."""
    samples = drawn()
    samples.features[:, 1] += 3 * samples.right
    fitted = fit_presence(samples)
    assert fitted.weights[1:] == (0, 0)
    assert abs(fit_logistic(samples).weights[1]) > abs(fitted.weights[0]) > 1
    elsewhere = drawn(seed=1)
    assert off(fitted, elsewhere) < 0.02


def test_words_that_are_near_in_meaning_have_half_of_the_absent_weight():
    """10 present at .9, 90 far words at .1, 10 near words at .9: those are as likely as not."""
    relevancy = np.array([0.9] * 10 + [0.1] * 90 + [0.9] * 10)
    features = np.zeros((110, 3))
    features[:, 0] = np.log(relevancy / (1 - relevancy))
    right, near = np.arange(110) < 10, np.arange(110) >= 100
    with_near = Samples(features, relevancy, right, near)
    assert [with_near.weights[kind].sum() for kind in (right, ~right & ~near, near)] == \
        pytest.approx([0.5, 0.25, 0.25])
    at_nine = features[:1]
    sure = fit_presence(replace(with_near, near=None).part(~near)).probability(at_nine)[0]
    careful = fit_presence(with_near).probability(at_nine)[0]
    assert sure > 0.9
    assert 0.6 < careful < 0.7         # 0.5 of 0.75, and a penalty on the weights


def test_brier_of_a_coin_is_a_quarter_and_of_a_prophet_nothing():
    samples = of(np.array([[-9.0, 0, 0], [9, 0, 0], [9, 0, 0]]), np.array([False, True, True]))
    coin = Logistic((0.0,) * 3, (1.0,) * 3, (0.0,) * 3, 0.0)
    prophet = Logistic((0.0,) * 3, (1.0,) * 3, (9.0, 0, 0), 0.0)
    assert brier(coin, samples) == pytest.approx(0.25)
    assert brier(prophet, samples) == pytest.approx(0, abs=1e-9)


def test_what_was_not_seen_may_hold_the_thing():
    c = Calibration(LAW, Logistic((0.0,) * 3, (1.0,) * 3, (1.0, 0, 0), 0.0))
    place = hit(sigmoid(2.0))
    p = sigmoid(2.0)
    assert c.of_presence(place) == pytest.approx(p) == c.of_presence(place, math.nan)
    assert c.of_presence(place, 0.0) == pytest.approx(0.5)     # nothing seen: the prior
    odds = 0.5 * p / (1 - p) + 0.5
    assert c.of_presence(place, 0.5) == pytest.approx(odds / (1 + odds))


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A calibration of the word encoder at the default settings, and where it lies."""
    folder = tmp_path / 'calibrations'
    folder.mkdir()
    law = {'mean': [0, 0, 0], 'scale': [1, 1, 1], 'weights': [0.5, 0, 0], 'intercept': -1}
    flat = {name: value for name, _, value in flat_fields(CONFIG)}
    flat['query.look_weight'] = 0.0     # this map has no second looks
    (folder / 'words.json').write_text(json.dumps(
        {'encoder': {'name': 'words'}, 'settings': settings_of(flat), 'hit': law,
         'presence': {**law, 'intercept': 0}}))
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
    monkeypatch.setattr(calibration_module, 'find_calibration',
                        lambda *arguments: find_calibration(*arguments, folder))
    query = MapQuery(write_map(tmp_path / 'map'))
    query.refresh()
    return query, folder, flat


def test_hits_and_answers_get_their_probability(stored):
    query, _, _ = stored
    answer = query.ask(QueryRequest('mug'))
    certain = min(sigmoid(10.0), 1 - calibration_module.EXTREME)
    odds = math.log(certain / (1 - certain))
    assert answer.hits[0].probability == pytest.approx(sigmoid(0.5 * odds - 1), abs=1e-4)
    assert answer.probability == pytest.approx(sigmoid(0.5 * odds), abs=1e-4)
    absent = query.ask(QueryRequest('things'))
    assert absent.probability == pytest.approx(0.5)     # features 0 of no place, intercept 0


def test_each_of_several_phrases_has_its_own_probability(stored):
    mug, things = stored[0].ask(QueryRequest(texts=('mug', 'things'))).phrases
    assert mug.probability == stored[0].ask(QueryRequest('mug')).probability
    assert things.probability == pytest.approx(0.5)


def test_what_is_there_and_what_is_it_are_told_apart(stored):
    """The one probability is of the sentence, the other of a row of the table."""
    answer = stored[0].ask(QueryRequest('mug'))
    assert f'in the map with probability {answer.probability:.2f}' in summary(answer)
    (first, row) = list(lines(answer))[:2]
    assert 'is it with probability' in row and 'is it' not in first


def places(*probabilities):
    """What a phrase found: places of these probabilities, the best first."""
    return tuple(Place(replace(hit(0.9 - 0.01 * k), probability=p), np.array([k]))
                 for k, p in enumerate(probabilities))


@pytest.mark.parametrize(('found', 'told'), [
    ((0.9, 0.5, 0.49, 0.7), (0.9, 0.5, 0.7)),   # likelier wrong than right: not told
    ((0.3, 0.2), (0.3,)),                       # but the best, whatever it is
    ((math.nan, math.nan), (math.nan, math.nan)), ((), ())])
def test_further_places_are_told_where_they_are_likely(found, told):
    result = SearchResult(np.zeros(4, np.float32), np.zeros(4, np.uint32),
                          (PhraseResult('mug', places(*found), None),)).worth_telling()
    assert [h.probability for h in result.hits] == pytest.approx(list(told), nan_ok=True)
    assert result.hit_numbers.max(initial=0) == len(told)


def test_a_threshold_of_ones_own_shows_unlikely_places_as_well(stored, monkeypatch):
    two = SearchResult(np.zeros(5, np.float32), np.zeros(5, np.uint32),
                       (PhraseResult('mug', places(0.9, 0.2), None),))
    monkeypatch.setattr(lerf_ros.map_query, 'find', lambda *_: two)
    ask = stored[0].ask
    assert len(ask(QueryRequest('mug', plan_grasps=False)).hits) == 1
    assert len(ask(QueryRequest('mug', plan_grasps=False, threshold=0.5)).hits) == 2


@pytest.mark.parametrize('request_', [QueryRequest('mug', negatives=('ball',)),
                                      QueryRequest('mug', rather_than=('ball',))])
def test_other_negatives_have_no_probability(stored, request_):
    answer = stored[0].ask(request_)
    assert answer.found and math.isnan(answer.probability)
    assert math.isnan(answer.hits[0].probability)


@pytest.mark.parametrize('name', SETTINGS)
def test_a_calibration_holds_for_its_own_settings_alone(stored, name):
    _, folder, flat = stored
    assert find_calibration({'name': 'words'}, flat, folder) is not None
    assert find_calibration({'name': 'words'}, {**flat, name: 'another'}, folder) is None


def test_a_calibration_from_before_second_looks_holds_for_the_field_alone(stored):
    _, folder, flat = stored
    file = folder / 'words.json'
    content = json.loads(file.read_text())
    del content['settings']['query.look_weight']
    file.write_text(json.dumps(content))
    read_calibrations.cache_clear()
    assert find_calibration({'name': 'words'}, flat, folder) is not None
    with_looks = {**flat, 'query.look_weight': 0.5}
    assert find_calibration({'name': 'words'}, with_looks, folder) is None


def test_another_encoder_has_no_calibration(stored):
    assert find_calibration({'name': 'others'}, stored[2], stored[1]) is None


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.json')), ids=lambda path: path.name)
def test_calibrations_that_come_along_can_be_read(path):
    content = next(c for c in read_calibrations(FOLDER) if c == json.loads(path.read_text()))
    assert set(content['settings']) == set(SETTINGS)
    assert set(content['reported']) == {'hit', 'presence', 'reached'}
    # The threshold that a fit chose tells apart what is there from what is not, on other layouts.
    reached = content['reported']['reached']
    assert 0.5 < content['threshold'] < 1
    assert reached['present'] > 0.8 > 0.3 > reached['near'] > reached['far']
    for name in ('hit', 'presence'):
        assert len(content[name]['weights']) == len(FEATURES)
        # Better than a coin on layouts that were not fitted.
        assert content['reported'][name]['brier'] < 0.25


def test_a_reliability_plot_is_drawn(tmp_path):
    pytest.importorskip('matplotlib')
    path = plot_reliability('conse', {'hit': (LAW, drawn(count=500))}, tmp_path)
    assert path.stat().st_size > 10000


def test_a_place_that_is_likelier_wrong_than_right_is_told_with_a_warning():
    assert there(0.47, found=True) == (
        ', in the map with probability 0.47 only, so look at it before you act')
    assert there(0.5, found=True) == ', in the map with probability 0.50'
    assert there(0.47) == ', in the map with probability 0.47'      # of what was not found
    assert there(float('nan'), found=True) == ''
