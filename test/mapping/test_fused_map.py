# SPDX-License-Identifier: Apache-2.0
"""A map without a field (training.field none): made without training, asked like any other."""

from dataclasses import replace

import numpy as np
import pytest
from test_end_to_end import SMALL, assert_in_cube, query_of
from tiny_world import COLORS, CUBES, ColorEncoder, orbit, photograph

from lerf_ros import cli
from lerf_ros.errors import ConfigError, MapUnreadableError
from lerf_ros.frames.frame import Keyframe
from lerf_ros.mapper import Mapper
from lerf_ros.mapping import fused_map
from lerf_ros.mapping.fused_map import FusedMap
from lerf_ros.mapping.reindex import open_stored_map
from lerf_ros.mapping.saving import SnapshotSchedule
from lerf_ros.query.answer import Presence
from lerf_ros.storage.map_directory import MapDirectory

NONE = SMALL.override({'training.field': 'none'})
FRAMES = [photograph(T, i) for i, T in enumerate(orbit(10))]


def opened(folder, config=NONE):
    return Mapper.open(folder, config, True, ColorEncoder())


@pytest.fixture(autouse=True)
def queries_use_the_same_encoder(monkeypatch):
    for place in ('lerf_ros.map_query', 'lerf_ros.encoders.image_text'):
        monkeypatch.setattr(f'{place}.load_encoder', lambda *_, **__: ColorEncoder())


@pytest.fixture(scope='module')
def fused(tmp_path_factory):
    """The folder of a map of the tiny world, and what made it."""
    folder = tmp_path_factory.mktemp('fused') / 'map'
    mapper = opened(folder)
    assert mapper.learn(FRAMES, 2000) == 1
    return folder, mapper


def test_every_cube_is_found_and_nothing_else(fused):
    query = query_of(fused[0])
    for name in COLORS:
        assert_in_cube(query.answer(name), name, 0.03)
    assert query.answer('purple').presence == Presence.ABSENT


def test_points_are_measured_ones(fused):
    points = query_of(fused[0]).snapshot.query.index.points_world
    # The floor is at z = 0, the cubes end at 0.2; depth is exact.
    assert len(points) > 500
    assert points[:, 2].min() > -1e-3 and points[:, 2].max() < 0.2 + 1e-3
    low, high = (np.array([corners[k] for corners in CUBES.values()]) for k in (0, 1))
    inside = ((points[:, None] > low + 0.01) & (points[:, None] < high - 0.01)).all(-1)
    assert not inside.any()


def test_second_looks_are_taken_at_what_depth_shows(fused):
    # SMALL asks for three looks at each thing.
    hit = query_of(fused[0]).answer('green').hits[0]
    assert hit.confirmed_by and all(view.relevancy > 0.5 for view in hit.confirmed_by)


def test_what_needs_a_field_says_so(fused):
    folder = fused[0]
    assert 'field.safetensors' not in MapDirectory(folder).newest().info['files']
    with pytest.raises(MapUnreadableError, match=r'without a field \(training.field none\)'):
        open_stored_map(folder)


def test_it_goes_on_after_a_restart_with_what_is_new_alone(fused):
    folder, _ = fused
    again = opened(folder)
    assert isinstance(again, FusedMap) and len(again.learned) == len(FRAMES)
    saving = SnapshotSchedule(again, replace(NONE.map, snapshot_interval=1.0))
    saving.snapshot()
    assert MapDirectory(folder).newest().number == 1       # nothing is new
    again.add_frame(photograph(orbit(3, 0.5)[1], 99))
    saving.snapshot()
    assert MapDirectory(folder).newest().info['keyframes'] == len(FRAMES) + 1
    with pytest.raises(ConfigError, match=r'training\.field'):
        opened(folder, SMALL)


