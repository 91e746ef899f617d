# SPDX-License-Identifier: Apache-2.0
"""Where the map frame's origin is makes no difference: answers move with it, to the digit."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import CUBES, WordEncoder, cube_index, write_map
from hypothesis import given, settings
from hypothesis import strategies as st

from lerf_ros.config import QueryConfig
from lerf_ros.geometry.region import Region
from lerf_ros.index.language_index import LanguageIndex, shifted_planes
from lerf_ros.map_query import MapQuery
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.search import inside_region
from lerf_ros.query.text_query import TextQuery

UTM = np.array([388096.0, 5948996.0, 50.0])
SHIFTS = st.tuples(*[st.floats(-1e7, 1e7)] * 3).map(np.array)
INDEX = cube_index(CUBES)


def hits_of(index):
    query = TextQuery(index, WordEncoder(), QueryConfig(), 1.0)
    return [place.hit for place in query.places(*query.relevancy('mug'), 0.6, 3)]


def at(index, shift):
    return replace(index, origin=index.origin + shift)


@settings(max_examples=40, deadline=None)
@given(SHIFTS)
def test_hits_move_with_the_map_frame(shift):
    (here,), (there,) = hits_of(INDEX), hits_of(at(INDEX, shift))
    np.testing.assert_allclose(there.position - shift, here.position, atol=1e-6, rtol=0)
    assert (there.size == here.size).all() and (there.rotation == here.rotation).all()
    assert there.points == here.points == 216


@settings(max_examples=40, deadline=None)
@given(SHIFTS, SHIFTS)
def test_stored_points_are_those_of_the_world_to_a_part_in_a_million(shift, noise):
    index = at(INDEX, shift)
    again = LanguageIndex.from_arrays(index.arrays())
    assert again.points.dtype == np.float32 and again.points_world.dtype == np.float64
    np.testing.assert_allclose(again.points_world, index.points_world, atol=1e-6, rtol=0)
    np.testing.assert_allclose(again.points, index.points, atol=1e-6, rtol=0)
    np.testing.assert_allclose(again.planes, index.planes, atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(SHIFTS)
def test_a_region_moves_with_the_map_frame(shift):
    T = np.eye(4)
    T[:3, 3] = shift + (0.0, 0.0, 0.05)
    inside = inside_region(at(INDEX, shift), Region(T, np.array([0.12, 0.12, 0.12])))
    # The cube of the mug, and those points of the floor (0.051 apart) within 0.06 of its middle.
    assert inside[:216].all() and not inside[216:3 * 216].any()
    assert inside[3 * 216:].sum() == 4


def test_shifted_planes_hold_the_shifted_points():
    plane = np.array([[0.6, 0.0, 0.8, -0.5]])
    point = np.array([0.5, 7.0, 0.25])      # 0.3 + 0.2 - 0.5 = 0
    moved = shifted_planes(plane, UTM)[0]
    assert moved[:3] @ (point + UTM) + moved[3] == pytest.approx(0.0, abs=1e-8)


def test_a_map_in_utm_coordinates_is_answered_and_grasped_as_one_at_the_origin(tmp_path):
    answers = []
    for name, shift in (('here', np.zeros(3)), ('utm', UTM)):
        query = MapQuery(write_map(tmp_path / name, at(INDEX, shift)), encoder=WordEncoder())
        assert query.refresh()
        answers.append(query.ask(QueryRequest('mug')))
    here, utm = answers
    np.testing.assert_allclose(utm.hits[0].position - UTM, here.hits[0].position, atol=1e-6)
    np.testing.assert_allclose(utm.hits[0].size, here.hits[0].size, atol=1e-6)
    np.testing.assert_allclose(utm.points_world - UTM, here.points_world, atol=1e-6)
    assert len(utm.grasps) == len(here.grasps)
    for moved, grasp in zip(utm.grasps, here.grasps, strict=True):
        np.testing.assert_allclose(moved.T_world_grasp[:3, 3] - UTM, grasp.T_world_grasp[:3, 3],
                                   atol=1e-5)


def test_an_index_of_an_earlier_version_still_loads():
    arrays = INDEX.arrays()
    old = {**{name: arrays[name] for name in arrays if name != 'origin'},
           'points_world': arrays['points_world'].astype(np.float32)}
    index = LanguageIndex.from_arrays(old)
    np.testing.assert_allclose(index.points_world, INDEX.points_world, atol=1e-6)
    (hit,), (expected,) = hits_of(index), hits_of(INDEX)
    np.testing.assert_allclose(hit.position, expected.position, atol=1e-6)


def test_a_cloud_that_single_precision_makes_coarse_says_so(tmp_path):
    clouds = pytest.importorskip('lerf_ros.nodes.common.conversions.clouds',
                                reason='ROS is not here')
    for name, shift, coarse in (('here', np.zeros(3), False), ('utm', UTM, True),
                                # Below 2 ** 15 floats are 1/512 apart, so off by 1 mm at most.
                                ('near', np.array([30000.0, 0.0, 0.0]), False),
                                ('far', np.array([70000.0, 0.0, 0.0]), True)):
        query = MapQuery(write_map(tmp_path / name, at(INDEX, shift)), encoder=WordEncoder())
        query.refresh()
        note = clouds.rounding_note(query.ask(QueryRequest('mug')))
        assert bool(note) == coarse and ('frame_id' in note) == coarse
