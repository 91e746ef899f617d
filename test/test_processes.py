# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros up` and `lerf_ros demo` as process groups, with children that need no ROS."""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import yaml

from lerf_ros import cli, processes
from lerf_ros.errors import ConfigError, ForeignFolderError, MapInTheWayError
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.process_group import run
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.output_folder import OutputFolder
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet

FOREVER = 'import time; print("ready", flush=True); time.sleep(600)'


def python(code):
    return [sys.executable, '-S', '-c', textwrap.dedent(code)]


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def writes_pid(path, rest):
    return python(f'import os; open({str(path)!r}, "w").write(str(os.getpid()))\n'
                  + textwrap.dedent(rest))


def test_output_has_the_name_before_it_and_the_clients_code_is_returned(capfd):
    code = run({'client': python('print("hello"); raise SystemExit(3)'),
                'long_name': python(FOREVER)}, main='client')
    assert code == 3
    assert '[client]    hello\n' in capfd.readouterr().out


def test_a_main_node_that_dies_is_reported_with_code_and_last_lines(capfd):
    started = time.monotonic()
    code = run({'client': python(FOREVER),
                'mapper': python('print("out of memory"); raise SystemExit(7)')}, main='client')
    assert code == 1 and time.monotonic() - started < 60
    words = capfd.readouterr().err
    assert 'mapper ended (exit code 7)' in words and 'out of memory' in words


def test_a_node_killed_by_a_signal_is_named_so(capfd):
    assert run({'client': python(FOREVER),
                'query': python('import os; os.kill(os.getpid(), 9)')}, main='client') == 1
    assert 'query ended (signal SIGKILL)' in capfd.readouterr().err


def test_without_a_main_child_the_others_live_on_and_the_first_failure_counts(capfd):
    code = run({'a': python('raise SystemExit(4)'),
                'b': python('import time; time.sleep(1); print("still here")')})
    assert code == 4 and '[b] still here' in capfd.readouterr().out


@pytest.mark.parametrize(('code', 'starts'), [(9, 3), (2, 1), (0, 1)])
def test_a_child_that_dies_is_started_again_but_not_for_wrong_settings(
        tmp_path, monkeypatch, code, starts):
    monkeypatch.setattr('lerf_ros.process_group.RESPAWNS', 2)
    monkeypatch.setattr('lerf_ros.process_group.RESPAWN_DELAY_S', 0.0)
    log = tmp_path / 'log'
    dies = python(f'open({str(log)!r}, "a").write("x"); raise SystemExit({code})')
    assert run({'mapper': dies}, respawn=True) == code
    assert log.read_text() == 'x' * starts


def test_wrong_settings_of_one_node_end_all_that_would_be_started_again(capfd):
    started = time.monotonic()
    code = run({'query': python(FOREVER), 'mapper': python(
        'print("unknown parameter"); raise SystemExit(2)')}, respawn=True)
    assert code == 2 and time.monotonic() - started < 60
    assert 'mapper ended (exit code 2)' in capfd.readouterr().err


def test_stopping_ends_whole_groups_even_those_that_ignore_sigint(tmp_path, monkeypatch):
    monkeypatch.setattr('lerf_ros.process_group.PATIENCE_S', (
        (signal.SIGINT, 1.0), (signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)))
    stubborn = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])
        open(sys.argv[1], 'w').write(str(child.pid))
        time.sleep(600)"""
    pid, grandchild = tmp_path / 'pid', tmp_path / 'grandchild'
    wait = f"""
        import os, time
        while not os.path.exists({str(grandchild)!r}): time.sleep(0.05)
        time.sleep(0.2)"""
    code = run({'client': python(wait),
                'mapper': [*writes_pid(pid, stubborn), str(grandchild)]}, main='client')
    assert code == 0
    assert not alive(int(pid.read_text())) and not alive(int(grandchild.read_text()))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_stops_all_nodes(tmp_path, number):
    paths = [tmp_path / 'a', tmp_path / 'b']
    # The pid is written where the signal is awaited: no sooner can it be sent.
    commands = {path.name: python(f"""
        import os, time
        try:
            with open({str(path)!r}, "w") as file:
                file.write(str(os.getpid()))
            time.sleep(600)
        except KeyboardInterrupt:
            print("bye", flush=True)""") for path in paths}
    parent = subprocess.Popen(
        [sys.executable, '-c', f'from lerf_ros.process_group import run\nraise SystemExit('
                               f'run({commands!r}, main="a"))'],
        stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while time.monotonic() < end and not all(p.exists() and p.read_text() for p in paths):
        time.sleep(0.05)
    pids = [int(path.read_text()) for path in paths]
    parent.send_signal(number)
    output, _ = parent.communicate(timeout=120)
    assert parent.returncode == 130
    assert output.count('bye') == 2 and not any(alive(pid) for pid in pids)


# Commands ------------------------------------------------------------------------------------

def parse(words):
    parser = argparse.ArgumentParser()
    processes.add_parser(parser.add_subparsers())
    return parser.parse_args(words)


def parameters_of(command):
    """The -p values of a node's command as ROS reads them."""
    pairs = [command[i + 1].split(':=', 1) for i, word in enumerate(command) if word == '-p']
    return {name: yaml.safe_load(value) for name, value in pairs}


