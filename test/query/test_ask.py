# SPDX-License-Identifier: Apache-2.0
"""Requests to a map made by hand: phrases, rivals, regions and pictures."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hand_made_map import CAMERA, COLORS, CUBES, WordEncoder, axis, cube_index, write_map

import lerf_ros.map_query
from lerf_ros.errors import (
    BadImageError,
    ConfigError,
    EmptyTextError,
    EncoderUnavailableError,
    NoSnapshotError,
)
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.region import Region
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Hit, Presence, in_frame
from lerf_ros.query.request import KeyframeCrop, QueryRequest
from lerf_ros.show.words import summary, why_not_found


@pytest.fixture(autouse=True)
def loads(monkeypatch):
    """The encoders that were loaded: text_only or not, one after the other."""
    loaded = []

    def load(_features, _device, text_only):
        loaded.append('text' if text_only else 'pictures')
        return WordEncoder()
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', load)
    return loaded


@pytest.fixture
def map_query(tmp_path):
    query = MapQuery(write_map(tmp_path))
    query.refresh()
    return query


def at(hit, word):
    return np.abs(hit.position - CUBES[word][0]).max() < 0.01


def box(center, size):
    T = np.eye(4)
    T[:3, 3] = center
    return Region(T, np.asarray(size, float))


def test_one_phrase_is_one_labelled_hit(map_query):
    answer = map_query.ask(QueryRequest('mug'))
    assert [hit.label for hit in answer.hits] == ['mug']
    assert at(answer.hits[0], 'mug')
    assert answer.texts == ('mug',) and not answer.labels.any()
    # Margin 1 at temperature 10.
    assert answer.hits[0].relevancy == pytest.approx(1 / (1 + math.exp(-10)), abs=1e-5)


def test_every_point_gets_its_best_phrase_and_every_hit_its_label(map_query):
    answer = map_query.ask(QueryRequest(texts=('ball', 'mug', 'plate')))
    assert {hit.label for hit in answer.hits} == {'ball', 'mug', 'plate'}
    assert all(at(hit, hit.label) for hit in answer.hits)
    # In the order of the map: 216 points of the mug, of the plate, of the ball.
    assert [set(answer.labels[i * 216:(i + 1) * 216]) for i in range(3)] == [{1}, {2}, {0}]


def test_max_hits_counts_for_each_phrase(tmp_path):
    """Three things and five hits at most: nothing goes unmentioned, and nothing comes twice."""
    query = MapQuery(write_map(tmp_path), {'query.max_hits': 1})
    query.refresh()
    answer = query.ask(QueryRequest(texts=('ball', 'mug', 'plate')))
    assert sorted(hit.label for hit in answer.hits) == ['ball', 'mug', 'plate']
    assert [(phrase.text, len(phrase.hits)) for phrase in answer.phrases] == [
        ('ball', 1), ('mug', 1), ('plate', 1)]


class Synonyms(WordEncoder):
    """A cup is nearly a mug: cosine 0.9, so its margin over the negatives is 0.9."""

    def encode_texts(self, texts):
        cup = 0.9 * axis('mug') + np.sqrt(1 - 0.9 ** 2) * axis('floor')
        return np.stack([cup if text == 'cup' else axis(text) for text in texts])


def test_a_phrase_is_answered_among_others_as_if_it_was_asked_alone(tmp_path):
    query = MapQuery(write_map(tmp_path), encoder=Synonyms())
    query.refresh()
    together = query.ask(QueryRequest(texts=('mug', 'cup', 'things')))
    for phrase in together.phrases:
        alone = query.ask(QueryRequest(phrase.text))
        assert (phrase.presence, phrase.not_found_reason) == (
            alone.presence, alone.not_found_reason)
        assert [hit.relevancy for hit in phrase.hits] == [hit.relevancy for hit in alone.hits]
    mug, cup, things = together.phrases
    assert at(mug.hits[0], 'mug') and at(cup.hits[0], 'mug') and not things.hits
    # The cloud has one phrase for each point: the one that fits it best.
    assert not together.labels[:216].any()


def test_each_phrase_is_told_of(map_query):
    answer = map_query.ask(QueryRequest(texts=('mug', 'things', 'ball')))
    told = summary(answer)
    assert answer.found and answer.presence == Presence.PRESENT
    assert told.startswith("'mug': 1 place, best at (0.00, 0.00, 0.05) m in 'map' with relevancy "
                           "1.00; 'ball': 1 place")
    assert "'things' was not found: no place of 40 points" in told


def test_of_very_many_phrases_the_rest_is_counted(map_query):
    told = summary(map_query.ask(QueryRequest(texts=('mug',) * 20 + ('things',) * 15)))
    assert '; 8 more were found; 3 more were not found' in told


def test_the_phrases_of_an_answer_move_with_it(map_query):
    T = np.eye(4)
    T[0, 3] = 2.0
    moved = in_frame(map_query.ask(QueryRequest(texts=('mug', 'ball'))), T, 'robot')
    assert moved.phrases[0].hits[0].position[0] == pytest.approx(2.0, abs=1e-3)


def test_a_rival_takes_what_looks_more_like_it(map_query):
    alone = map_query.ask(QueryRequest('mug', threshold=0.4))
    against = map_query.ask(QueryRequest('mug', rather_than=('mug',), threshold=0.6))
    assert alone.found and not against.found
    # A phrase and its rival that fit equally well: margin 0.
    assert against.relevancy.max() == pytest.approx(0.5)


def test_own_negatives_replace_the_configured_ones_and_rivals_do_not(map_query):
    assert not map_query.ask(QueryRequest('object')).found
    floor = map_query.ask(QueryRequest('floor', negatives=('mug',), rather_than=('ball',)))
    mug, ball, plate = (floor.relevancy[i * 216] for i in (0, 2, 1))
    assert mug == pytest.approx(1 / (1 + math.exp(10)), abs=1e-5) == ball
    assert plate == pytest.approx(0.5)


def test_a_region_bounds_the_search(map_query):
    there = map_query.ask(QueryRequest('mug', region=box((0, 0, 0.05), (0.2, 0.2, 0.2))))
    elsewhere = map_query.ask(QueryRequest('mug', region=box((0.5, 0, 0), (0.2, 0.2, 0.2))))
    assert there.found and not elsewhere.found
    assert elsewhere.relevancy.max() == 0.5   # the plate's points: no word fits, margin 0


def test_a_turned_region_is_turned(map_query):
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]   # its long first axis along the world's y
    answer = map_query.ask(QueryRequest(texts=('plate', 'ball'),
                                        region=Region(T, np.array([1.2, 0.2, 0.4]))))
    assert [hit.label for hit in answer.hits] == ['ball']


def test_a_picture_finds_what_it_shows(map_query, loads):
    picture = np.full((20, 20, 3), COLORS['plate'], np.uint8)
    assert loads == ['text']
    answer = map_query.ask(QueryRequest(image=picture))
    assert loads == ['text', 'pictures']
    assert answer.texts == ('picture',)
    assert at(answer.hits[0], 'plate')


def test_a_picture_has_a_threshold_of_its_own(tmp_path):
    """Its relevancy is lower than a phrase's, because it must beat the map's mean as well."""
    query = MapQuery(write_map(tmp_path), {'query.threshold': 0.9, 'query.picture_threshold': 0.4})
    query.refresh()
    crop = KeyframeCrop(0, 12, 12, 20, 10)
    assert query.ask(QueryRequest('mug')).threshold == 0.9
    assert query.ask(QueryRequest(crop=crop)).threshold == 0.4
    assert query.ask(QueryRequest(crop=crop, threshold=0.7)).threshold == 0.7


def test_a_crop_of_a_keyframe_finds_what_it_shows(map_query):
    answer = map_query.ask(QueryRequest(crop=KeyframeCrop(0, 12, 12, 20, 10)))
    assert at(answer.hits[0], 'mug') and answer.hits[0].label == 'keyframe 0'


@pytest.mark.parametrize('request_', [
    QueryRequest(crop=KeyframeCrop(1, 0, 0, 20, 20)),      # there is only keyframe 0
    QueryRequest(crop=KeyframeCrop(0, 50, 0, 20, 20)),     # out over the right side of 64 pixels
    QueryRequest(crop=KeyframeCrop(0, 0, 0, 3, 20)),       # too narrow to show anything
    QueryRequest(image=np.zeros((20, 20), np.uint8)),
    QueryRequest(image=np.zeros((20, 20, 3), np.float32))])
def test_a_picture_that_does_not_exist_is_named(map_query, request_):
    with pytest.raises(BadImageError):
        map_query.ask(request_)


def test_an_encoder_without_an_image_tower_is_named(map_query, monkeypatch):
    def refuses(*_):
        raise TypeError('reads labels only')
    monkeypatch.setattr(WordEncoder, 'encode_images', refuses)
    with pytest.raises(EncoderUnavailableError, match='reads no pictures'):
        map_query.ask(QueryRequest(image=np.zeros((20, 20, 3), np.uint8)))


def test_requests_are_refused_in_words(tmp_path, map_query):
    with pytest.raises(EmptyTextError):
        map_query.ask(QueryRequest())
    with pytest.raises(NoSnapshotError):
        MapQuery(tmp_path / 'empty').ask(QueryRequest('mug'))


def test_a_snapshot_that_comes_while_a_query_runs_does_not_mix_with_the_old_one(tmp_path):
    class RefreshingEncoder(WordEncoder):
        def encode_texts(self, texts):
            if query.snapshot_id == 1:      # in the middle of the first answer
                moved = cube_index({'mug': ((0.5, 0.5, 0.05), 0.1)})
                query.directory.write_snapshot(
                    {'index': moved.arrays()}, {'stamp_ns': 9, 'encoder': {'name': 'words'}}, 2)
                assert query.refresh() and query.snapshot_id == 2
            return super().encode_texts(texts)

    query = MapQuery(write_map(tmp_path / 'map'), encoder=RefreshingEncoder())
    query.refresh()
    old, new = query.ask(QueryRequest('mug')), query.ask(QueryRequest('mug'))
    assert (old.snapshot_id, old.snapshot_stamp_ns, len(old.points_world)) == (1, 5, 2248)
    assert (new.snapshot_id, new.snapshot_stamp_ns, len(new.points_world)) == (2, 9, 1816)
    assert old.hits[0].position[0] < 0.1 < new.hits[0].position[0]


# What the map is, and under which settings it answers -------------------------------------------

def test_a_map_that_is_younger_than_its_keyframes_says_so(tmp_path):
    query = MapQuery(write_map(tmp_path))
    info = {'stamp_ns': 5, 'encoder': {'name': 'words'}, 'steps': 12, 'settled': True}

    def learning(**more):
        query.directory.write_snapshot({'index': cube_index(CUBES).arrays()}, {**info, **more}, 2)
        query.refresh()
        return query.ask(QueryRequest('mug')).learning
    assert learning(learned_until=1) == ''      # keyframe 0 is the only one
    assert '1 stored keyframes are not in it yet (12 steps' in learning(learned_until=0)
    assert 'training.settle_steps (12 steps' in learning(learned_until=1, settled=False)
    answer = query.ask(QueryRequest('mug'))
    assert summary(answer).endswith(answer.learning) and answer.learning in summary(
        replace(answer, hits=(), presence=Presence.ABSENT))


def test_keyframes_that_come_after_the_snapshot_are_noticed(tmp_path):
    query = MapQuery(write_map(tmp_path))
    query.directory.write_snapshot({'index': cube_index(CUBES).arrays()}, {
        'stamp_ns': 5, 'encoder': {'name': 'words'}, 'steps': 1, 'learned_until': 1}, 2)
    assert query.refresh() and not query.ask(QueryRequest('mug')).learning
    image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    query.directory.keyframes.add(Keyframe(1, Frame(1, image, CAMERA, np.eye(4))))
    assert not query.refresh() and 'still learning' in query.ask(QueryRequest('mug')).learning


@pytest.mark.parametrize(('candidate', 'words'), [
    (0.61, 'the best place has relevancy 0.61, threshold 0.68'),
    (0.6798, 'the best place has relevancy 0.6798, threshold 0.6800'),
    (0.70, 'the best place has relevancy 0.70, but 12 points, fewer than the 20 that a hit needs'),
    (None, 'no place of 40 points or more fits it better')])
def test_the_number_that_decided_is_the_one_that_is_told(candidate, words):
    place = None if candidate is None else Hit(np.zeros(3), np.eye(3), np.ones(3), candidate, 0.1,
                                               12, 5)
    assert words in why_not_found(place, 0.68, 20)


def test_a_place_of_points_enough_is_not_said_to_have_too_few():
    place = Hit(np.zeros(3), np.eye(3), np.ones(3), 0.92, 0.1, 26, 5)
    assert why_not_found(place, 0.76, 20) == (
        'the best place has relevancy 0.92, but fewer than the 20 points that a hit needs reach '
        '0.76 (query.min_points)')


def test_a_few_relevant_points_are_not_told_as_a_relevancy_that_was_reached(tmp_path):
    """Ten points of 1.00 are no place; the threshold is not what they failed at."""
    index = cube_index({'mug': ((0.0, 0.0, 0.05), 0.1)})
    few = np.r_[0:10, 216:len(index.points_world)]
    few_points = replace(index, **{field.name: getattr(index, field.name)[few] for field in fields(
        index) if len(np.shape(getattr(index, field.name))) and len(
            getattr(index, field.name)) == len(index.points_world)}, codes=index.codes[:, few])
    query = MapQuery(write_map(tmp_path, few_points))
    query.refresh()
    answer = query.ask(QueryRequest('mug'))
    assert not answer.found and answer.relevancy.max() > 0.9
    assert 'no place of 40 points' in summary(answer) and '1.00' not in summary(answer)


def test_what_was_given_by_name_wins_over_the_map_and_that_over_the_defaults(tmp_path):
    folder = write_map(tmp_path)
    meta = json.loads((folder / 'meta.json').read_text())
    meta['config']['query']['threshold'], meta['config']['query']['max_hits'] = 0.75, 2
    (folder / 'meta.json').write_text(json.dumps(meta))
    query = MapQuery(folder, {'query.max_hits': 3})
    assert query.refresh()
    assert query.ask(QueryRequest('mug')).threshold == 0.75
    assert {query.settings()[name] for name in ('query.max_hits', 'query.min_points')} == {3, 20}
    query.change({'query.threshold': 0.9, 'grasp.max_opening': 0.05, 'grasp.finger_depth': 0.03})
    answer = query.ask(QueryRequest('mug'))
    assert answer.threshold == 0.9 and answer.finger_depth == 0.03
    assert (query.settings()['grasp.max_opening'], query.settings()['query.max_hits']) == (0.05, 3)


@pytest.mark.parametrize(('settings', 'message'), [
    ({'training.rays': 64}, 'no answer depends on it'), ({'query.treshold': 0.5}, 'did you mean'),
    ({'query.threshold': 2.0}, 'must lie between')])
def test_settings_that_answers_do_not_have_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        MapQuery(tmp_path, settings)
    with pytest.raises(ConfigError, match=message):
        MapQuery(tmp_path).change(settings)


def test_a_folder_that_does_not_exist_is_said_so(tmp_path):
    query = MapQuery(tmp_path / 'nowhere')
    assert not query.refresh()
    with pytest.raises(NoSnapshotError, match='nowhere, the folder does not exist'):
        query.ask(QueryRequest('mug'))
