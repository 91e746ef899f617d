# SPDX-License-Identifier: Apache-2.0
"""The grammar, one rule a test."""

import pytest

from lerf_ros.query.phrases.grammar import read
from lerf_ros.query.phrases.reading import VIEWER, Relation, RelationKind, Thing

K = RelationKind


def thing(text: str) -> Thing:
    return read(text).thing


def only(text: str) -> Relation:
    relation, = read(text).relations
    return relation


@pytest.mark.parametrize('text', [
    'wine bottle', 'the mug', 'computer mouse', 'traffic light', "jack-o'-lantern", 'orange',
    'salt and pepper shaker', 'mug with a red handle', 'bottle of red wine', 'the left shoe',
    'Tasse auf dem Tisch', '杯子', 'light', '', '?!'])
def test_what_is_only_a_noun_goes_to_the_encoder_as_it_was_typed(text):
    reading = read(text)
    assert reading.plain
    assert (reading.thing.noun, reading.not_understood) == (text.strip(), '')


def test_a_colour_before_a_noun_is_its_colour():
    assert thing('the red coffee mug') == Thing('coffee mug', ('red',))
    assert thing('the red coffee mug').described == 'red coffee mug'


def test_a_colour_may_stand_behind_the_noun():
    assert thing('the mug that is red') == Thing('mug', ('red',))
    assert thing('mugs which are dark blue') == Thing('mugs', ('blue',), shade='dark')


def test_colours_with_and_are_all_meant():
    assert thing('black and white ball') == Thing('ball', ('black', 'white'))
    assert thing('red, white and blue umbrella').colors == ('red', 'white', 'blue')


def test_of_colours_with_or_one_is_meant():
    assert thing('red or blue mug') == Thing('mug', ('red', 'blue'), any_color=True)


def test_a_shade_belongs_to_its_colour():
    assert thing('light green bottle') == Thing('bottle', ('green',), shade='light')
    assert thing('light bulb') == Thing('light bulb')


def test_a_tint_is_no_colour_of_its_own():
    assert thing('lime green mug') == thing('sky green mug') == Thing('mug', ('green',))
    assert thing('lime juice').noun == 'lime juice'


def test_a_suffix_makes_no_difference():
    assert thing('red-coloured mug') == thing('red colored mug') == Thing('mug', ('red',))


@pytest.mark.parametrize('text', ['red wine bottle', 'orange juice', 'black pepper', 'blue cheese'])
def test_a_colour_that_names_a_kind_stays_with_the_noun(text):
    assert read(text).plain


def test_sizes_and_superlatives_are_read():
    assert thing('the small blue bucket') == Thing('bucket', ('blue',), sizes=('small',))
    assert thing('largest mug') == Thing('mug', sizes=('largest',))


@pytest.mark.parametrize(('text', 'kind'), [
    ('mug on the table', K.ON), ('mug on top of the table', K.ON), ('mug in the table', K.IN),
    ('mug inside the table', K.IN), ('mug under the table', K.UNDER),
    ('mug beneath the table', K.UNDER), ('mug above the table', K.ABOVE),
    ('mug next to the table', K.NEXT_TO), ('mug beside the table', K.NEXT_TO),
    ('mug near the table', K.NEXT_TO), ('mug close to the table', K.NEXT_TO),
    ('mug left of the table', K.LEFT_OF), ('mug to the left of the table', K.LEFT_OF),
    ('mug on the right of the table', K.RIGHT_OF), ('mug in front of the table', K.IN_FRONT_OF),
    ('mug behind the table', K.BEHIND), ('mug nearest to the table', K.NEAREST_TO),
    ('mug closest the table', K.NEAREST_TO), ('mug farthest from the table', K.FARTHEST_FROM),
    ('mug on the left side of the table', K.LEFT_SIDE),
    ('mug in the right half of the table', K.RIGHT_SIDE),
    ('mug at the back part of the table', K.BACK_SIDE),
    ('mug on the near side of the table', K.FRONT_SIDE)])
