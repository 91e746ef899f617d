# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros train FOLDER` as a user types it, on a folder written by the map directory itself."""

import pytest
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

import lerf_ros.features.encoders
from lerf_ros import cli
from lerf_ros.keyframes.frame import Keyframe
from lerf_ros.settings import flat_fields
from lerf_ros.storage.map_directory import MapDirectory


@pytest.fixture(autouse=True)
def color_encoder(monkeypatch, tmp_path):
    monkeypatch.setattr(lerf_ros.features.encoders, 'load_encoder',
                        lambda *_, **__: ColorEncoder())
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('capture')
    directory = MapDirectory(path, True)
    for i, T in enumerate(orbit(6)):
        directory.add_keyframe(Keyframe(i, photograph(T, i)))
    directory.keyframes.write_transforms()
    return path


@pytest.fixture(scope='module')
def preset(tmp_path_factory):
    import yaml
    path = tmp_path_factory.mktemp('preset') / 'small.yaml'
    path.write_text(yaml.safe_dump(
        {name: list(value) if isinstance(value, tuple) else value
         for name, _, value in flat_fields(SMALL)}))
    return path


def train(folder, preset, target, *more):
    assert cli.main(['train', str(folder), '--map', str(target), '--preset', str(preset),
                     *more]) == 0
    return MapDirectory(target).newest()


def test_the_same_command_gives_the_same_map(folder, preset, tmp_path, capsys):
    first, second = (train(folder, preset, tmp_path / name, '--steps', '12') for name in 'ab')
    assert first.info['files'] == second.info['files']      # checksums of all that was learned
    assert '12 steps' in capsys.readouterr().out


def test_resuming_equals_never_stopping(folder, preset, tmp_path):
    straight = train(folder, preset, tmp_path / 'straight', '--steps', '14')
    train(folder, preset, tmp_path / 'broken', '--steps', '6')
    resumed = train(folder, preset, tmp_path / 'broken', '--steps', '14', '--resume')
    assert resumed.number == 2 and resumed.info['steps'] == 14
    assert resumed.info['files'] == straight.info['files']


def test_resuming_nothing_is_said_in_words(folder, preset, tmp_path, capsys):
    assert cli.main(['train', str(folder), '--map', str(tmp_path / 'map'), '--preset', str(preset),
                     '--resume']) == 2
    assert 'no training to go on with' in capsys.readouterr().err
    assert not (tmp_path / 'map').exists()


def test_an_unknown_preset_names_those_there_are(folder, tmp_path, capsys):
    assert cli.main(['train', str(folder), '--map', str(tmp_path), '--preset', 'offlin']) == 2
    assert "did you mean 'offline'" in capsys.readouterr().err