def test_a_thing_that_has_gone_is_not_found_any_more(tmp_path):
    left = {name: box for name, box in CUBES.items() if name != 'red'}
    mapper = opened(tmp_path / 'map')
    mapper.learn(FRAMES, 1)
    assert query_of(tmp_path / 'map').answer('red').found
    mapper.learn([photograph(T, 100 + i, cubes=left) for i, T in enumerate(orbit(10, 0.1))], 1)
    query = query_of(tmp_path / 'map')
    assert not query.answer('red').found
    assert_in_cube(query.answer('blue'), 'blue', 0.03)


def test_it_rests_when_no_keyframe_comes(tmp_path, monkeypatch):
    mapper = opened(tmp_path / 'map')
    assert not mapper.ready and mapper.snapshot() == 0
    for frame in FRAMES[:4]:
        mapper.add_frame(frame)
    assert mapper.ready and not mapper.settled and mapper.seconds_to_settle() > 0
    monkeypatch.setattr(fused_map, 'REST_S', -1.0)     # as if it had passed
    assert mapper.settled and mapper.seconds_to_settle() == 0


def test_looks_that_a_snapshot_has_no_time_for_follow_at_rest(tmp_path, monkeypatch):
    mapper = opened(tmp_path / 'map', NONE.override({'index.look_seconds': 0.0}))
    saving = SnapshotSchedule(mapper, mapper.config.map)
    for frame in FRAMES:
        mapper.add_frame(frame)
    saving.snapshot()
    assert query_of(tmp_path / 'map').answer('green').hits[0].confirmed_by == ()
    assert mapper.looks.looker.left and saving.snapshot_id == 1
    monkeypatch.setattr(fused_map, 'REST_S', -1.0)
    saving.tick()               # nothing has come, but there is more to look at
    assert query_of(tmp_path / 'map').answer('green').hits[0].confirmed_by
    assert not mapper.looks.looker.left
    saving.tick()
    assert saving.snapshot_id == 2


def test_the_time_of_a_snapshot_is_no_rest(tmp_path, monkeypatch):
    mapper = opened(tmp_path / 'map')
    for frame in FRAMES:
        mapper.add_frame(frame)
    looked = mapper.looks.within(everything=True)

    def slow(*arguments):
        passed[0] = 60.0
        return looked(*arguments)
    passed, now = [0.0], fused_map.time.monotonic
    monkeypatch.setattr(fused_map.time, 'monotonic', lambda: now() + passed[0])
    monkeypatch.setattr(mapper.looks, 'within', lambda everything: slow)
    mapper.snapshot()
    assert passed[0] == 60.0 and not mapper.settled
    passed[0] = 60.0 + fused_map.REST_S
    assert mapper.settled


def test_images_without_depth_are_refused_in_words(tmp_path):
    mapper = opened(tmp_path / 'map')
    with pytest.raises(ConfigError, match='training.field lerf'):
        mapper.learn([replace(frame, depth_m=None) for frame in FRAMES], 1)


def test_what_needs_training_does_not_go_with_it():
    with pytest.raises(ConfigError, match='poses.refine'):
        NONE.override({'poses.refine': True})


def test_the_command_makes_such_a_map(tmp_path, monkeypatch, capsys):
    import yaml

    from lerf_ros.settings import flat_fields
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    capture = MapDirectory(tmp_path / 'capture', True)
    for i, frame in enumerate(FRAMES):
        capture.keyframes.add(Keyframe(i, frame))
    capture.keyframes.write_transforms()
    preset = tmp_path / 'none.yaml'
    preset.write_text(yaml.safe_dump({name: list(value) if isinstance(value, tuple) else value
                                      for name, _, value in flat_fields(SMALL)}))
    command = ['train', str(tmp_path / 'capture'), '--map', str(tmp_path / 'map'), '--preset',
               str(preset), '--set', 'training.field=none']
    assert cli.main(command) == 0
    assert '10 keyframes, no field in' in capsys.readouterr().out
    assert_in_cube(query_of(tmp_path / 'map').answer('blue'), 'blue', 0.03)
    assert cli.main([*command, '--resume']) == 0
