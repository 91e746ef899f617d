# SPDX-License-Identifier: Apache-2.0
"""Parameters: spelling, types, precedence, descriptors."""

from dataclasses import dataclass

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from lerf_ros.config import LerfConfig
from lerf_ros.errors import ConfigError
from lerf_ros.nodes.common.node_config import MapperNodeConfig, map_directory
from lerf_ros.nodes.common.parameters import declare, declare_all
from lerf_ros.settings import Checked, flat_fields, setting

pytestmark = pytest.mark.ros


@dataclass(frozen=True)
class Example(Checked):
    speed: float = setting(0.5, 'how fast', unit='m/s', low=0.0, high=2.0)
    names: tuple[str, ...] = setting(('a',), 'names')
    mode: str = setting('x', 'which', choices=('x', 'y'))


@pytest.fixture
def make_node():
    context = rclpy.Context()
    context.init()
    nodes = []

    def make(*arguments):
        cli = ['--ros-args', *arguments] if arguments else None
        nodes.append(Node('example', context=context, cli_args=cli, use_global_arguments=False,
                          start_parameter_services=False))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


def test_without_overrides_the_dataclass_decides(make_node):
    node = make_node()
    assert declare(node, LerfConfig()) == LerfConfig()
    for name, _, value in flat_fields(LerfConfig()):
        if value != ():
            declared = node.get_parameter(name).value
            assert (list(declared) if isinstance(value, tuple) else declared) == \
                (list(value) if isinstance(value, tuple) else value)


def test_a_class_stands_for_its_defaults(make_node):
    assert declare(make_node(), Example()) == Example()


def test_integer_passes_for_a_float(make_node):
    node = make_node('-p', 'query.threshold:=1', '-p', 'features.widths:=[1, 2]')
    config = declare(node, LerfConfig())
    assert config.query.threshold == 1.0
    assert config.features.widths == (1.0, 2.0)
    assert node.get_parameter('query.threshold').type_ == Parameter.Type.DOUBLE


def test_misspelt_names_stop_with_the_nearest_named(make_node):
    node = make_node('-p', 'training.ray:=5', '-p', 'map_direktory:=x')
    with pytest.raises(ConfigError) as error:
        declare_all(node, LerfConfig(), MapperNodeConfig())
    assert "'training.ray'; did you mean 'training.rays'?" in str(error.value)
    assert "'map_direktory'; did you mean 'map_directory'?" in str(error.value)


def test_parameters_of_rclpy_and_of_the_other_main_node_are_not_misspelt(make_node):
    node = make_node('-p', 'use_sim_time:=true', '-p', 'training.rays:=64',
                     '-p', 'qos_overrides./x.publisher.depth:=5')
    assert declare(node, Example()) == Example()
    assert node.get_parameter('use_sim_time').value is True


@pytest.mark.parametrize(('override', 'message'), [
    ('speed:=3.0', 'speed = 3.0 m/s: must lie between 0.0 and 2.0 m/s'),
    ('speed:=fast', "speed = 'fast': expected float"),
    ('mode:=z', "mode = 'z': choose one of x, y"),
    ('names:=b', "names = 'b': expected a list"),
    ('speed:=[]', "parameter 'speed' is given without a value")])
def test_wrong_values_are_named(make_node, override, message):
    with pytest.raises(ConfigError, match=message.replace('[', r'\[')):
        declare(make_node('-p', override), Example())


def test_empty_lists_work_as_default_and_as_override(make_node):
    node = make_node('-p', 'query.negatives:=[]')
    config = declare(node, LerfConfig())
    assert config.query.negatives == () and config.scene.center == ()
    assert node.describe_parameter('query.negatives').type == Parameter.Type.STRING_ARRAY.value
    center = declare(make_node('-p', 'scene.center:=[1, 2, 3]'), LerfConfig()).scene.center
    assert center == (1.0, 2.0, 3.0)


def test_dataclass_then_preset_then_override(make_node, tmp_path):
    preset = tmp_path / 'mine.yaml'
    preset.write_text('training: {rays: 64, seed: 7}\n')
    params = tmp_path / 'params.yaml'
    params.write_text(f'/**:\n  ros__parameters:\n    preset: {preset}\n'
                      '    training: {seed: 8, threads: 2}\n')
    node = make_node('--params-file', str(params), '-p', 'training.threads:=3')
    training = declare(node, LerfConfig()).training
    assert training.rays == 64         # preset over dataclass
    assert training.seed == 8          # params file over preset
    assert training.threads == 3       # command line over params file
    assert node.get_parameter('preset').value == str(preset)


def test_unknown_preset_names_those_there_are(make_node):
    with pytest.raises(ConfigError, match="'onlin'; did you mean 'online'.*offline, online"):
        declare(make_node('-p', 'preset:=onlin'), LerfConfig())


def test_misspelt_setting_in_a_preset(make_node, tmp_path):
    preset = tmp_path / 'mine.yaml'
    preset.write_text('training: {rayz: 64}\n')
    with pytest.raises(ConfigError, match="training.rayz.*did you mean 'training.rays'"):
        declare(make_node('-p', f'preset:={preset}'), LerfConfig())


@pytest.mark.parametrize('name', ['offline', 'online'])
def test_own_presets_are_valid(make_node, name):
    assert declare(make_node('-p', f'preset:={name}'), LerfConfig())


def test_descriptors_carry_meaning_unit_and_range(make_node):
    node = make_node()
    declare(node, Example())
    speed = node.describe_parameter('speed')
    assert speed.description == 'how fast [m/s]' and speed.read_only
    assert speed.floating_point_range[0].to_value == 2.0
    assert node.describe_parameter('mode').additional_constraints == 'one of x, y'


def test_every_parameter_of_the_package_has_a_description(make_node):
    node = make_node()
    declare_all(node, LerfConfig(), MapperNodeConfig())
    for name in (n for c in (LerfConfig(), MapperNodeConfig()) for n, _, _ in flat_fields(c)):
        assert node.describe_parameter(name).description, name


def test_map_directories_of_two_robots_differ(monkeypatch):
    monkeypatch.setenv('ROS_HOME', '/ros')
    assert str(map_directory('', '/a')) == '/ros/lerf/a/map'
    assert str(map_directory('', '/')) == '/ros/lerf/map'
    assert str(map_directory('/m', '/a')) == '/m'
