# SPDX-License-Identifier: Apache-2.0
"""Answers end in grasps: a narrow plate on a table, in a map that is metric or not."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import WordEncoder, axis, plain_index, write_map
from test_grasping import box, joined, table

from lerf_ros.grasping.planner import NOT_METRIC, TOO_WIDE
from lerf_ros.map_query import MapQuery
from lerf_ros.query.request import QueryRequest

SIZE = (0.12, 0.04, 0.10)   # of the plate: only across y is it narrower than the gripper opens


@pytest.fixture(scope='module')
def index():
    points, normals, members = joined(box(SIZE), table(hole=SIZE[:2]))
    plate = np.isin(np.arange(len(points)), members)
    codes = np.where(plate[:, None], axis('plate'), axis('floor'))[None].astype(np.float32)
    made = plain_index(points, codes, plate.astype(int), np.array([0.1], np.float32))
    return replace(made, normals=normals.astype(np.float16))


def ask(folder, index, metric=True, grasp=None, **request):
    query = MapQuery(write_map(folder, index, metric), settings=grasp, encoder=WordEncoder())
    query.refresh()
    return query.ask(QueryRequest('plate', **request))


def test_the_target_is_the_best_grasp_across_the_narrow_side(tmp_path, index):
    answer = ask(tmp_path, index)
    assert answer.found and answer.grasps and not answer.no_target_reason
    assert answer.T_world_target is answer.grasps[0].T_world_grasp
    closing = answer.T_world_target[:3, 1]
    assert abs(closing[1]) > np.cos(np.radians(30))
    assert np.abs(answer.T_world_target[:3, 3] - answer.hits[0].position).max() < 0.07
    assert answer.timing.grasp > 0


def test_without_a_grasp_the_reason_is_given(tmp_path, index):
    answer = ask(tmp_path, index, grasp={'grasp.max_opening': 0.02})
    assert answer.found and answer.T_world_target is None
    assert answer.no_target_reason == TOO_WIDE


def test_a_map_without_metres_is_not_grasped_in(tmp_path, index):
    answer = ask(tmp_path, index, metric=False)
    assert answer.found and not answer.grasps and answer.T_world_target is None
    assert answer.no_target_reason == NOT_METRIC


def test_no_grasp_is_planned_when_none_is_asked_for(tmp_path, index):
    answer = ask(tmp_path, index, plan_grasps=False)
    assert answer.found and answer.T_world_target is None and not answer.no_target_reason