def test_up_starts_the_main_nodes_with_the_same_options(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(processes, 'run', lambda commands, respawn: seen.update(commands) or 0)
    params = tmp_path / 'p.yaml'
    params.write_text('')
    arguments = parse(['up', '--params-file', str(params), '--map-directory',
                       str(tmp_path / "it's"), '--namespace', 'robot_a', '--log-level', 'debug',
                       'query.threshold:=0.6'])
    assert arguments.func(arguments) == 0
    assert list(seen) == ['mapper_node', 'query_node']
    for node, command in seen.items():
        assert command[1:4] == ['-m', f'lerf_ros.nodes.{node}', '--ros-args']
        assert parameters_of(command) == {'map_directory': str(tmp_path / "it's"),
                                          'query.threshold': 0.6}
        assert command[-4:] == ['-r', '__ns:=/robot_a', '--log-level', 'debug']
    seen.clear()
    arguments = parse(['up', '--one-process', '--params-file', str(params)])
    assert arguments.func(arguments) == 0
    assert list(seen) == ['lerf_node'] and seen['lerf_node'][2] == 'lerf_ros.nodes.lerf_node'


def test_one_that_is_named_may_end_when_its_work_is_done():
    code = run({'client': python('import time; time.sleep(1.5); raise SystemExit(3)'),
                'replay': python('pass')}, main='client', ends='replay')
    assert code == 3
    assert run({'client': python(FOREVER), 'replay': python('raise SystemExit(2)')},
               main='client', ends='replay') == 1


def test_demo_hands_seed_and_folders_to_the_nodes_that_need_them(tmp_path):
    commands = processes.demo_commands(processes.config_file('demo.yaml'), tmp_path, 5, True)
    assert list(commands) == ['sim_camera_node', 'mapper_node', 'query_node', 'demo_client_node']
    map_directory = {'map_directory': str(tmp_path / 'map')}
    assert parameters_of(commands['mapper_node']) == map_directory
    assert parameters_of(commands['sim_camera_node']) == {**map_directory, 'seed': 5}
    assert parameters_of(commands['demo_client_node']) == {
        **map_directory, 'seed': 5, 'out': str(tmp_path), 'check': True}


def test_demo_replays_a_bag_of_the_table_that_its_name_says(tmp_path):
    bag = tmp_path / 'table_31.mcap'
    commands = processes.demo_commands(processes.config_file('demo.yaml'), tmp_path, 31, True, bag)
    assert list(commands) == ['replay_node', 'mapper_node', 'query_node', 'demo_client_node']
    assert parameters_of(commands['replay_node'])['bag'] == str(bag)
    inputs = parameters_of(commands['mapper_node'])
    assert inputs == {'map_directory': str(tmp_path / 'map'), 'image_transport': 'compressed',
                      'depth_transport': 'compressed', 'training.field': 'none'}
    assert processes.seed_of(None) == 0
    with pytest.raises(ConfigError, match='scripts/make_bag.py makes one'):
        processes.seed_of(bag)
    bag.touch()
    assert processes.seed_of(bag) == 31
    other = tmp_path / 'lab.mcap'
    other.touch()
    with pytest.raises(ConfigError, match='which simulated table it shows: give --seed'):
        processes.seed_of(other)


def test_demo_of_a_world_maps_into_submaps_without_a_field(tmp_path):
    commands = processes.demo_commands(processes.config_file('demo.yaml'), tmp_path, 7, True,
                                       world=('apartment', 3))
    place = {'world': 'apartment', 'places': 3, 'seed': 7}
    for node in ('sim_camera_node', 'demo_client_node'):
        assert place.items() <= parameters_of(commands[node]).items()
    mapper = parameters_of(commands['mapper_node'])
    assert mapper['submaps.use'] is True and mapper['training.field'] == 'none'


@pytest.mark.parametrize('words, tables', [
    ([], 0), (['--world', 'corridor'], 2), (['--world', 'corridor', '--places', '4'], 4)])
def test_an_errand_is_done_at_one_table_or_in_a_corridor(words, tables, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr('lerf_ros.task.command.run', lambda *words: asked.append(words) or 0)
    out = tmp_path / 'out'
    assert cli.main(['demo', '--task', 'fetch the mug', '--seed', '3', '--out', str(out),
                     *words]) == 0
    assert asked == [('fetch the mug', 3, out, tables)]


@pytest.mark.parametrize(('words', 'named'), [
    (['--task', 'fetch the mug', '--places', '4'], '--world'), (['--places', '4'], '--world'),
    (['--task', 'fetch the mug', '--world', 'corridor', '--places', '0'], 'from 1'),
    (['--task', 'fetch the mug', '--bag', 'table_31.mcap'], '--bag')])
def test_words_of_the_demo_that_contradict_each_other_are_named(words, named, tmp_path, capsys):
    assert cli.main(['demo', '--out', str(tmp_path / 'out'), *words]) == 2
    assert named in capsys.readouterr().err


def test_no_errand_is_done_in_an_apartment(tmp_path, capsys):
    assert cli.main(['demo', '--world', 'apartment', '--task', 'fetch the mug',
                     '--out', str(tmp_path / 'out')]) == 2
    assert '--world corridor' in capsys.readouterr().err


def test_demo_replays_no_bag_in_a_world(tmp_path, capsys):
    bag = tmp_path / 'table_31.mcap'
    bag.touch()
    assert cli.main(['demo', '--world', 'corridor', '--bag', str(bag)]) == 2
    assert '--bag replays a recording of one table' in capsys.readouterr().err


def test_demo_deletes_the_submaps_of_an_earlier_one(tmp_path):
    processes.prepare_demo(tmp_path / 'out')
    folder = SubmapFolder(tmp_path / 'out' / 'map')
    folder.write(SubmapSet.begin(SubmapLattice((0.0, 0.0, 0.0), 1.5, 0.2)).with_cell((0, 0, 0)))
    folder.directory(0).create({'frame_id': 'map'})
    (folder.path / 'thesis.tex').write_text('precious')
    with pytest.raises(ForeignFolderError, match='thesis.tex'):
        processes.prepare_demo(tmp_path / 'out')
    assert folder.directory(0).exists()
    (folder.path / 'thesis.tex').unlink()
    processes.prepare_demo(tmp_path / 'out')
    assert not list(folder.path.iterdir())


def test_demo_deletes_an_old_map_but_nothing_else(tmp_path):
    out, old = tmp_path / 'out', tmp_path / 'out' / 'map'
    processes.prepare_demo(out)
    MapDirectory(old).create({'frame_id': 'map'})
    processes.prepare_demo(out)
    assert old.is_dir() and not list(old.iterdir())
    MapDirectory(old).create({'frame_id': 'map'})
    (old / 'thesis.tex').write_text('precious')
    with pytest.raises(ForeignFolderError, match='thesis.tex'):
        processes.prepare_demo(out)
    assert (old / 'thesis.tex').read_text() == 'precious' and MapDirectory(old).exists()


def test_demo_deletes_no_map_that_it_did_not_make(tmp_path):
    MapDirectory(tmp_path / 'robot' / 'map').create({'frame_id': 'map'})
    with pytest.raises(ForeignFolderError, match='holds map'):
        processes.prepare_demo(tmp_path / 'robot')
    OutputFolder(tmp_path / 'eval').claim()
    MapDirectory(tmp_path / 'eval' / 'map').create({'frame_id': 'map'})
    with pytest.raises(MapInTheWayError, match='no demo made'):
        processes.prepare_demo(tmp_path / 'eval')
    assert all(MapDirectory(tmp_path / name / 'map').exists() for name in ('robot', 'eval'))


@pytest.mark.parametrize('words, message', [
    (['up', '--params-file', '/no/such.yaml'], 'does not exist'),
    (['up', 'threshold=0.6'], 'expected name:=value')])
def test_wrong_arguments_are_named(words, message):
    arguments = parse(words)
    with pytest.raises(ConfigError, match=message):
        arguments.func(arguments)


def test_a_domain_chosen_for_this_machine_stays_and_a_labs_domain_is_left(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '23')
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    processes.isolate_ros()
    assert os.environ['ROS_DOMAIN_ID'] == '23'
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')
    processes.isolate_ros()
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 60 <= int(os.environ['ROS_DOMAIN_ID']) < 100


@pytest.mark.parametrize('module', ['nodes', 'commands'])
def test_threads_of_numpy_do_not_wait_in_a_loop(module):
    """What is set before numpy loads is what it loads with, and what was chosen stays."""
    names = 'OPENBLAS_NUM_THREADS', 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'
    code = (f'import os, sys; import lerf_ros.{module}; '
            f"print('numpy' in sys.modules, *(os.environ.get(name) for name in {names}))")
    bare = {name: value for name, value in os.environ.items() if name not in names}
    for chosen, expected in (({}, 'False 1 PASSIVE 2000'),
                             ({'OPENBLAS_NUM_THREADS': '7'}, 'False 7 PASSIVE 2000'),
                             ({'GOMP_SPINCOUNT': '5'}, 'False 1 PASSIVE 5'),
                             ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'False 1 ACTIVE None')):
        out = subprocess.run([sys.executable, '-c', code], env={**bare, **chosen},
                             capture_output=True, text=True, check=True)
        assert out.stdout.strip() == expected


def test_a_script_waits_quietly_although_it_imports_numpy_first(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(
        'import os\nimport numpy\nfrom lerf_ros.quiet_threads import run_quietly\n'
        'print(*(os.environ.get(n) for n in ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")))\n'
        'run_quietly(lambda: print("ran"))\n')
    env = {name: value for name, value in os.environ.items()
           if name not in ('OMP_WAIT_POLICY', 'OPENBLAS_NUM_THREADS')}
    out = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True,
                         check=True).stdout
    # The settings that numpy reads are those of the second start, which alone runs the script.
    assert out.splitlines() == ['None None', 'PASSIVE 1', 'ran']
