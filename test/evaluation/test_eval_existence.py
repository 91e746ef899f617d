# SPDX-License-Identifier: Apache-2.0
"""Precision and recall of existence, absent words, and intervals around scores."""

import itertools

import numpy as np
import pytest
from hand_made_map import COLORS, CONFIG, CUBES, WordEncoder, axis, cube_index

from lerf_ros.evaluation.command import COCO_NAMES, EVERYDAY_NAMES, LONG_TAIL_NAMES
from lerf_ros.evaluation.intervals import mean_interval, paired_difference, statistic_interval
from lerf_ros.evaluation.scenes import TruthObject
from lerf_ros.evaluation.scoring import EvaluatedIndex, absent_words, score_objects
from lerf_ros.evaluation.tables import ranking_precision


def average_precision(scores, present):
    return ranking_precision(scores, present)(np.arange(len(scores)))


def test_the_precision_of_five_phrases():
    scores = np.array([0.9, 0.8, 0.8, 0.6, 0.3])
    present = np.array([True, False, True, True, False])
    # From .9: 1 of 1 right, 1 of 3 found; .8 (two at once): 2 of 3; .6: 3 of 4; .3: 3 of 5.
    assert average_precision(scores, present) == pytest.approx(
        1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 4)


def test_equal_scores_have_the_precision_of_chance():
    assert average_precision(np.full(8, 0.5), np.arange(8) < 3) == pytest.approx(3 / 8)


def test_only_the_order_of_scores_matters():
    random = np.random.default_rng(0)
    scores, present = random.random(50), random.random(50) > 0.5
    assert average_precision(scores, present) == pytest.approx(
        average_precision(scores ** 3, present))
    assert average_precision(present + scores / 10, present) == 1


def test_without_present_phrases_there_is_no_precision():
    assert np.isnan(average_precision(np.array([0.5]), np.array([False])))


def encode(texts):
    """Cosines to 'mug' that are known: jug 0.8, bowl 0.6, others 0; lengths do not matter."""
    known = {'mug': (1, 0), 'jug': (4, 3), 'bowl': (6, 8)}
    return np.array([(*known[t], 0) if t in known else (0, 0, 2) for t in texts], float)


def test_absent_words_are_near_above_the_cosine():
    words = absent_words(['mug'], ['jug', 'zebra', 'bowl', 'jug'], encode, near=0.6 + 1e-9)
    assert words.far == ('zebra', 'bowl') and words.near == ('jug',)
    far, near = absent_words(['mug'], ['jug', 'zebra', 'bowl'], encode, near=0.59)
    assert far == ('zebra',) and near == ('jug', 'bowl')


@pytest.mark.parametrize(('present', 'candidate', 'kept'), [
    ('mug', 'mug', False), ('mug', 'Coffee Mug', False), ('coffee mug', 'mug', False),
    ('book', 'books', False), ('a teddy bear', 'teddy-bear', False),
    ('cup', 'cupboard', True), ('hot dog', 'dog house', True),
    ('coffee mug', 'cup', False), ('basketball', 'sports ball', False), ('drum', 'cup', True)])
def test_words_that_may_be_there_are_dropped(present, candidate, kept):
    words = absent_words([present], [candidate], lambda texts: np.ones((len(texts), 2)))
    assert (candidate in words.far + words.near) is kept


class Mugs(WordEncoder):
    """To whom a red and a green thing, the hand-made mug and plate, are mugs of the same kind."""

    def encode_texts(self, texts):
        mug = (axis('mug') + axis('plate')) / np.sqrt(2)
        return np.stack([mug if text.endswith('mug') else axis(text) for text in texts])

    def unreadable(self, text):
        return 'it is no word of mine' if text == 'ball' else ''


