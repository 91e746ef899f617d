# SPDX-License-Identifier: Apache-2.0
"""The launch file and the parameter files; launched for real where launch_ros is installed."""

import ast
import importlib.util
from pathlib import Path

import pytest
import yaml

from lerf_ros.config import LerfConfig, load_preset
from lerf_ros.nodes.node_config import MapperNodeConfig, QueryNodeConfig
from lerf_ros.settings import flat_fields, flatten

ROOT = Path(__file__).parents[1]
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
    started = description.entities[-1].execute(context)
    assert [n.node_executable for n in started] == ['mapper_node', 'query_node']
    context.launch_configurations['rviz'] = 'true'
    assert len(description.entities[-1].execute(context)) == 3
