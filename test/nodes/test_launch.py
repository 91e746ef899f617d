# SPDX-License-Identifier: Apache-2.0
"""The launch file and the parameter files; launched for real where launch_ros is installed."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lerf_ros.config import LerfConfig, load_preset
from lerf_ros.nodes.common.node_config import MapperNodeConfig, QueryNodeConfig
from lerf_ros.settings import flat_fields, flatten

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / 'launch' / 'lerf.launch.py'
ASKED_FOR = {'namespace', 'use_sim_time', 'params_file', 'preset', 'map_directory', 'image_topic',
             'camera_info_topic', 'depth_topic', 'map_frame', 'camera_frame', 'rviz', 'autostart',
             'log_level'}


def names(config):
    return {name for name, _, _ in flat_fields(config)}


def literals():
    """The dictionaries of arguments, read without launch being installed."""
    tree = ast.parse(LAUNCH.read_text())
    return {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body
            if isinstance(node, ast.Assign)}


def test_arguments_are_parameters_of_the_nodes_that_get_them():
    tables = literals()
    assert set(tables['MAPPER']) <= names(MapperNodeConfig())
    assert set(tables['BOTH']) <= (names(MapperNodeConfig()) & names(QueryNodeConfig())) | {
        'preset'}
    declared = {'params_file', *tables['BOTH'], *tables['MAPPER'], *tables['OTHERS']}
    assert declared >= ASKED_FOR


def test_every_executable_has_a_main():
    """CMakeLists.txt makes an executable of every nodes/*_node.py."""
    modules = sorted((ROOT / 'lerf_ros' / 'nodes').glob('*_node.py'))
    assert {'mapper_node', 'query_node'} <= {module.stem for module in modules}
    for module in modules:
        tree = ast.parse(module.read_text())
        assert 'main' in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, module
    for executable in ('mapper_node', 'query_node'):
        assert f"'{executable}'" in LAUNCH.read_text()


def test_rviz_topics_of_the_launch_file_are_those_of_the_rviz_file():
    text = (ROOT / 'rviz' / 'lerf.rviz').read_text()
    assert all(f'Value: /{topic}\n' in text for topic in literals()['RVIZ_TOPICS'])
    assert text.count('Topic:') == len(literals()['RVIZ_TOPICS'])


def test_parameter_file_is_for_every_namespace_and_names_real_parameters():
    content = yaml.safe_load((ROOT / 'config' / 'lerf.yaml').read_text())
    assert list(content) == ['/**']
    known = names(LerfConfig()) | names(MapperNodeConfig()) | names(QueryNodeConfig())
    assert set(flatten(content['/**']['ros__parameters'])) <= known | {'preset'}


@pytest.mark.parametrize('preset', sorted((ROOT / 'config' / 'presets').glob('*.yaml')),
                         ids=lambda p: p.stem)
def test_presets_are_valid(preset):
    assert isinstance(load_preset(preset), LerfConfig)


def test_online_is_larger_than_the_defaults():
    online, default = load_preset(ROOT / 'config' / 'presets' / 'online.yaml'), LerfConfig()
    assert online.features.encoder == 'openclip'
    assert online.training.rays > default.training.rays
    assert online.field.log2_table > default.field.log2_table


class Entity:
    """Stands for any class of launch: remembers what it was made of."""

    def __init__(self, *arguments, **named):
        self.arguments, self.named = arguments, named


def kind(name):
    return type(name, (Entity,), {})


class LaunchConfiguration(Entity):
    def perform(self, context):
        return context[self.arguments[0]]


@pytest.fixture
def stand_in(monkeypatch):
    """Loads launch files with stand-ins for the packages of launch, none of which is on PyPI."""
    class PackageNotFoundError(KeyError):
        pass

    def prefix(package):
        raise PackageNotFoundError(package)
    modules = {
        'launch': {'LaunchDescription': kind('LaunchDescription')},
        'launch.actions': {name: kind(name) for name in (
            'DeclareLaunchArgument', 'EmitEvent', 'LogInfo', 'OpaqueFunction',
            'RegisterEventHandler', 'SetEnvironmentVariable')},
        'launch.event_handlers': {'OnProcessExit': kind('OnProcessExit')},
        'launch.events': {'Shutdown': kind('Shutdown')},
        'launch.substitutions': {'LaunchConfiguration': LaunchConfiguration,
                                 'PathJoinSubstitution': kind('PathJoinSubstitution')},
        'launch_ros': {}, 'launch_ros.actions': {'Node': kind('Node')},
        'launch_ros.substitutions': {'FindPackageShare': kind('FindPackageShare')},
        'ament_index_python': {}, 'ament_index_python.packages': {
            'PackageNotFoundError': PackageNotFoundError, 'get_package_prefix': prefix,
            'get_package_share_directory': lambda name: str(ROOT)}}
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))

    def load(file):
        spec = importlib.util.spec_from_file_location('launch_file', ROOT / 'launch' / file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    return load


def arguments_of(module):
    """The declared arguments with their defaults."""
    (entities,) = module.generate_launch_description().arguments
    return {e.arguments[0]: e.named.get('default_value', '') for e in entities
            if type(e).__name__ == 'DeclareLaunchArgument'}


def by_kind(entities, name):
    return [e for e in entities if type(e).__name__ == name]


@pytest.mark.parametrize(('rviz', 'there', 'nodes', 'warnings'), [
    ('false', False, 2, 0), ('true', False, 2, 1), ('true', True, 3, 0)])
def test_without_rviz2_the_rest_runs_and_a_warning_says_so(
        stand_in, monkeypatch, rviz, there, nodes, warnings):
    module = stand_in('lerf.launch.py')
    monkeypatch.setattr(module, 'installed', lambda package: there) if there else None
    started = module.nodes({**arguments_of(module), 'rviz': rviz}, ROOT)
    assert len(by_kind(started, 'Node')) == nodes
    said = by_kind(started, 'LogInfo')
    assert len(said) == warnings and all('rviz2 is not installed' in s.named['msg'] for s in said)


def test_wrong_settings_end_the_launch_and_other_deaths_do_not(stand_in):
    module = stand_in('lerf.launch.py')
    started = module.nodes(arguments_of(module), ROOT)
    handlers = [h.arguments[0] for h in by_kind(started, 'RegisterEventHandler')]
    nodes = by_kind(started, 'Node')
    assert [h.named['target_action'] for h in handlers] == nodes
    assert all(n.named['respawn'] and n.named['sigterm_timeout'] == '40' for n in nodes)
    ended = SimpleNamespace(process_name='mapper_node-1', returncode=2)
    with pytest.raises(RuntimeError, match='mapper_node-1 cannot run with these settings'):
        handlers[0].named['on_exit'](ended, None)
    for code in (0, 1, -9):
        ended.returncode = code
        assert handlers[0].named['on_exit'](ended, None) is None


@pytest.mark.parametrize(('name', 'code', 'shutting_down', 'fails'), [
    ('demo_client_node-4', 0, False, False), ('demo_client_node-4', 1, False, True),
    ('mapper_node-2', 0, False, True), ('mapper_node-2', -9, True, False)])
def test_the_demo_fails_with_its_client_and_when_another_node_ends(
        stand_in, tmp_path, name, code, shutting_down, fails):
    module = stand_in('demo.launch.py')
    started = module.nodes({**arguments_of(module), 'out': str(tmp_path)})
    nodes = {n.named['executable']: n for n in by_kind(started, 'Node')}
    assert nodes['demo_client_node'].named['parameters'][1]['check'] is True
    assert {n.named['sigkill_timeout'] for n in nodes.values()} == {'40'}
    end = by_kind(started, 'RegisterEventHandler')[0].arguments[0].named['on_exit']
    event = SimpleNamespace(process_name=name, returncode=code)
    context = SimpleNamespace(is_shutdown=shutting_down)
    if fails:
        with pytest.raises(RuntimeError, match=f'{name} ended with code {code}'):
            end(event, context)
    else:
        assert bool(end(event, context)) is not shutting_down


def test_the_launch_description_starts_both_nodes_with_the_arguments(monkeypatch):
    pytest.importorskip('launch_ros', reason='launch_ros is not installed (PyPI has none)')
    from launch import LaunchContext
    spec = importlib.util.spec_from_file_location('lerf_launch', LAUNCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'get_package_share_directory', lambda name: str(ROOT))
    description = module.generate_launch_description()
    context = LaunchContext()
    context.launch_configurations.update(namespace='a', autostart='false', map_frame='world')
    for entity in description.entities[:-1]:
        entity.execute(context)
    started = [e for e in description.entities[-1].execute(context)
               if hasattr(e, 'node_executable')]
    assert [n.node_executable for n in started] == ['mapper_node', 'query_node']
