# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros train FOLDER` as a user types it, on a folder written by the map directory itself."""

import json
import os
import re
import shutil
import signal
import time
from types import SimpleNamespace

import pytest
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

import lerf_ros.encoders.image_text
from lerf_ros import cli
from lerf_ros.commands.options import overrides
from lerf_ros.commands.progress import Speeds, forecast, remember
from lerf_ros.commands.train import index_line
from lerf_ros.config import LerfConfig
from lerf_ros.frames.frame import Keyframe
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.saving import SnapshotSchedule
from lerf_ros.settings import flat_fields
from lerf_ros.storage.map_directory import MapDirectory


@pytest.fixture(autouse=True)
def color_encoder(monkeypatch, tmp_path):
    monkeypatch.setattr(lerf_ros.encoders.image_text, 'load_encoder',
                        lambda *_, **__: ColorEncoder())
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return capture(tmp_path_factory.mktemp('capture'))


def capture(path):
    """Six images of the tiny world with depth, as a folder that `train` reads."""
    directory = MapDirectory(path, True)
    for i, T in enumerate(orbit(6)):
        directory.keyframes.add(Keyframe(i, photograph(T, i)))
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
    out = capsys.readouterr().out
    assert '12 steps' in out and 'fit of poses, depth and images' in out
    assert re.search(r'the index has (\d+|only \d+|no) points', out)


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


def test_a_setting_may_be_empty():
    # YAML would read nothing as null, which no text may be.
    assert overrides(['features.dense_model=', 'training.rays=64']) == {
        'features.dense_model': '', 'training.rays': 64}
    assert LerfConfig().override(overrides(['features.dense_model='])).features.dense_model == ''


def test_an_unknown_preset_names_those_there_are(folder, tmp_path, capsys):
    assert cli.main(['train', str(folder), '--map', str(tmp_path), '--preset', 'offlin']) == 2
    assert "did you mean 'offline'" in capsys.readouterr().err


# Time and memory ---------------------------------------------------------------------------------

def test_a_time_is_given_instead_of_steps(folder, preset, tmp_path, capsys):
    with pytest.raises(SystemExit):     # one of both
        cli.main(['train', str(folder), '--time', '60s', '--steps', '3'])
    before = time.monotonic()
    assert train(folder, preset, tmp_path / 'map', '--time', '1s').info['steps'] > 0
    assert time.monotonic() - before > 1
    out = capsys.readouterr().out
    assert '1 s of steps' in out and 'a guess for two cores' in out
    assert f'next: lerf_ros query {tmp_path}/map' in out


def test_the_next_training_is_expected_to_take_what_the_last_one_took(tmp_path):
    images, bytes_each = 40, 2_500_000
    first = forecast(tmp_path, 'cpu', 'cpu', images, images * bytes_each, 2000, None)
    assert '2 min' in first.line() and '2000 steps' in first.line() and 'guess' in first.line()
    assert first.memory_gb == pytest.approx(1.2 + 0.1)
    remember(tmp_path, 'cpu', Speeds(0.5, 0.1, 30.0))
    remember(tmp_path, 'cuda', Speeds(0.01, 0.01, 3.0))
    known = forecast(tmp_path, 'cpu', 'cpu', images, 0, 2000, None)
    assert known.line() == (
        'about 4 min on cpu: 20 s for 40 images, 3 min for 2000 steps, 30 s for the index; 1.2 GB '
        'of memory (as the last training here took)')
    assert forecast(tmp_path, 'cuda', 'cuda', images, 0, 0, 90.0).line().startswith(
        'about 93 s on cuda: 1 s for 40 images, 90 s of steps, 3 s for the index')
    (tmp_path / 'training_speed.json').write_text('[1]')
    assert not forecast(tmp_path, 'cpu', 'cpu', images, 0, 2000, None).measured


# What stands in the way --------------------------------------------------------------------------

def refused(capsys, *words):
    assert cli.main(['train', *map(str, words)]) == 2
    return capsys.readouterr().err


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*')
            if path.is_file()}


