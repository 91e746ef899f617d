# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from settings: one for each, checked, with precedence and spelling.

Precedence, the last wins: dataclass, preset (parameter `preset`), then whatever ROS hands to the
node: params file, launch argument, command line. Before a map's own settings only the latter come:
they were given by name (`given_settings`). rclpy itself accepts a misspelt override in
silence and refuses 0 for a float; both are put right here.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.config import presets as config_presets
from lerf_ros.errors import ConfigError
from lerf_ros.nodes.common.node_config import MapperNodeConfig, QueryNodeConfig
from lerf_ros.settings import flat_fields, nearest, override

T = TypeVar('T')

INT64 = (-2**63, 2**63 - 1)
SCALARS = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, float: Parameter.Type.DOUBLE,
           str: Parameter.Type.STRING}
ARRAYS = {bool: Parameter.Type.BOOL_ARRAY, int: Parameter.Type.INTEGER_ARRAY,
          float: Parameter.Type.DOUBLE_ARRAY, str: Parameter.Type.STRING_ARRAY}


def declare(node: Node, config: T, also_known: Iterable[str] = ()) -> T:
    """Declares one read-only parameter for every setting of `config`; returns the resolved config.

    `config` holds the defaults (an instance, or a dataclass that makes them), `also_known` names
    parameters that may be given to this node although it does not use them.

    Raises ConfigError for a misspelt parameter (naming the nearest), a wrong type, a value out of
    range and a preset that cannot be read.
    """
    return declare_all(node, config, also_known=also_known)[0]


def declare_all(node: Node, *configs: Any, also_known: Iterable[str] = (),
                read_only: bool = True) -> tuple[Any, ...]:
    """`declare` for several dataclasses whose settings share one node; names must differ.

    read_only: false where LiveParameters tells what may change, and why the others may not.
    """
    bases = [c() if isinstance(c, type) else c for c in configs]
    own = [name for base in bases for name, _, _ in flat_fields(base)]
    given = given_parameters(node)
    refuse_unknown(given, [*own, 'preset', *also_known, *shared_names()])
    preset = read_preset(node, given.get('preset') or '', own, read_only)
    resolved = []
    for base in bases:
        names = {name for name, _, _ in flat_fields(base)}
        config = override(base, {k: v for k, v in preset.items() if k in names})
        config = override(config, typed(base, {k: v for k, v in given.items() if k in names}))
        declare_fields(node, config, read_only)
        resolved.append(config)
    return tuple(resolved)


def given_settings(node: Node, base: Any) -> dict[str, Any]:
    """The settings of `base` that were given to this node by name, typed; no preset's."""
    names = {name for name, _, _ in flat_fields(base)}
    return typed(base, {name: parameter.value for name, parameter in
                        node._parameter_overrides.items() if name in names})


def given_parameters(node: Node) -> dict[str, Any]:
    """What a params file, a launch file and the command line set for this node, by name.

    Parameters of rclpy itself are left out. An empty list arrives without a type, as None.
    """
    own = set(node._parameters)     # declared by rclpy before us: use_sim_time and its like
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()
            if name not in own and not name.startswith('qos_overrides.')}


def shared_names() -> list[str]:
    """The parameters of the main nodes: a params file for `/**` hands all of them to each node."""
    return [name for config in (LerfConfig(), MapperNodeConfig(), QueryNodeConfig())
            for name, _, _ in flat_fields(config)]


def refuse_unknown(given: Iterable[str], known: list[str]) -> None:
    """Raises ConfigError for parameters that do not exist, all of them, each with the nearest."""
    unknown = [f'{name!r}{nearest(name, known)}' for name in given if name not in known]
    if unknown:
        raise ConfigError(
            f'unknown parameter {"; ".join(unknown)}. A parameter of another node belongs under '
            "that node's name (`/**/other_node:`) in the params file")


def read_preset(node: Node, preset: Any, own: list[str], read_only: bool) -> dict[str, Any]:
    """The settings that a preset gives to this node, by dotted name.

    Declares the parameter `preset` where the node has settings that presets speak of.
    """
    if not isinstance(preset, str):
        raise ConfigError(f'preset = {preset!r}: expected a name or the path of a YAML file')
    if not {name for name, _, _ in flat_fields(LerfConfig())} & set(own):
        return {}
    node.declare_parameter('preset', preset, ParameterDescriptor(
        description='settings to start from: a name (offline, online, ...) or a YAML file',
        read_only=read_only), ignore_override=True)
    if not preset:
        return {}
    path = preset_path(preset)
    load_preset(path)   # names what is wrong in the file
    return {k: v for k, v in config_presets.read_preset(path).items() if k in own}


def typed(base: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Untyped empty lists become empty tuples; any other missing value is refused."""
    values = dict(given)
    for name, _, default in flat_fields(base):
        if name in values and values[name] is None:
            if not isinstance(default, tuple):
                raise ConfigError(f'parameter {name!r} is given without a value')
            values[name] = ()
    return values


def declare_fields(node: Node, config: Any, read_only: bool) -> None:
    """Declares the parameters of one resolved config."""
    hints = setting_types(config)
    for name, field, value in flat_fields(config):
        described = descriptor(field, hints[name], read_only)
        if value == ():
            declare_empty(node, name, array_type(hints[name]), described)
        else:
            node.declare_parameter(name, list(value) if isinstance(value, tuple) else value,
                                   described, ignore_override=True)


def declare_empty(node: Node, name: str, kind: Parameter.Type,
                  described: ParameterDescriptor) -> None:
    """Declares an array that is empty.

    A value [] has no element type for rclpy, and a declared type has no value, for want of which
    it answers a request for all parameters, as `ros2 param dump` makes it, with none at all.
    """
    node.declare_parameter(name, kind, ParameterDescriptor(), ignore_override=True)
    node.set_parameters([Parameter(name, kind, [])])
    described.type = kind.value
    node.set_descriptor(name, described)


def array_type(hint: Any) -> Parameter.Type:
    """Of a setting that is a tuple."""
    return ARRAYS[typing.get_args(hint)[0]]


def to_parameter(name: str, hint: Any, value: Any) -> Parameter:
    """A setting's value as a parameter."""
    if typing.get_origin(hint) is tuple:
        return Parameter(name, array_type(hint), list(value))
    return Parameter(name, SCALARS[hint], value)


def setting_types(config: Any, prefix: str = '') -> dict[str, Any]:
    """The type of every setting of nested dataclasses, by dotted name."""
    hints = typing.get_type_hints(type(config))
    types: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            types.update(setting_types(value, f'{prefix}{field.name}.'))
        else:
            types[f'{prefix}{field.name}'] = hints[field.name]
    return types


def descriptor(field: dataclasses.Field, hint: Any, read_only: bool = True) -> ParameterDescriptor:
    """Meaning, unit and range of a setting, as `ros2 param describe` shows them."""
    doc, unit, low, high, choices = (
        field.metadata.get(k) for k in ('doc', 'unit', 'low', 'high', 'choices'))
    result = ParameterDescriptor(
        description=f'{doc} [{unit}]' if unit else str(doc), read_only=read_only,
        additional_constraints=f'one of {", ".join(choices)}' if choices else '')
    if low is None and high is None:
        return result
    if hint is float:
        result.floating_point_range.append(FloatingPointRange(
            from_value=float('-inf') if low is None else float(low),
            to_value=float('inf') if high is None else float(high)))
    elif hint is int:
        result.integer_range.append(IntegerRange(
            from_value=INT64[0] if low is None else int(low),
            to_value=INT64[1] if high is None else int(high)))
    else:
        result.additional_constraints = f'each value from {low} to {high}'
    return result
