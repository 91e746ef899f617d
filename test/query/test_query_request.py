# SPDX-License-Identifier: Apache-2.0
"""Requests are checked at the door."""

import math

import numpy as np
import pytest

from lerf_ros.errors import (
    EmptyNegativeError,
    EmptyTextError,
    InvalidRequestError,
    InvalidThresholdError,
)
from lerf_ros.geometry.region import Region
from lerf_ros.query.request import MAX_CHARACTERS, KeyframeCrop, QueryRequest

PICTURE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize('request_', [
    QueryRequest('red mug'), QueryRequest(texts=('a', 'b')), QueryRequest(image=PICTURE),
    QueryRequest(crop=KeyframeCrop(0, 0, 0, 10, 10)),
    QueryRequest('mug', region=Region(np.eye(4), np.ones(3)))])
def test_a_sound_request_passes(request_):
    request_.check()


@pytest.mark.parametrize(('request_', 'error'), [
    (QueryRequest('mug', colors=('reddest',)), InvalidRequestError),
    (QueryRequest('mug', sizes=('giant',)), InvalidRequestError),
    (QueryRequest(image=PICTURE, colors=('red',)), InvalidRequestError),
    (QueryRequest(), EmptyTextError),
    (QueryRequest(' \t'), EmptyTextError),
    (QueryRequest(texts=('mug', ' ')), EmptyTextError),
    (QueryRequest('mug', texts=('cup',)), InvalidRequestError),
    (QueryRequest('mug', image=PICTURE), InvalidRequestError),
    (QueryRequest('mug', negatives=('',)), EmptyNegativeError),
    (QueryRequest('mug', rather_than=(' ',)), EmptyNegativeError),
    (QueryRequest('mug', threshold=math.nan), InvalidThresholdError),
    (QueryRequest('mug', threshold=1.5), InvalidThresholdError),
    (QueryRequest('x' * (MAX_CHARACTERS + 1)), InvalidRequestError),
    (QueryRequest(texts=('mug',) * 300), InvalidRequestError),
    (QueryRequest('mug', region=Region(np.eye(4), np.array([1.0, 0, 1]))), InvalidRequestError),
    (QueryRequest('mug', region=Region(np.full((4, 4), np.nan), np.ones(3))),
     InvalidRequestError)])
def test_what_is_wrong_is_named(request_, error):
    with pytest.raises(error):
        request_.check()


def test_phrases_are_those_in_words():
    assert QueryRequest('mug').phrases == ('mug',)
    assert QueryRequest(texts=('mug', 'cup')).phrases == ('mug', 'cup')
    assert QueryRequest(image=PICTURE).phrases == ()
