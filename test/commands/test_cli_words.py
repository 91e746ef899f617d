# SPDX-License-Identifier: Apache-2.0
"""The command line before anything is computed: help, versions, orders of words, errors."""

import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hand_made_map import CAMERA, CUBES, WordEncoder, cube_index, write_map

import lerf_ros
import lerf_ros.map_query
from lerf_ros import cli
from lerf_ros.commands.parser import seconds, spread_settings
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.storage.map_directory import MapDirectory

HEAVY = ('numpy', 'torch', 'scipy', 'sklearn', 'yaml', 'cv2', 'transformers', 'rclpy', 'viser')


def said(capsys, *words):
    """Exit code, stdout and stderr of a command line."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def parsed(*words):
    return cli.parser().parse_args(spread_settings(words))


@pytest.mark.parametrize('words', [['--help'], ['query', '--help'], ['eval', '--help'], []])
def test_help_loads_nothing_heavy(words):
    code = ('import sys\nfrom lerf_ros import cli\ntry:\n    cli.main(sys.argv[1:])\n'
            'except SystemExit:\n    pass\n'
            f'print([name for name in {HEAVY} if name in sys.modules])')
    out = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True,
                         check=True, timeout=120).stdout
    assert out.splitlines()[-1] == '[]'


def test_without_a_command_it_says_what_to_do_next(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(capsys)
    assert code == 0
    for command in ('demo', 'train FOLDER', 'query MAP', 'view MAP', 'up', 'call', 'doctor'):
        assert f'lerf_ros {command}' in out
    write_map(tmp_path / 'out' / 'maps' / 'kitchen')
    assert 'lerf_ros query out/maps/kitchen "red mug"' in said(capsys)[1]


def test_it_says_its_version(capsys):
    assert said(capsys, '--version')[:2] == (0, f'lerf_ros {lerf_ros.__version__}\n')


def test_help_tells_defaults_and_no_empty_ones(capsys):
    _, out, _ = said(capsys, 'view', '--help')
    assert '(default: 8080)' in out and '(default: 127.0.0.1)' in out
    _, out, _ = said(capsys, 'query', '--help')
    assert 'default: [' not in out and 'default: None' not in out and '(default: )' not in out


@pytest.mark.parametrize(('words', 'values'), [
    (('train', '--set', 'a.b=1', 'FOLDER'), {'folder': 'FOLDER', 'set': ['a.b=1']}),
    (('train', '--set', 'a.b=1', 'c.d=x=y', 'FOLDER', '--set', 'e.f='),
     {'folder': 'FOLDER', 'set': ['a.b=1', 'c.d=x=y', 'e.f=']}),
    (('train', '--set', 'rays', 'FOLDER'), {'folder': 'FOLDER', 'set': ['rays']}),
    (('reindex', '--set', 'a.b=1', 'MAP'), {'map': 'MAP', 'set': ['a.b=1']}),
    (('query', 'MAP', '--negatives', 'table', 'fox'), {'text': ['fox'], 'negatives': ['table']}),
    (('query', 'MAP', '--part', 'lever', 'toaster'), {'text': ['toaster'], 'part': 'lever'}),
    (('query', '--max-hits', '2', 'MAP', 'a', '--threshold', '0.5', 'b'),
     {'map': 'MAP', 'text': ['a', 'b'], 'max_hits': 2}),
    (('query', 'MAP', 'fox', '--region', '0', '-1', '0', '1', '1', '1'),
     {'region': [0, -1, 0, 1, 1, 1]}),
    (('up', 'a:=b', '--log-level', 'info', 'c:=d'), {'parameters': ['a:=b', 'c:=d']})])
def test_words_may_stand_in_any_order(words, values):
    found = vars(parsed(*words))
    assert {name: found[name] for name in values} == values


def test_several_phrases_of_an_option(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
    ask = lerf_ros.map_query.MapQuery.ask
    monkeypatch.setattr(lerf_ros.map_query.MapQuery, 'ask',
                        lambda self, request: asked.append(request) or ask(self, request))
    place = write_map(tmp_path / 'map')
    assert said(capsys, 'query', place, '--negatives', 'things; stuff', '--negatives', 'object',
                'mug')[0] == 0
    assert asked[0].negatives == ('things', 'stuff', 'object') and asked[0].text == 'mug'


@pytest.mark.parametrize(('text', 'value'), [('60s', 60), ('90', 90), ('1.5h', 5400), ('10m', 600)])
def test_durations(text, value):
    assert seconds(text) == value


# One line and no traceback ----------------------------------------------------------------------

def one_line(capsys, *words):
    code, out, err = said(capsys, *words)
    assert code == 2 and not out and len(err.splitlines()) == 1, (code, out, err)
    return err


@pytest.fixture
def map_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
    return write_map(tmp_path / 'map with bl\u00e4nks')


@pytest.mark.parametrize('command', ['query', 'view', 'export'])
def test_a_map_that_is_not_there(capsys, tmp_path, command):
    words = [command, tmp_path / 'nothing'] + ['mug'] * (command == 'query')
    assert 'lerf_ros train FOLDER --map' in one_line(capsys, *words)
    (tmp_path / 'empty').mkdir()
    words[1] = tmp_path / 'empty'
    assert 'an empty folder' in one_line(capsys, *words)


@pytest.mark.parametrize(('words', 'hint'), [
    (('--port', '80910'), '1 to 65535'), (('--port', 'x'), '1 to 65535'),
    (('--host', '192.0.2.1'), '127.0.0.1'), (('--host', 'no such host'), '127.0.0.1')])
def test_an_address_at_which_nothing_can_be_served(capsys, map_directory, words, hint):
    assert hint in one_line(capsys, 'view', map_directory, *words)


@pytest.mark.parametrize('command', ['view', 'train'])
def test_a_gpu_that_is_not_here(capsys, map_directory, monkeypatch, command, tmp_path):
    import torch
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    if command == 'view':
        pytest.importorskip('viser', reason='viser is not installed: pip install .[view]')
        err = one_line(capsys, 'view', map_directory, '--device', 'cuda')
    else:
        from test_cli_train import capture
        code, _, err = said(capsys, 'train', capture(tmp_path / 'capture'), '--map',
                            tmp_path / 'new', '--set', 'training.device=cuda')
        assert code == 2 and not (tmp_path / 'new').exists()
    assert 'there is no GPU' in err and 'Traceback' not in err


@pytest.mark.parametrize('option', ['--pictures', '--export'])
def test_a_place_that_cannot_be_written(capsys, map_directory, tmp_path, option):
    (tmp_path / 'file').write_text('x')
    err = one_line(capsys, 'query', map_directory, 'mug', option, tmp_path / 'file' / 'folder')
    assert str(tmp_path / 'file') in err


def test_any_error_of_the_system_is_one_line(capsys, map_directory, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device', '/maps/a')

    monkeypatch.setattr(lerf_ros.map_query.MapQuery, 'refresh', full)
    assert 'No space left' in one_line(capsys, 'query', map_directory, 'mug')


# Files -------------------------------------------------------------------------------------------

def test_the_map_is_exported_as_a_cloud(capsys, map_directory, tmp_path):
    code, out, _ = said(capsys, 'export', map_directory, '--out', tmp_path / 'out')
    assert code == 0 and 'metres' in out
    head, _, body = (tmp_path / 'out' / 'map.ply').read_bytes().partition(b'end_header\n')
    count = len(cube_index(CUBES).points)
    assert f'element vertex {count}' in head.decode()
    assert re.findall(r'property \w+ (\w+)', head.decode()) == [
        'x', 'y', 'z', 'red', 'green', 'blue', 'nx', 'ny', 'nz', 'segment', 'keyframes']
    assert len(body) == count * (3 * 8 + 3 + 3 * 4 + 2 * 4)


def test_all_files_of_a_phrase_have_one_name(capsys, map_directory, tmp_path, monkeypatch):
    encode = WordEncoder.encode_texts
    monkeypatch.setattr(WordEncoder, 'encode_texts', lambda self, texts: encode(
        self, ['mug' if 'b\u00e4r' in text else text for text in texts]))
    keyframes = MapDirectory(map_directory, True).keyframes
    image = np.full((CAMERA.height, CAMERA.width, 3), 200, np.uint8)
    keyframes.add(Keyframe(1, Frame(1, image, CAMERA, np.eye(4))))
    keyframes.write_transforms()
    code, out, _ = said(capsys, 'query', map_directory, 'Teddyb\u00e4r', '--pictures',
                        tmp_path / 'out', '--export', tmp_path / 'out')
    assert code == 0, out
    assert {path.name for path in (tmp_path / 'out').iterdir() if path.name[0] != '.'} == {
        'teddyb\u00e4r.png', 'teddyb\u00e4r.ply', 'teddyb\u00e4r.json'}


@pytest.mark.parametrize('shell', ['bash', 'zsh'])
def test_completion_knows_commands_and_options(capsys, shell):
    pytest.importorskip('shtab', reason='shtab is not installed')
    code, out, _ = said(capsys, 'completion', shell)
    assert code == 0 and 'reindex' in out and '--trust-input' in out


# Doctor ------------------------------------------------------------------------------------------

def test_the_doctor_finds_each_point_well_or_names_its_cure(capsys, monkeypatch):
    from lerf_ros.commands import doctor
    code, out, _ = said(capsys, 'doctor', '--no-ros')
    assert code == 0
    for name in ('Python', 'torch', 'GPU', 'encoder conse', 'disk', 'memory', 'cache'):
        assert re.search(rf'^(ok  |note)  {name}: ', out, re.M), name
    monkeypatch.setattr(doctor, 'find_spec', lambda name: None)
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda _: SimpleNamespace(free=10))
    monkeypatch.setattr(doctor.sys, 'version_info', (3, 8, 0))
    code, out, _ = said(capsys, 'doctor')
    assert code == 1
    blocks = re.split(r'\n(?=\w)', out)
    bad = [block for block in blocks if block.startswith('FAIL')]
    assert {re.match(r'FAIL  (.*?):', block)[1] for block in bad} == {
        'Python', 'encoder conse', 'disk'}
    assert all('\n      cure: ' in block for block in bad)


def test_the_doctor_sees_too_little_shared_memory(monkeypatch):
    from lerf_ros.commands import doctor
    monkeypatch.setattr(doctor, 'find_spec', lambda name: object())
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda _: SimpleNamespace(free=1e6))
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE', '/nowhere.xml')
    found = {finding.name: finding for finding in doctor.transport()}
    assert found['shared memory'].state == doctor.NOTE and '--shm' in found['shared memory'].cure
    assert found['Fast DDS'].state == doctor.BAD


def test_a_pipe_to_somebody_else_that_breaks_is_an_error():
    code = ('import sys\nfrom lerf_ros import cli\nfrom lerf_ros.commands import completion\n'
            'def broken(_):\n    raise BrokenPipeError(32, "Broken pipe")\n'
            'completion.run_completion = broken\nsys.exit(cli.main(["completion", "bash"]))')
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and 'Broken pipe' in ended.stderr


@pytest.mark.parametrize('words', [[], ['completion', 'bash']])    # argparse ends help quietly
def test_a_reader_that_has_enough_is_no_error(words):
    """As with `lerf_ros | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, '-m', 'lerf_ros.cli', *words], stdout=writing,
                           stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, '')