def test_a_map_in_the_way_stays_until_it_is_said(folder, preset, tmp_path, capsys):
    target = tmp_path / 'map'
    first = train(folder, preset, target, '--steps', '2')
    (target / 'images' / 'holiday.jpg').write_text('precious')
    before = files(target)
    words = refused(capsys, folder, '--map', target, '--preset', preset)
    assert all(word in words for word in ('--resume', '--force', '--map', str(folder)))
    assert files(target) == before
    again = train(folder, preset, target, '--steps', '3', '--force')
    assert again.info['steps'] == 3 and again.info['map_id'] != first.info['map_id']
    assert (target / 'images' / 'holiday.jpg').read_text() == 'precious'
    assert len(list((target / 'images').glob('*.png'))) == 6


def test_two_captures_of_one_name_get_two_maps_and_find_them_again(
        folder, preset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for day in ('day1', 'day2'):
        shutil.copytree(folder, tmp_path / day / 'kitchen')
        assert cli.main(['train', f'{day}/kitchen', '--preset', str(preset), '--steps', '2']) == 0
    maps = sorted((tmp_path / 'out' / 'maps').iterdir())
    assert [m.name.partition('-')[0] for m in maps] == ['kitchen', 'kitchen'] and len(maps) == 2
    for day in ('day1', 'day2'):
        assert '--force' in refused(capsys, f'{day}/kitchen', '--preset', preset)
    assert cli.main(['train', 'day2/kitchen', '--preset', str(preset), '--steps', '4',
                     '--resume']) == 0
    assert [MapDirectory(m).newest().info['steps'] for m in maps] == [2, 4]
    # A map is a folder of posed images: its own map gets another name, too.
    assert cli.main(['train', str(maps[0]), '--preset', str(preset), '--steps', '2']) == 0
    assert len(list((tmp_path / 'out' / 'maps').iterdir())) == 3


def test_nothing_is_written_into_the_capture_nor_beside_it(folder, preset, tmp_path, capsys):
    before = files(folder)
    for target, words in ((folder, 'the input itself'), (folder / 'images', 'lies in'),
                          (folder.parent, 'holds the input')):
        for more in ((), ('--force',), ('--resume',)):
            assert words in refused(capsys, folder, '--map', target, '--preset', preset, *more)
    (tmp_path / 'file').write_text('precious')
    assert 'no folder' in refused(capsys, folder, '--map', tmp_path / 'file', '--preset', preset)
    assert files(folder) == before and (tmp_path / 'file').read_text() == 'precious'


@pytest.mark.parametrize(('options', 'words'), [
    (('--max-side', '16'), '--max-side'), (('--scale', '2'), 'pose')])
def test_resuming_with_other_images_is_refused_for_that_reason(
        folder, preset, tmp_path, capsys, options, words):
    target = tmp_path / 'map'
    train(folder, preset, target, '--steps', '2')
    before = files(target)
    go_on = ('--map', target, '--preset', preset, '--resume', '--steps', '4')
    assert words in refused(capsys, folder, *options, *go_on)
    fewer = tmp_path / 'fewer'
    directory = MapDirectory(fewer, True)
    for i, T in enumerate(orbit(5)):
        directory.keyframes.add(Keyframe(i, photograph(T, i)))
    directory.keyframes.write_transforms()
    assert 'made from 6 images' in refused(capsys, fewer, *go_on)
    assert files(target) == before


def test_resuming_with_the_same_images_in_other_words(folder, preset, tmp_path):
    """Other tools leave out coefficients that are 0, and number a pose's last row or not."""
    capture = tmp_path / 'capture'
    shutil.copytree(folder, capture)
    content = json.loads((capture / 'transforms.json').read_text())
    for entry in content['frames']:
        entry['transform_matrix'] = entry['transform_matrix'][:3]
        for name in ('camera_model', 'k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6'):
            entry.pop(name, None)
    content['camera_model'] = 'PINHOLE'
    (capture / 'transforms.json').write_text(json.dumps(content))
    train(capture, preset, tmp_path / 'map', '--steps', '2')
    assert train(capture, preset, tmp_path / 'map', '--steps', '4', '--resume').info['steps'] == 4


def test_all_files_have_the_access_that_the_umask_gives(folder, preset, tmp_path):
    train(folder, preset, tmp_path / 'map', '--steps', '2')
    mask = os.umask(0)
    os.umask(mask)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / 'map').rglob('*')
             if path.is_file()}
    assert modes == {0o666 & ~mask}


# Ctrl-C ------------------------------------------------------------------------------------------

