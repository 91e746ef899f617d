# SPDX-License-Identifier: Apache-2.0
"""A survey that keeps what has not changed is the survey from scratch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros import lerf
from lerf_ros.index.surface import Surface
from lerf_ros.index.survey import COLOR, EVERY, SeenView, ViewCache
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory

# Each view's grid is every pixel, however many views there are.
CONFIG = SMALL.override({'index.rays': 10**7, 'index.max_points': 3000})
POSES = orbit(10)


@pytest.fixture(scope='module')
def mapper(tmp_path_factory):
    mapper = Mapper(CONFIG, MapDirectory(tmp_path_factory.mktemp('map'), True), ColorEncoder(),
                    'map', True)
    for T in POSES[:8]:
        mapper.add_frame(photograph(T))
    for _ in range(60):
        mapper.guard.step()
    return mapper


def survey(mapper, memory=None):
    trainer = mapper.trainer
    return lerf.index(trainer.radiance.field, trainer.language.mean_field, mapper.cameras(),
                      trainer.scene, trainer.language.trained_scales(), CONFIG, None, memory)


def assert_same(ours, theirs):
    for name, arrays in ours.arrays().items():
        # Open3D's threads look for planes in an order of their own.
        for key in arrays.keys() - {'planes', 'segments'}:
            values = arrays[key]
            np.testing.assert_array_equal(values, theirs.arrays()[name][key], f'{name} {key}')
    np.testing.assert_array_equal(ours.weak_areas, theirs.weak_areas)


def test_only_what_changed_is_rendered_and_the_answers_are_those_from_scratch(mapper):
    memory = ViewCache()
    first = survey(mapper, memory)
    assert memory.renewed == len(mapper.learned) == 8
    assert_same(survey(mapper, memory), first)
    assert memory.renewed == 0
    for T in POSES[8:]:
        mapper.add_frame(photograph(T))
    assert_same(survey(mapper, memory), survey(mapper))
    assert memory.renewed == 2
    mapper.move_keyframes({})
    moved = mapper.learned[0].T_world_camera.copy()
    moved[:3, 3] += 0.01
    mapper.learned._table[0] = replace(mapper.learned[0], T_world_camera=moved)
    assert_same(survey(mapper, memory), survey(mapper))
    assert memory.renewed == 1
    # One keyframe is forgotten: nothing of it is left.
    del mapper.learned._table[3]
    assert_same(survey(mapper, memory), survey(mapper))
    assert memory.renewed == 0


def test_a_field_that_looks_different_is_rendered_anew(mapper):
    memory = ViewCache()
    survey(mapper, memory)
    with torch.no_grad():
        mapper.trainer.radiance.field.color_network[-1].bias += 1.0
    assert_same(survey(mapper, memory), survey(mapper))
    assert memory.renewed == len(mapper.learned)


@pytest.mark.parametrize('share, voxels, color, same', [
    (1.0, 0.4, 0.0, True), (1.0, 0.6, 0.0, False),     # the median may move by half a voxel
    (0.09, 3.0, 0.0, True), (0.12, 3.0, 0.0, False),   # a tenth may move far
    (0.0, 0.0, 0.9 * COLOR, True), (0.0, 0.0, 1.1 * COLOR, False)])
def test_how_much_a_view_may_change(share, voxels, color, same):
    count = 200
    points = torch.rand(count * EVERY, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    one = torch.ones(count * EVERY, 1)
    ends = Surface(points, points, points, one, one, torch.full_like(points, 0.5), one[:, 0])
    seen = SeenView(ends, one[:, 0], ends, np.zeros((1, 1)))
    asked = ends[::EVERY]
    moved = asked.points.clone()
    moved[:round(share * count), 0] += voxels * CONFIG.index.voxel
    asked = replace(asked, points=moved, colors=asked.colors + color)
    assert seen.still_true(asked, one[::EVERY, 0], CONFIG.index) is same
    clear = one[::EVERY, 0].clone()
    clear[:round(0.12 * count)] = 0.5      # of which light now passes
    assert not seen.still_true(ends[::EVERY], clear, CONFIG.index)
