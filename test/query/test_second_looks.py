# SPDX-License-Identifier: Apache-2.0
"""What second looks change in an answer, and which keyframes a hit names for it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_made_map import CONFIG, CUBES, WordEncoder, axis, cube_index, write_map

from lerf_ros.geometry.region import Region
from lerf_ros.index.language_index import as_stored, as_tensor
from lerf_ros.index.looks import SecondLooks
from lerf_ros.map_query import MapQuery
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.second_look import LookScorer, combined

SEGMENTS = {word: k + 1 for k, word in enumerate(CUBES)}
ONE_BEATS_ALL = 1 / (1 + math.exp(-CONFIG.query.temperature))     # a margin of 1


def looks_of(*shown):
    """Looks (segment's word, keyframe, what it shows), each with a box that tells the keyframe."""
    rows = sorted((SEGMENTS[thing], keyframe, axis(word)) for thing, keyframe, word in shown)
    return SecondLooks(np.array([r[0] for r in rows], np.int32),
                       np.array([r[1] for r in rows], np.int32),
                       np.array([[0, 0, 10, r[1]] for r in rows], np.float32),
                       np.array([r[2] for r in rows], np.float16))


def asked(folder, looks, text, **request):
    return asked_of(folder, replace(cube_index(CUBES), looks=looks), text, **request)


def test_a_hit_names_the_keyframes_that_confirm_it_best_first(tmp_path):
    looks = looks_of(('mug', 3, 'mug'), ('mug', 5, 'ball'), ('plate', 7, 'mug'))
    best = asked(tmp_path, looks, 'mug').hits[0]
    assert best.position == pytest.approx(CUBES['mug'][0], abs=0.01)
    # Keyframe 5 shows something else there, and 7 another thing.
    assert [(view.keyframe, view.box) for view in best.confirmed_by] == [(3, (0, 0, 10, 3))]
    assert best.confirmed_by[0].relevancy == pytest.approx(ONE_BEATS_ALL)
    assert asked(tmp_path / 'without', SecondLooks(), 'mug').hits[0].confirmed_by == ()


def test_what_finds_more_in_a_thing_counts_three_times_as_much(tmp_path):
    # The field is sure (a margin of 1), the look says that it is as much a mug as an object.
    half = looks_of(('mug', 3, 'plate'))
    answer = asked(tmp_path, half, 'mug')
    field = asked(tmp_path / 'field', SecondLooks(), 'mug')
    assert field.hits[0].relevancy == pytest.approx(ONE_BEATS_ALL, abs=1e-4)
    assert answer.hits[0].relevancy == pytest.approx(
        1 / (1 + math.exp(-CONFIG.query.temperature * 3 / 4)), abs=1e-4)
    np.testing.assert_array_equal(answer.relevancy, field.relevancy)    # the cloud is the field's


def test_second_looks_can_be_turned_off(tmp_path):
    index = replace(cube_index(CUBES), looks=looks_of(('mug', 3, 'plate')))
    query = MapQuery(write_map(tmp_path, index), {'query.look_weight': 0.0}, encoder=WordEncoder())
    query.refresh()
    assert query.answer('mug').hits[0].relevancy == pytest.approx(ONE_BEATS_ALL, abs=1e-4)


def test_nothing_is_found_outside_of_the_region_whatever_looks_say(tmp_path):
    around = np.eye(4)
    around[:3, 3] = CUBES['plate'][0]
    answer = asked(tmp_path, looks_of(('mug', 3, 'mug')), 'mug',
                   region=Region(around, np.full(3, 0.2)))
    assert answer.hits == ()


def test_only_the_points_of_a_thing_move():
    values = np.array([0.6, 0.6, 0.6, 0.0, 0.9])
    segments = [np.array([4]), np.array([0, 1, 3])]
    out = combined(values, segments, np.array([np.nan, 0.9]), 0.5, 0.1)
    assert out[2] == 0.6 and out[3] == 0.0 and out[4] == 0.9
    odds = math.sqrt(0.6 / 0.4 * 0.9 / 0.1)
    assert out[:2] == pytest.approx(odds / (1 + odds))
    # A look that finds less moves them a third as much: from .6 towards .1 by a sixth.
    lower = combined(values, segments, np.array([np.nan, 0.1]), 0.5, 0.1)
    odds = (0.6 / 0.4) ** (5 / 6) * (0.1 / 0.9) ** (1 / 6)
    assert lower[:2] == pytest.approx(odds / (1 + odds))
    np.testing.assert_array_equal(values, [0.6, 0.6, 0.6, 0.0, 0.9])    # not changed in place


def test_looks_at_one_thing_are_averaged_before_they_are_compared():
    looks = looks_of(('mug', 3, 'mug'), ('mug', 5, 'ball'))
    scorer = LookScorer(looks, 4, CONFIG.query.temperature)
    looked = scorer.of(np.stack([axis('mug')]), np.stack([axis('object')]))
    # The mean of two axes at right angles has a cosine of 1 / sqrt(2) to each.
    assert looked.segments[0, SEGMENTS['mug']] == pytest.approx(
        1 / (1 + math.exp(-CONFIG.query.temperature / math.sqrt(2))), abs=1e-4)
    assert np.isnan(looked.segments[0, [0, 2, 3]]).all()
    assert looked.views[0] == pytest.approx([ONE_BEATS_ALL, 0.5], abs=1e-4)


def test_spill_of_a_thing_that_is_refused_is_no_place(tmp_path):
    """The field likes the mug and the floor around it; the looks show that it is no ball."""
    index = cube_index(CUBES)
    codes = as_tensor(index.codes).float().numpy().copy()
    middle = np.array(CUBES['mug'][0])
    around = (np.abs(index.points - middle)[:, :2].max(1) < 0.2) & (index.segments == 0)
    assert around.sum() > CONFIG.query.min_points
    for points, margin in ((index.segments == SEGMENTS['mug'], 0.12), (around, 0.1)):
        codes[0, points] = unit(axis('floor') + margin * axis('ball'))
    only = replace(index, codes=as_stored(torch.from_numpy(codes[:, index.segments != 3])),
                   **{name: getattr(index, name)[index.segments != 3] for name in
                      ('points', 'colors', 'keyframes', 'normals', 'segments')})
    field = asked_of(tmp_path / 'field', only, 'ball')
    assert len(field.hits) == 1 and at(field.hits[0], 'mug')
    refused = asked_of(tmp_path / 'looks', replace(only, looks=looks_of(('mug', 3, 'object'))),
                       'ball')
    assert refused.hits == ()


def unit(row):
    return row / np.linalg.norm(row)


def at(hit, word):
    return np.abs(hit.position - CUBES[word][0])[:2].max() < 0.05


def asked_of(folder, index, text, **request):
    # The floor has a point every 5 cm.
    query = MapQuery(write_map(folder, index), {'query.cluster_radius': 0.08},
                     encoder=WordEncoder())
    query.refresh()
    return query.ask(QueryRequest(text, plan_grasps=False, **request))
