# SPDX-License-Identifier: Apache-2.0
"""An answer says what the best place of a phrase looks more like.

'beaker' is 0.8 of a mug and 0.6 of a plate: the mug is its best place, and 'mug' fits that better.
"""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import CUBES, WordEncoder, axis, cube_index, write_map

import lerf_ros.map_query
from lerf_ros.geometry.region import Region
from lerf_ros.index.looks import SecondLooks
from lerf_ros.map_query import MapQuery
from lerf_ros.query.request import QueryRequest

BEAKER = 0.8 * axis('mug') + 0.6 * axis('plate')


class Beakers(WordEncoder):
    def encode_texts(self, texts):
        return np.stack([BEAKER if text == 'beaker' else axis(text) for text in texts])


class WithVocabulary(Beakers):
    """Knows words beside those that are asked, the phrase itself in another order among them."""

    def words(self):
        return ['plate', 'coffee mug', 'Beaker'], np.stack(
            [axis('plate'), axis('mug'), axis('mug')])


@pytest.fixture
def ask(tmp_path, monkeypatch):
    def make(encoder, **request):
        monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: encoder())
        query = MapQuery(write_map(tmp_path / encoder.__name__))
        assert query.refresh()
        return query.ask(QueryRequest(**request)).phrases
    return make


def test_phrases_that_were_asked_together_are_compared(ask):
    beaker, mug, ball = ask(Beakers, texts=('beaker', 'mug', 'ball'))
    assert beaker.found and beaker.hits[0].position[0] == pytest.approx(0.0, abs=1e-3)
    assert (beaker.looks_more_like, mug.looks_more_like, ball.looks_more_like) == (
        ('mug',), (), ())


def test_what_has_no_place_looks_like_nothing(ask):
    (texture,) = ask(Beakers, text='texture')       # a negative as well: it wins nowhere
    assert not texture.found and texture.looks_more_like == ()


def test_the_vocabulary_of_an_encoder_is_asked_as_well(ask):
    (beaker,) = ask(WithVocabulary, text='beaker')
    assert beaker.looks_more_like == ('coffee mug',)    # not the word itself, nor a worse one


class WithManyWords(Beakers):
    """Knows ten more words for a mug; two of them share a word with the phrase."""

    def words(self):
        names = ['beaker cup', 'beakers', *(f'mug {k}' for k in range(8))]
        return names, np.stack([axis('mug')] * 10)


@pytest.mark.parametrize('most, found', [(0, True), (8, True), (7, False)])
def test_what_too_many_words_fit_better_is_something_else(tmp_path, most, found):
    query = MapQuery(write_map(tmp_path / 'map'), {'query.most_rival_words': most},
                     encoder=WithManyWords())
    query.refresh()
    around_the_mug = Region(np.eye(4), np.full(3, 0.4))
    (beaker,) = query.ask(QueryRequest('beaker', region=around_the_mug)).phrases
    assert beaker.found == found
    if not found:
        assert beaker.not_found_reason.startswith('8 other words fit its best place better: ')
        assert 'mug 0' in beaker.not_found_reason
    # The plate is no mug, and stays a place of it; what it looks like is told of that place then.
    everywhere = query.answer('beaker').phrases[0]
    assert everywhere.found and everywhere.looks_more_like == (
        () if not found else ('beaker cup', 'beakers', 'mug 0'))
    assert query.answer('mug').found    # nothing fits a mug better than a mug


def test_second_looks_take_part_in_the_contest(tmp_path):
    """The field of the mug fits 'mug' by 1 and 'beaker' by 0.8; a look turns that round.

    The look fits them by 0.5 and 0.92: what finds more counts 3/4, what finds less 1/4. So the
    margins are 0.8 + 0.12 * 3/4 = 0.89 for the beaker, 1 - 0.5 / 4 = 0.875 for the mug.
    """
    look = 0.5 * axis('mug') + np.sqrt(0.75) * axis('plate')
    looks = SecondLooks(np.array([1], np.int32), np.array([3], np.int32),
                        np.array([[0, 0, 10, 10]], np.float32), look[None].astype(np.float16))
    around_the_mug = Region(np.eye(4), np.full(3, 0.4))
    for index, rivals in ((cube_index(CUBES), 8), (replace(cube_index(CUBES), looks=looks), 0)):
        query = MapQuery(write_map(tmp_path / str(rivals), index), encoder=WithManyWords())
        query.refresh()
        phrase = query.ask(QueryRequest('beaker', region=around_the_mug)).phrases[0]
        assert phrase.found == (rivals == 0)
        if not phrase.found:
            assert phrase.not_found_reason.startswith(f'{rivals} other words')


class OneWord(Beakers):
    """Knows one word, and a phrase that lies at 60 degrees to it: a cosine of 0.5."""

    word = 'mug'

    def encode_texts(self, texts):
        slanted = 0.5 * axis('mug') + np.sqrt(0.75) * axis('floor')
        return np.stack([slanted if text == 'small vessel' else axis(text) for text in texts])

    def words(self):
        return [self.word], axis('mug')[None]


@pytest.mark.parametrize('word, most, found', [
    ('mug', 3, False), ('mug', 0, True), ('large vessel', 3, True)])
def test_one_word_of_another_meaning_that_fits_clearly_better_is_enough(tmp_path, word, most,
                                                                        found):
    """At the mug the word has log-odds of 10, the phrase of 5. One of its own kind is no rival."""
    encoder = OneWord()
    encoder.word = word
    query = MapQuery(write_map(tmp_path / 'map'), {'query.most_rival_words': most},
                     encoder=encoder)
    query.refresh()
    phrase = query.ask(QueryRequest('small vessel', whole_phrase=True,
                                    region=Region(np.eye(4), np.full(3, 0.4)))).phrases[0]
    assert phrase.found == found
    if not found:
        assert phrase.not_found_reason == "'mug' fits its best place clearly better"