def test_each_relation_has_its_words(text, kind):
    assert read(text).thing == Thing('mug')
    assert only(text) == Relation(kind, (Thing('table'),))


def test_an_anchor_has_colours_of_its_own():
    assert only('mug left of the dark blue bottle') == Relation(
        K.LEFT_OF, (Thing('bottle', ('blue',), shade='dark'),))


def test_between_needs_two_things():
    assert only('ball between the mug and the red bowl') == Relation(
        K.BETWEEN, (Thing('mug'), Thing('bowl', ('red',))))
    assert read('ball between the mugs').not_understood


def test_between_two_of_one_noun():
    assert only('ball between the red and the blue mug').anchors == (
        Thing('mug', ('red',)), Thing('mug', ('blue',)))


def test_several_relations_belong_to_the_first_thing():
    reading = read('the white toaster that is on the table and left of the bucket')
    assert reading.thing == Thing('toaster', ('white',))
    assert reading.relations == (Relation(K.ON, (Thing('table'),)),
                                 Relation(K.LEFT_OF, (Thing('bucket'),)))


def test_how_a_thing_is_held_says_nothing():
    for held in ('standing', 'lying', 'that is', 'which stands', 'right', 'placed'):
        assert read(f'the mug {held} next to the lamp') == read(
            f'the mug {held} next to the lamp').__class__(
            f'the mug {held} next to the lamp', Thing('mug'),
            (Relation(K.NEXT_TO, (Thing('lamp'),)),))


def test_the_viewer_is_an_anchor():
    for text in ('mug nearest to me', 'the nearest mug', 'mug closest to the robot'):
        assert only(text) == Relation(K.NEAREST_TO, (VIEWER,)), text
        assert read(text).needs_viewer


def test_a_side_without_an_anchor_chooses_among_the_others():
    for text in ('the mug on the left', 'the leftmost mug', 'the left mug', 'mug to the left'):
        assert only(text) == Relation(K.LEFT_OF), text


def test_the_place_to_look_from_is_a_thing_or_the_viewer():
    reading = read('the mug behind the laptop, seen from the door')
    assert (reading.seen_from, reading.needs_viewer) == (Thing('door'), False)
    assert read('the mug behind the laptop seen from me').needs_viewer


def test_a_question_around_a_phrase_is_left_out():
    for lead in ('where is', 'find', 'show me', 'Where is'):
        assert read(f'{lead} the red mug?').thing == Thing('mug', ('red',))
    assert read('find keys').thing.noun == 'keys'


@pytest.mark.parametrize(('text', 'why'), [
    ('the mug not on the table', "there is no rule for 'not'"),
    ('the mug without a handle', "there is no rule for 'without'"),
    ('the second mug from the left', "there is no rule for 'from the left'"),
    ('mug on', "'nothing' names no thing"), ('on the table', "no thing is named before 'on'"),
    ('the mug on it', "'it' stands for something else"),
    ('the red one', "'one' stands for something else"),
    ('mug in the middle of the table', "there is no rule for in 'middle of the table'"),
    ('mug on the left today', "'today' after a place"),
    ('mug on me', "'on' with the viewer"),
    ('mug on a on b on c on d on e', '5 relations, at most 4 are read')])
def test_what_does_not_fit_is_asked_as_a_whole(text, why):
    reading = read(text)
    assert reading.plain and reading.thing.noun == text
    assert reading.not_understood == why


def test_idioms_are_nouns():
    assert read('corn on the cob').plain and not read('corn on the cob').not_understood


def test_a_reading_is_told_in_words():
    assert str(read('the small red or blue mug on the table, seen from the door')) == (
        'mug, red or blue, small, on table, seen from door')
    assert str(read('the mug left of the dark blue bottle')) == 'mug, left of dark blue bottle'
    assert str(read('The Mug')) == 'The Mug'
