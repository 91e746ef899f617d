# SPDX-License-Identifier: Apache-2.0
"""Slips of the finger are named, and words that are merely rare are not."""

import pytest
from hand_made_map import WordEncoder, write_map

from lerf_ros.map_query import MapQuery
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.spelling import doubtful_spelling, known_words, misspelt
from lerf_ros.show.words import summary
from lerf_ros.simulation.objects import CATALOGUE

if not known_words():
    pytest.skip('the word list is that of the extra `offline`', allow_module_level=True)

SLIPS = {'screwdrivr': 'screwdriver', 'teapto': 'teapot', 'kettel': 'kettle', 'cofee': 'coffee',
         'bannana': 'banana', 'scisors': 'scissors', 'keybord': 'keyboard', 'toster': 'toaster'}
RARE = ('whisk', 'stapler', 'toothbrush', 'mokapot', 'tupperware', 'dustpans', 'nerf gun', 'donut',
        'grater', 'wrench', 'drier', 'potted plant', 'colander', 'keychains', 'sriracha', 'airpods')


@pytest.mark.parametrize('slip', SLIPS)
def test_a_slip_is_named_with_the_word_that_was_meant(slip):
    assert list(misspelt(f'Red {slip}')) == [(slip, SLIPS[slip])]


@pytest.mark.parametrize('text', [*RARE, *sorted({kind.query for kind in CATALOGUE})])
def test_words_that_are_rare_are_no_slips(text):
    assert not doubtful_spelling([text])


class AnyWord(WordEncoder):
    """Takes what it does not know for a mug, as an encoder does that reads any letters."""

    def encode_texts(self, texts):
        return super().encode_texts([text if text in ('object', 'things', 'stuff', 'texture')
                                     else 'mug' for text in texts])


def test_an_answer_that_found_something_names_the_slip_too(tmp_path):
    query = MapQuery(write_map(tmp_path), encoder=AnyWord())
    query.refresh()
    answer = query.ask(QueryRequest('screwdrivr'))
    assert answer.found and summary(answer).endswith(
        "'screwdrivr' may be misspelt, the nearest known word is 'screwdriver'")
