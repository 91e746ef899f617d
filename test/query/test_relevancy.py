# SPDX-License-Identifier: Apache-2.0
"""Relevancy, clusters and boxes of queries on indices made by hand."""

import math

import numpy as np
import pytest
import torch
from hand_made_map import plain_index

from lerf_ros.config import QueryConfig
from lerf_ros.errors import EmptyTextError, InvalidThresholdError
from lerf_ros.index.scales import STEPS
from lerf_ros.query.relevancy import peaks, relevancy
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextQuery


class Words:
    """A text encoder for three words on three axes."""

    axes = {'mug': 0, 'object': 1, 'things': 2}

    def encode_texts(self, texts):
        return np.eye(3, dtype=np.float32)[[self.axes[text] for text in texts]]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize('margins, best, where, nearest', [
    ([0.1375, 0.4375, 0.3375, -0.1625], 0.45, 1.25, 1),     # 0.45 - 0.2 (s - 1.25) ** 2
    ([0.01875, 0.36875, 0.51875, 0.46875], 0.525, 2.25, 2),     # 0.525 - 0.1 (s - 2.25) ** 2
    ([0.5, 0.4, 0.2, 0.0], 0.5, 0.0, 0),        # its peak is half a scale before the first
    ([0.1, 0.0, 0.1, 0.4], 0.4, 3.0, 3),        # bent upwards: no peak in between
])
def test_the_best_scale_is_the_peak_of_a_parabola(margins, best, where, nearest):
    value, scale, at = peaks(torch.tensor(margins)[:, None])
    assert value.item() == pytest.approx(best) and at.item() == nearest
    assert scale.item() == round(where * STEPS)


def test_two_stored_scales_have_no_peak_between_them():
    value, scale, at = peaks(torch.tensor([[0.1], [0.3]]))
    assert (value.item(), scale.item(), at.item()) == (pytest.approx(0.3), STEPS, 1)


def test_relevancy_is_the_least_pairwise_softmax():
    value = relevancy(torch.tensor(0.8), torch.tensor([0.5, 0.1]), 10.0)
    pairwise = [math.exp(8) / (math.exp(8) + math.exp(10 * n)) for n in (0.5, 0.1)]
    assert value.item() == pytest.approx(min(pairwise), abs=1e-6)


def test_relevancy_is_computed_for_each_point_and_scale():
    positive = torch.tensor([[0.6, 0.5]])                       # one point, two scales
    negatives = torch.tensor([[[0.5, 0.0], [0.1, 0.0]]])        # margins 0.1 and 0.4
    values = relevancy(positive, negatives, 10.0)
    assert values.tolist()[0] == pytest.approx([sigmoid(1.0), sigmoid(4.0)], abs=1e-6)


def index_of_two_mugs():
    """A 10 cm and a 6 cm cube of mug points, 1 m apart, on a floor of object points."""
    axis = np.linspace(-0.5, 0.5, 6)
    cube = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    floor = np.stack(np.meshgrid(np.linspace(-1, 2, 40), np.linspace(-1, 1, 40), [0.0]),
                     -1).reshape(-1, 3)
    points = np.concatenate([cube * 0.1 + [0, 0, 0.05], cube * 0.06 + [1, 0, 0.03], floor])
    codes = np.zeros((1, len(points), 3), np.float32)
    codes[0, :len(cube), 0] = 1.0                       # margin 1
    codes[0, len(cube):2 * len(cube), :2] = 0.875, 0.125  # margin 0.75
    codes[0, 2 * len(cube):, 1] = 1.0                   # margin -1
    segments = np.repeat([1, 2, 0], [len(cube), len(cube), len(floor)]).astype(np.int32)
    return plain_index(points, codes, segments, np.array([0.2], np.float32))


CONFIG = QueryConfig(negatives=('object', 'things'), temperature=3.0, threshold=0.6,
                     relevant_fraction=0.5)


def test_two_things_are_two_hits_best_first():
    query = TextQuery(index_of_two_mugs(), Words(), CONFIG, radius=1.0)
    values, scales = query.relevancy('mug')
    hits = [place.hit for place in query.places(values, scales, 0.6, 5)]
    assert [round(h.relevancy, 4) for h in hits] == [round(sigmoid(3), 4), round(sigmoid(2.25), 4)]
    assert hits[0].position == pytest.approx([0, 0, 0.05], abs=1e-3)
    assert hits[1].position == pytest.approx([1, 0, 0.03], abs=1e-3)
    assert hits[0].size == pytest.approx([0.1] * 3, abs=0.01)
    assert (hits[0].points, hits[0].keyframes) == (216, 9)
    assert hits[0].scale == pytest.approx(0.2)


def test_absent_is_no_hit():
    query = TextQuery(index_of_two_mugs(), Words(), CONFIG, radius=1.0)
    values, scales = query.relevancy('things', negatives=['mug', 'object'])
    assert query.places(values, scales, 0.6, 5) == []


def test_max_hits_limits():
    query = TextQuery(index_of_two_mugs(), Words(), CONFIG, radius=1.0)
    assert len(query.places(*query.relevancy('mug'), 0.6, 1)) == 1


def test_requests_are_checked_at_the_door():
    for text in ('', '   ', '\n'):
        with pytest.raises(EmptyTextError, match='say what to look for'):
            QueryRequest(text).check()
    for threshold in (-0.1, 1.5, math.nan):
        with pytest.raises(InvalidThresholdError):
            QueryRequest('mug', threshold=threshold).check()


def test_phrases_that_are_compared_together_have_the_relevancies_of_each_alone():
    query = TextQuery(index_of_two_mugs(), Words(), CONFIG, radius=1.0)
    phrases, negatives = np.eye(3, dtype=np.float32)[:2], np.eye(3, dtype=np.float32)[2:]
    values, scales = query.scorer.each_phrase(phrases, negatives)
    for row in range(2):
        alone, scale, _ = query.scorer.best_phrase(phrases[row:row + 1], negatives)
        np.testing.assert_allclose(values[row], alone, atol=1e-6)
        assert (scales[row] == scale).all()
    # The first mug at temperature 3: 1 better than the negative; the floor is an object.
    assert values[0, 0] == pytest.approx(sigmoid(3), abs=1e-4)
    assert values[1, -1] == pytest.approx(sigmoid(3), abs=1e-4)
