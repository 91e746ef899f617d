# SPDX-License-Identifier: Apache-2.0
"""Training that stopped goes on exactly; the same command gives the same map."""

import json

import pytest
import torch
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros.errors import ConfigError
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory

FRAMES = [photograph(T) for T in orbit(6)]
# Everything that has a state: appearance, poses, annealing, RAdam's step counts.
CONFIG = SMALL.override({'field.appearance': 4, 'poses.refine': True,
                         'training.language_optimizer': 'radam', 'training.anneal_steps': 20})


def restored(folder, config=CONFIG, encoder=None, frame_id='map'):
    """A mapper on what an earlier one left, with all of its keyframes learned again."""
    mapper = Mapper(config, MapDirectory(folder, True), encoder or ColorEncoder(), frame_id, True)
    mapper.restore()
    while mapper.learn_next():
        pass
    return mapper


def mapper_on(folder, config=CONFIG, frames=FRAMES):
    mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    for frame in frames:
        mapper.add_frame(frame)
    return mapper


def run(mapper, steps):
    for _ in range(steps):
        mapper.guard.step()
    return mapper


def parameters(mapper):
    radiance, language = mapper.trainer.radiance, mapper.trainer.language
    modules = (radiance.field, language.field, language.mean_field,
               *([radiance.poses] if radiance.poses else []))
    return [p.detach().clone() for module in modules for p in module.parameters()]


def assert_same(first, second):
    assert all(torch.equal(a, b) for a, b in zip(parameters(first), parameters(second),
                                                 strict=True))


def test_a_resumed_training_equals_one_that_never_stopped(tmp_path):
    straight = run(mapper_on(tmp_path / 'straight'), 30)
    run(mapper_on(tmp_path / 'broken'), 18).snapshot()
    resumed = restored(tmp_path / 'broken')
    assert resumed.steps == 18
    assert_same(run(resumed, 12), straight)


def test_training_twice_gives_the_same_map(tmp_path):
    for name in ('a', 'b'):
        run(mapper_on(tmp_path / name), 10).snapshot()
    a, b = (MapDirectory(tmp_path / name).newest() for name in ('a', 'b'))
    assert a.info['files'] == b.info['files']      # the checksums of field, index, training


def test_other_settings_are_named(tmp_path):
    run(mapper_on(tmp_path), 2).snapshot()
    with pytest.raises(ConfigError, match='language.hidden, training.rays'):
        restored(tmp_path, CONFIG.override({'training.rays': 128, 'language.hidden': 16}))
    assert restored(tmp_path, CONFIG.override({'training.threads': 1})).steps == 2


def test_without_a_stored_training_it_begins_anew_with_the_same_keyframes(tmp_path):
    config = CONFIG.override({'map.training_state': False})
    run(mapper_on(tmp_path, config), 2).snapshot()
    again = restored(tmp_path, config)
    assert (again.steps, len(again.learned), again.ready) == (0, len(FRAMES), True)


def test_no_encoder_weights_in_a_snapshot(tmp_path):
    run(mapper_on(tmp_path), 2).snapshot()
    snapshot = MapDirectory(tmp_path).newest()
    names = {name.split('.')[0] for part in ('field', 'training') for name in snapshot.arrays(part)}
    assert names == {'radiance', 'language', 'poses', 'counters', 'annealing', 'coverage',
                     'scales', 'generator', 'random', 'latest'}


def test_a_changed_manifest_is_not_taken(tmp_path):
    """Basis, index and encoder identity are one: none of them can be exchanged."""
    mapper = run(mapper_on(tmp_path), 2)
    mapper.snapshot()
    mapper.snapshot()
    manifest = tmp_path / 'snapshots' / '000002' / 'manifest.json'
    content = json.loads(manifest.read_text())
    content['encoder'] = {'name': 'another'}
    manifest.write_text(json.dumps(content))
    assert MapDirectory(tmp_path).newest().number == 1
