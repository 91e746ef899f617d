# SPDX-License-Identifier: Apache-2.0
"""Training that stopped goes on exactly; the same command gives the same map."""

import json

import pytest
import torch
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros.errors import ConfigError, MapUnreadableError, NoSnapshotError
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory

FRAMES = [photograph(T) for T in orbit(6)]
# Everything that has a state: appearance, poses, annealing, RAdam's step counts.
CONFIG = SMALL.override({'field.appearance': 4, 'poses.refine': True,
                         'training.language_optimizer': 'radam', 'training.anneal_steps': 20})


def mapper_on(folder, config=CONFIG, frames=FRAMES):
    mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    for frame in frames:
        mapper.add_frame(frame)
    return mapper


def run(mapper, steps):
    for _ in range(steps):
        mapper.trainer.step()
    return mapper


def parameters(mapper):
    poses = mapper.trainer.radiance_learner.poses
    modules = (mapper.trainer.radiance, mapper.trainer.language, mapper.trainer.mean_language,
               *([poses] if poses else []))
    return [p.detach().clone() for module in modules for p in module.parameters()]


def assert_same(first, second):
    assert all(torch.equal(a, b) for a, b in zip(parameters(first), parameters(second),
                                                 strict=True))


def test_a_resumed_training_equals_one_that_never_stopped(tmp_path):
    straight = run(mapper_on(tmp_path / 'straight'), 30)
    run(mapper_on(tmp_path / 'broken'), 18).snapshot()
    resumed = mapper_on(tmp_path / 'broken')
    resumed.resume()
    assert resumed.steps == 18
    assert_same(run(resumed, 12), straight)


def test_training_twice_gives_the_same_map(tmp_path):
    for name in ('a', 'b'):
        run(mapper_on(tmp_path / name), 10).snapshot()
    a, b = (MapDirectory(tmp_path / name).newest() for name in ('a', 'b'))
    assert a.info['files'] == b.info['files']      # the checksums of field, index, training


def test_other_settings_are_named(tmp_path):
    run(mapper_on(tmp_path), 2).snapshot()
    changed = mapper_on(tmp_path, CONFIG.override({'training.rays': 128, 'language.hidden': 16}))
    with pytest.raises(ConfigError, match='language.hidden, training.rays'):
        changed.resume()
    free = mapper_on(tmp_path, CONFIG.override({'training.threads': 1}))
    free.resume()
    assert free.steps == 2


def test_other_images_are_noticed(tmp_path):
    run(mapper_on(tmp_path), 2).snapshot()
    with pytest.raises(MapUnreadableError, match='resume with the same images'):
        mapper_on(tmp_path, frames=FRAMES[:5]).resume()


def test_without_a_stored_training_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(NoSnapshotError, match='no training'):
        mapper_on(tmp_path / 'empty').resume()
    config = CONFIG.override({'map.training_state': False})
    run(mapper_on(tmp_path / 'small', config), 2).snapshot()
    with pytest.raises(NoSnapshotError, match='no training'):
        mapper_on(tmp_path / 'small', config).resume()


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
