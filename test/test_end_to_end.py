# SPDX-License-Identifier: Apache-2.0
"""The core from posed images to places, on a tiny world with an encoder that cannot be wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import COLORS, CUBES, ColorEncoder, orbit, photograph

import lerf_ros.map_query
from lerf_ros.config import IndexConfig, LerfConfig
from lerf_ros.evaluation.variants import untrained_index
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.map_looks import MapLooks
from lerf_ros.query.text_query import TextQuery
from lerf_ros.storage.map_directory import MapDirectory

SMALL = LerfConfig().override({
    'field': {'levels': 8, 'max_resolution': 128, 'log2_table': 14, 'hidden': 32,
              'color_hidden': 32, 'proposal_samples': [32], 'samples': 16,
              'proposal_log2_table': 14},
    'language': {'levels': [4], 'max_resolutions': [64], 'log2_table': 13, 'hidden': 32},
    'training': {'rays': 256, 'language_rays': 128, 'decay_steps': 300, 'language_decay_steps': 300,
                 'settle_steps': 0,
                 'device': 'cpu', 'newest_count': 4},
    'features': {'widths': [0.1]},
    'index': {'rays': 8000, 'scales': 1, 'rank': 9, 'voxel': 0.02, 'look_views': 3},
    'query': {'cluster_radius': 0.08, 'min_points': 5}})


def mapped(folder, frames, config=SMALL, steps_each=0, steps=250):
    """A mapper fed with frames, trained after each and at the end, with a snapshot."""
    mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    return feed(mapper, frames, steps_each, steps)


def feed(mapper, frames, steps_each, steps):
    """Gives a mapper frames, trains after each and at the end, and writes a snapshot."""
    for frame in frames:
        mapper.add_frame(frame)
        for _ in range(steps_each if mapper.ready else 0):
            mapper.guard.step()
    for _ in range(steps):
        mapper.guard.step()
    mapper.snapshot()
    return mapper


@pytest.fixture(autouse=True)
def color_encoder(monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: ColorEncoder())


@pytest.fixture(scope='module')
def rgbd_map(tmp_path_factory):
    folder = tmp_path_factory.mktemp('rgbd')
    return mapped(folder, [photograph(T) for T in orbit(18)]), folder


def assert_in_cube(answer, name, margin=0.05):
    low, high = CUBES[name]
    assert answer.found, name
    position = answer.hits[0].position
    assert (position >= np.array(low) - margin).all(), (name, position)
    assert (position <= np.array(high) + margin).all(), (name, position)


def query_of(folder):
    query = MapQuery(folder)
    assert query.refresh()
    return query


def test_every_cube_is_found_in_its_place(rgbd_map):
    query = query_of(rgbd_map[1])
    for name in COLORS:
        assert_in_cube(query.answer(name), name)


def test_a_hit_names_the_keyframes_that_show_it(rgbd_map):
    """Of three cubes of 20 pixels, two at least are cut out well enough."""
    mapper, folder = rgbd_map
    query, seen = query_of(folder), 0
    for name, color in COLORS.items():
        views = query.answer(name).hits[0].confirmed_by
        assert [v.relevancy for v in views] == sorted((v.relevancy for v in views), reverse=True)
        for view in views[:1]:
            x0, y0, x1, y1 = view.box
            image = mapper.directory.keyframes.read(view.keyframe).frame.image
            shown = image[round((y0 + y1) / 2), round((x0 + x1) / 2)]
            seen += shown.tolist() == list(color)
    assert seen >= 2


def test_a_hit_knows_when_it_was_last_seen(rgbd_map):
    """Each cube is in the last third of the pictures, whose stamps are those of the frames."""
    mapper, folder = rgbd_map
    files = mapper.directory.keyframes
    for name in COLORS:
        hit = query_of(folder).answer(name).hits[0]
        assert hit.last_keyframe >= files.indices()[-6]
        assert hit.last_seen_ns == files.pose(hit.last_keyframe)[0]


def test_second_looks_of_a_keyframe_that_is_gone_are_left_out(rgbd_map):
    mapper = rgbd_map[0]
    assert mapper.looks.picture(0)[0].shape == (72, 96, 3)
    assert mapper.looks.picture(10**6) is None
    assert MapLooks(ColorEncoder().encode_images, mapper.directory.keyframes,
                    IndexConfig(look_views=0)).within(True) is None


def test_what_is_not_there_is_not_found(rgbd_map):
    answer = query_of(rgbd_map[1]).answer('purple')
    assert not answer.found
    assert answer.hits == ()
    assert answer.T_world_target is None


def test_held_out_quality_is_measured(rgbd_map):
    quality = rgbd_map[0].quality
    assert quality.psnr > 17          # a grey image of this world reaches about 14 dB
    assert quality.depth_error < 0.02


def test_index_points_lie_on_surfaces(rgbd_map):
    points = query_of(rgbd_map[1]).answer('red').points_world
    near = points[np.abs(points[:, :2]).max(1) < 0.5]
    on_floor = np.abs(near[:, 2]) < 0.03
    in_cube = np.zeros(len(near), bool)
    for low, high in CUBES.values():
        in_cube |= ((near >= np.array(low) - 0.03) & (near <= np.array(high) + 0.03)).all(1)
    assert len(near) > 300
    assert (on_floor | in_cube).mean() > 0.95


def test_an_untrained_language_field_finds_nothing_right(rgbd_map):
    config = SMALL.query
    index = untrained_index(rgbd_map[1], rays=4000)
    radius = rgbd_map[0].trainer.scene.radius
    query = TextQuery(index, ColorEncoder(), config, radius)
    right = 0
    for name, (low, high) in CUBES.items():
        hits = [place.hit for place in
                query.places(*query.relevancy(name), 0.68, 1)]
        right += bool(hits) and bool(((hits[0].position > low) & (hits[0].position < high)).all())
    assert right <= 1


def test_colour_alone_is_enough(tmp_path):
    frames = [photograph(T, with_depth=False) for T in orbit(24)]
    config = SMALL.override({'scene.keyframes': 24, 'training.newest_fraction': 0.0})
    mapper = mapped(tmp_path, frames, config, steps=400)
    assert math.isnan(mapper.quality.depth_error)
    query = query_of(tmp_path)
    for name in COLORS:
        assert_in_cube(query.answer(name), name, margin=0.08)


def test_what_was_mapped_first_is_still_right_at_the_end(tmp_path):
    """The first views show the red cube from near; later ones never see it again."""
    cube = {name: np.mean(CUBES[name], 0) for name in CUBES}
    poses = orbit(36)
    towards = [T for T in poses if T[:3, 2] @ (cube['red'] - T[:3, 3]) > 0]
    first = towards[::3]
    later = []
    for T in poses[::2]:
        frame = photograph(T)
        red = np.abs(frame.image.astype(int) - COLORS['red']).max(-1) < 30
        # The robot's own arm hides the red cube: masked, so that nothing is learned of it.
        later.append(replace(frame, valid=~np.asarray(
            [np.convolve(row, np.ones(9), 'same') > 0 for row in red.astype(float)])))
    frames = [photograph(T) for T in first] + later
    mapped(tmp_path, frames, steps_each=15, steps=50)
    assert_in_cube(query_of(tmp_path).answer('red'), 'red')


def test_training_from_one_seed_gives_the_same_field(tmp_path):
    frames = [photograph(T) for T in orbit(6)]
    first, second = (mapped(tmp_path / name, frames, steps=5) for name in ('a', 'b'))
    fields = [mapper.trainer.radiance.field for mapper in (first, second)]
    for a, b in zip(*(field.parameters() for field in fields), strict=True):
        assert torch.equal(a, b)