def stopped_at(monkeypatch, name, count):
    """Ctrl-C in the count-th call of a method of Mapper."""
    real, calls = getattr(Mapper, name), []

    def act(self, *arguments):
        calls.append(name)
        if len(calls) == count:
            signal.raise_signal(signal.SIGINT)
        return real(self, *arguments)
    monkeypatch.setattr(Mapper, name, act)


def test_ctrl_c_between_images_keeps_them(folder, preset, tmp_path, capsys, monkeypatch):
    straight = train(folder, preset, tmp_path / 'straight', '--steps', '8')
    words = ['train', str(folder), '--map', str(tmp_path / 'map'), '--preset', str(preset),
             '--steps', '8']
    with monkeypatch.context() as patched:
        stopped_at(patched, 'store', 3)
        assert cli.main(words) == 130
    assert MapDirectory(tmp_path / 'map').keyframes.indices() == [0, 1, 2]
    assert '3 of 6 keyframes' in capsys.readouterr().out
    assert cli.main([*words, '--resume']) == 0
    assert MapDirectory(tmp_path / 'map').newest().info['files'] == straight.info['files']


def test_ctrl_c_in_training_writes_a_snapshot_and_it_goes_on(
        folder, preset, tmp_path, capsys, monkeypatch):
    straight = train(folder, preset, tmp_path / 'straight', '--steps', '14')
    words = ['train', str(folder), '--map', str(tmp_path / 'map'), '--preset', str(preset)]
    with monkeypatch.context() as patched:
        # The slice ends at the sixth step, when Ctrl-C has come.
        patched.setattr(Mapper, 'train_for', lambda self, _, last, real=Mapper.train_for: real(
            self, 1e6, min(last, self.steps + 6)))
        stopped_at(patched, 'train_for', 1)
        assert cli.main([*words, '--steps', '14']) == 130
    output = capsys.readouterr().out
    assert '6 of 14 steps' in output and '--resume' in output
    assert MapDirectory(tmp_path / 'map').newest().info['steps'] == 6
    assert cli.main([*words, '--steps', '14', '--resume']) == 0
    assert MapDirectory(tmp_path / 'map').newest().info['files'] == straight.info['files']


def test_a_kill_costs_what_came_after_the_last_checkpoint(folder, preset, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(self):
        raise Killed
    words = ['train', str(folder), '--map', str(tmp_path / 'map'), '--preset', str(preset)]
    with monkeypatch.context() as patched:
        patched.setattr(SnapshotSchedule, 'tick', SnapshotSchedule.checkpoint)      # always due
        patched.setattr(Mapper, 'snapshot', killed)
        with pytest.raises(Killed):
            cli.main([*words, '--steps', '8'])
    directory = MapDirectory(tmp_path / 'map')
    assert next(iter(directory.training_states())).info['steps'] == 8   # the newest
    assert cli.main([*words, '--steps', '9', '--resume']) == 0
    assert directory.newest().info['steps'] == 9
    assert not (tmp_path / 'map' / 'checkpoints').exists()  # the snapshot has all of it


def test_poses_in_another_unit_are_refused_and_can_be_trusted(folder, preset, tmp_path, capsys):
    wrong = tmp_path / 'wrong'
    shutil.copytree(folder, wrong)
    content = json.loads((wrong / 'transforms.json').read_text())
    for frame in content['frames']:     # positions in decimetres beside depth in metres
        for row in frame['transform_matrix'][:3]:
            row[3] *= 10
    (wrong / 'transforms.json').write_text(json.dumps(content))
    command = ['train', str(wrong), '--map', str(tmp_path / 'map'), '--preset', str(preset),
               '--steps', '4']
    assert cli.main(command) == 2
    assert 'multiply them by 0.1 (--scale 0.1)' in capsys.readouterr().err
    assert not (tmp_path / 'map' / 'meta.json').exists()
    assert cli.main([*command, '--trust-input']) == 0


@pytest.mark.parametrize(('points', 'words'), [(0, 'warning: the index has no points'),
                                               (12, 'warning: the index has only 12 points'),
                                               (4000, 'the index has 4000 points')])
def test_few_points_of_the_index_are_a_warning(points, words):
    assert index_line(SimpleNamespace(points=points)).startswith(words)
