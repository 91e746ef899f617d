# SPDX-License-Identifier: Apache-2.0
"""The negatives of a question are encoded once, as long as they stay the same."""

import numpy as np
import pytest
from hand_made_map import WordEncoder, write_map

from lerf_ros.map_query import MapQuery
from lerf_ros.query.question import encode_against, encode_phrases
from lerf_ros.query.request import QueryRequest

NEGATIVES = ('object', 'things', 'stuff', 'texture')


class CountingEncoder(WordEncoder):
    def __init__(self):
        self.calls = []

    def encode_texts(self, texts):
        self.calls.append(list(texts))
        return super().encode_texts(texts)


@pytest.fixture
def encoder():
    return CountingEncoder()


def test_a_second_question_encodes_its_phrase_alone(encoder):
    first = encode_phrases(QueryRequest('mug'), encoder, NEGATIVES)
    second = encode_phrases(QueryRequest('plate'), encoder, NEGATIVES)
    assert encoder.calls == [['mug', *NEGATIVES], ['plate']]
    np.testing.assert_array_equal(first.negatives, second.negatives)
    np.testing.assert_array_equal(second.positives, WordEncoder().encode_texts(['plate']))


def test_other_negatives_are_encoded_anew(encoder):
    encode_phrases(QueryRequest('mug'), encoder, NEGATIVES)
    encode_phrases(QueryRequest('mug', rather_than=('plate',)), encoder, NEGATIVES)
    found = encode_phrases(QueryRequest('mug', negatives=('floor',)), encoder, NEGATIVES)
    assert encoder.calls[1:] == [['mug', *NEGATIVES, 'plate'], ['mug', 'floor']]
    np.testing.assert_array_equal(found.negatives, WordEncoder().encode_texts(['floor']))


def test_each_encoder_has_its_own(encoder):
    other = CountingEncoder()
    encode_phrases(QueryRequest('mug'), encoder, NEGATIVES)
    encode_phrases(QueryRequest('mug'), other, NEGATIVES)
    assert other.calls == [['mug', *NEGATIVES]]


def test_no_phrase_and_known_negatives_need_no_encoder(encoder):
    encode_against(['mug'], NEGATIVES, encoder)
    rows, negatives = encode_against([], NEGATIVES, encoder)
    assert len(encoder.calls) == 1 and rows.shape == (0, encoder.dimension)
    assert len(negatives) == 4


def test_answers_of_a_map_are_the_same(tmp_path, encoder):
    query = MapQuery(write_map(tmp_path), encoder=encoder)
    query.refresh()
    first, second = query.answer('mug'), query.answer('mug')
    assert [len(call) for call in encoder.calls] == [5, 1]
    np.testing.assert_array_equal(first.relevancy, second.relevancy)
    assert len(first.hits) == len(second.hits) == 1
