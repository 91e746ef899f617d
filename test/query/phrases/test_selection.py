# SPDX-License-Identifier: Apache-2.0
"""What phrases with colours, sizes and relations find on a map that is made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from query.phrases.colored_map import THINGS, VIEWER, LastWord, colored_query

from lerf_ros.config import QueryConfig
from lerf_ros.geometry.region import Region
from lerf_ros.lerf import find
from lerf_ros.query.answer import Presence
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.phrases.reading import Viewpoint
from lerf_ros.query.presence import decide_presence
from lerf_ros.query.question import encode_phrases
from lerf_ros.query.request import QueryRequest, relation
from lerf_ros.query.text_query import TextQuery

QUERY = colored_query()
NEGATIVES = QueryConfig().negatives
RED, BLUE, LARGE, BOX, BALL, FLOOR_BALL = range(len(THINGS))


def found(request, viewer=VIEWER, query=QUERY, region=None):
    request = QueryRequest(request) if isinstance(request, str) else request
    request.check()
    question = encode_phrases(request, query.encoder, NEGATIVES)
    return find(query, question, region, 0.6, 5, viewer=viewer)


def which(request, **given):
    """The numbers of the THINGS that were found, best first."""
    middles = np.array([np.add(foot, (0, 0, sides[2] / 2)) for _, _, foot, sides in THINGS])
    out = []
    for hit in found(request, **given).hits:
        distance = np.linalg.norm(middles - hit.position, axis=1)
        assert distance.min() < 0.06, f'{hit.position} is none of the things'
        out.append(int(distance.argmin()))
    return out


def test_a_noun_finds_all_of_its_kind():
    assert set(which('mug')) == {RED, BLUE, LARGE}


@pytest.mark.parametrize(('text', 'things'), [
    ('red mug', {RED, LARGE}), ('the blue mug', {BLUE}), ('mug that is blue', {BLUE}),
    ('red or blue mug', {RED, BLUE, LARGE}), ('scarlet mug', {RED, LARGE}),
    ('white ball', {FLOOR_BALL}), ('grey box', {BOX})])
def test_colours_of_the_map_decide_which_one_it_is(text, things):
    assert set(which(text)) == things


def test_a_colour_that_none_has_is_said():
    result = found('green mug').phrases[0]
    assert (result.hits, result.fit) == ((), 0.0)
    assert result.reason == ("'mug' was found in 3 places, but none is green: "
                             'they are red, blue')


@pytest.mark.parametrize(('text', 'thing'), [
    ('largest mug', LARGE), ('biggest red mug', LARGE), ('smallest red mug', RED),
    ('large mug', LARGE), ('tallest mug', LARGE), ('lowest ball', FLOOR_BALL),
    ('highest ball', BALL)])
def test_sizes_compare_the_things_of_one_kind(text, thing):
    assert which(text) == [thing]


def test_small_ones_are_all_that_are_small():
    assert set(which('small mug')) == {RED, BLUE}


@pytest.mark.parametrize(('text', 'things'), [
    ('ball on the box', {BALL}), ('ball on the floor', {FLOOR_BALL}),
    ('mug on the table', {RED, BLUE, LARGE}), ('box on the table', {BOX}),
    ('box under the ball', {BOX}), ('ball under the table', {FLOOR_BALL}),
    ('ball above the table', {BALL}), ('mug left of the box', {RED}),
    ('mug to the right of the box', {BLUE, LARGE}), ('mug behind the blue mug', {LARGE}),
    ('mug in front of the large mug', {BLUE, RED}),
    ('box between the red mug and the blue mug', {BOX}),
    ('mug next to the box', {RED, BLUE}), ('mug nearest to the box', {RED, BLUE}),
    ('mug farthest from the box', {LARGE}), ('mug on the left side of the table', {RED}),
    ('red mug on the right side of the table', {LARGE}),
    ('mug on the far side of the table', {LARGE}), ('leftmost mug', {RED}),
    ('the mug on the left', {RED}), ('the nearest red mug', {RED}),
    ('red mug farthest from me', {LARGE}), ('the red mug right of the box', {LARGE}),
    ('blue mug on the table right of the box', {BLUE})])
def test_relations_choose_by_geometry(text, things):
    assert set(which(text)) <= things and which(text), found(text).phrases[0].reason


def test_left_is_left_of_the_viewer():
    behind = Viewpoint(np.array([0.0, 3.0, 1.5]), np.array([0.0, -1.0, 0.0]), 'behind')
    assert which('mug left of the box') == [RED]
    assert BLUE in which('mug left of the box', viewer=behind)
    assert RED not in which('mug left of the box', viewer=behind)


def test_left_may_be_seen_from_a_thing():
    # From the large mug, which is behind on the right, the box is ahead and the red mug beyond.
    assert which('blue mug left of the box seen from the largest mug') == [BLUE]


def test_relations_that_hold_for_nothing_are_said():
    result = found('ball on the red mug').phrases[0]
    assert result.hits == () and result.fit < 0.5
    assert result.reason == "'ball' was found in 2 places, but none is on red mug"


def test_an_anchor_that_is_not_there_is_said():
    result = found('mug on the tray').phrases[0]
    assert result.hits == ()
    assert result.reason == "'tray' was not found, and so nothing is known to be on tray"


@pytest.mark.parametrize('text', ['mug on the tray', 'mug left of the tray', 'box nearest to the '
                                  'tray', 'mug nearest to the tray', 'leftmost mug seen from the '
                                  'tray'])
def test_what_nobody_can_tell_is_neither_found_nor_absent(text):
    """The mugs are there: an encoder that does not know a tray must not deny them, nor guess."""
    result = found(text).phrases[0]
    assert result.hits == () and np.isnan(result.fit) and "'tray' was not found" in result.reason
    seen = MappedPlace(1.0)
    assert decide_presence((), result.candidate, seen, result.fit) is Presence.NOT_OBSERVED
    assert decide_presence((), result.candidate, seen, 0.3) is Presence.ABSENT


def test_without_a_viewer_nothing_is_left_of_anything():
    result = found('mug left of the box', viewer=None).phrases[0]
    assert 'nobody knows where the viewer is' in result.reason
    assert which('mug on the table', viewer=None)


def test_fields_say_the_same_as_words():
    request = QueryRequest('mug', colors=('red',), relations=(relation('left of', 'gray box'),))
    assert which(request) == which('the red mug left of the gray box') == [RED]
    assert which(QueryRequest('mug', sizes=('largest',))) == [LARGE]
    assert which(QueryRequest('mug', relations=(relation('leftmost'),))) == [RED]
    assert which(QueryRequest('ball', relations=(relation('on', 'floor'),))) == [FLOOR_BALL]


def test_a_whole_phrase_is_not_read():
    assert set(which(QueryRequest('red mug', whole_phrase=True))) == {RED, BLUE, LARGE}


def test_phrases_that_are_read_and_others_are_asked_together():
    result = found(QueryRequest(texts=('box', 'blue mug', 'ball on the floor')))
    assert [len(phrase.hits) for phrase in result.phrases] == [1, 1, 1]
    assert [hit.label for phrase in result.phrases for hit in phrase.hits] == [
        'box', 'blue mug', 'ball on the floor']
    for number, phrase in enumerate(result.phrases):
        members = phrase.places[0].members
        assert (result.labels[members] == number).all()
        assert (result.relevancy[members] > 0.6).all()


def test_places_that_do_not_fit_are_not_relevant_any_more():
    result = found('blue mug')
    red = QUERY.index.segments == 2
    assert (result.relevancy[red] <= 0.5).all()
    assert (result.relevancy[QUERY.index.segments == 3] > 0.6).all()


def test_the_anchor_may_lie_outside_of_the_region():
    T = np.eye(4)
    T[:3, 3] = -0.4, 0.0, TOP_MIDDLE
    region = Region(T, np.array([0.3, 0.3, 0.4]))
    assert which('mug left of the box', region=region) == [RED]
    assert which('mug right of the box', region=region) == []


TOP_MIDDLE = 0.55


def test_probabilities_follow_the_fit():
    ahead = found('mug right of the box').phrases[0]
    assert 0.5 <= ahead.fit <= 1


def test_what_grew_together_with_what_it_lies_on_is_taken_apart():
    index = QUERY.index
    ball, box = 2 + BALL, 2 + BOX                 # after the two planes
    joined = replace(index, segments=np.where(index.segments == ball, box, index.segments))
    query = TextQuery(joined, QUERY.encoder, QUERY.config, QUERY.radius)
    assert len(found('ball', query=query).places[0].members) > 400      # the box as well
    hit = found('ball on the box', query=query).hits[0]
    assert np.allclose(hit.position, (0, 0, 0.64), atol=0.01)
    assert np.allclose(hit.size, 0.08, atol=0.01)
    hit = found('box under the ball', query=query).hits[0]
    assert np.allclose(hit.position, (0, 0, 0.55), atol=0.01)


def test_one_thing_is_not_on_itself():
    assert found('box on the box').hits == ()


class NoFurniture(LastWord):
    """Takes words for furniture for the tray, which is not on the map."""

    def encode_texts(self, texts):
        return super().encode_texts([
            text.replace('desk', 'tray').replace('ground', 'tray') for text in texts])


def test_surfaces_are_known_by_their_geometry_where_the_encoder_is_at_a_loss():
    query = TextQuery(QUERY.index, NoFurniture(), QUERY.config, QUERY.radius)
    assert set(which('mug on the desk', query=query)) == {RED, BLUE, LARGE}
    assert which('ball on the ground', query=query) == [FLOOR_BALL]
    assert which('mug on the tray', query=query) == []