def test_phrases_are_asked_as_a_user_asks_them():
    index = cube_index(CUBES)
    for segment, name in enumerate(CUBES, 1):
        index.colors[index.segments == segment] = COLORS[name]
    boxes = {name: (np.array(middle) - edge / 2, np.array(middle) + edge / 2)
             for name, (middle, edge) in CUBES.items()}
    things = [TruthObject(query, query, 'mug', *boxes[name], np.nan) for query, name in (
        ('red mug', 'mug'), ('green mug', 'plate'), ('blue mug', 'ball'), ('ball', 'ball'))]
    # Segment 0 is the floor, then come the cubes in the order of the things.
    rows = score_objects(EvaluatedIndex('hand', 'mugs', 'lerf', index, index.segments - 1, Mugs(),
                                        1.0, CONFIG.query), things)
    # Colours tell the mugs apart; there is no blue one, and nothing is said of what is not read.
    assert [row.hit for row in rows[:3]] == [True, True, False]
    assert [row.iou_3d for row in rows[:2]] == [pytest.approx(1, abs=0.1)] * 2
    sure, _, blue, unread = (row.relevancy for row in rows)
    assert sure > 0.9 and blue < 0.1 and unread == 0


def test_nothing_present_leaves_all_far():
    assert absent_words([], ['cup', 'zebra'], encode) == (('cup', 'zebra'), ())


def test_the_vocabulary_has_no_word_twice():
    assert len(COCO_NAMES) == 80 and len(LONG_TAIL_NAMES) >= 70 and len(EVERYDAY_NAMES) >= 150
    assert len(set(EVERYDAY_NAMES)) == len(EVERYDAY_NAMES)
    assert all(name == name.strip().lower() for name in EVERYDAY_NAMES)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(3).normal(5, 2, 400)
    interval = mean_interval(values)
    error = 1.96 * values.std() / 20
    assert interval.mean == values.mean()
    assert interval.low == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.15 * error)
    assert mean_interval(values) == interval != mean_interval(values, seed=1)
    narrow = mean_interval(values, level=0.5)
    assert interval.low < narrow.low < narrow.high < interval.high


def test_equal_values_leave_no_doubt():
    interval = mean_interval(np.ones(10))
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)


def test_groups_are_drawn_whole():
    # Two scenes of ten equal objects: the mean of a resample is 0, 1/2 or 1.
    values = np.repeat([0.0, 1.0], 10)
    interval = mean_interval(values, groups=['kitchen'] * 10 + ['desk'] * 10)
    assert (interval.low, interval.mean, interval.high) == (0, 0.5, 1)
    assert mean_interval(values).high < 0.8    # objects alone look much surer
    with pytest.raises(ValueError, match='2 groups for 20 objects'):
        mean_interval(values, groups=['kitchen', 'desk'])


def test_pairs_cancel_what_objects_have_in_common():
    hard = np.random.default_rng(4).random(60)
    better = paired_difference(hard + 0.1, hard)
    assert better.difference == pytest.approx(0.1) and better.low == pytest.approx(0.1)
    assert better.p_not_below == 1
    worse = paired_difference(hard, hard + 0.1)
    assert worse.difference == pytest.approx(-0.1) and worse.p_not_below == 0
    equal = paired_difference(hard, hard)
    assert (equal.difference, equal.low, equal.high, equal.p_not_below) == (0, 0, 0, 1)


def test_the_share_of_resamples_that_are_not_below():
    a, b = np.array([1, 0, 1, 0]), np.array([0, 1, 1, 0])    # a win, a loss, two ties
    every = [sum(draw) for draw in itertools.product(a - b, repeat=4)]
    share = np.mean([total >= 0 for total in every])
    assert paired_difference(a, b).p_not_below == pytest.approx(share, abs=0.04)


def test_a_statistic_of_resampled_phrases():
    scores, present = np.array([0.9, 0.8, 0.4, 0.3]), np.array([True, True, False, False])
    interval = statistic_interval(lambda i: average_precision(scores[i], present[i]), 4,
                                  samples=200)
    # Perfectly ordered phrases stay so; resamples without a present one do not count.
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)
    with pytest.raises(ValueError, match='nothing to draw'):
        mean_interval(np.empty(0))
