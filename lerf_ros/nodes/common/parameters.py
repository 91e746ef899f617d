# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from settings: each is declared, checked and found by name.

Later sources override earlier ones: the dataclass, the preset (parameter `preset`), then what ROS
gives to the node in a params file, a launch argument or on the command line. Only these last ones
override the settings that a map was made with (`given_settings`). rclpy itself silently accepts a
misspelt override and refuses 0 for a float; this module corrects both.
"""

from __future__ import annotations

import dataclasses
import threading
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.config import presets as config_presets
from lerf_ros.errors import ConfigError, LerfError
from lerf_ros.nodes.common.node_config import MapperNodeConfig, QueryNodeConfig
from lerf_ros.settings import flat_fields, nearest, override

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar('T', bound='DataclassInstance')
U = TypeVar('U', bound='DataclassInstance')

INT64 = (-2**63, 2**63 - 1)
SCALARS: dict[object, Parameter.Type] = {
    bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING}
ARRAYS: dict[object, Parameter.Type] = {
    bool: Parameter.Type.BOOL_ARRAY, int: Parameter.Type.INTEGER_ARRAY,
    float: Parameter.Type.DOUBLE_ARRAY, str: Parameter.Type.STRING_ARRAY}


def declare(node: Node, config: T) -> T:
    """Declares a read-only parameter for every setting of a dataclass; returns the resolved one.

    config: holds the defaults. Raises ConfigError for a misspelt parameter (naming the nearest), a
    wrong type, a value out of range and a preset that cannot be read.
    """
    preset, given = read_values(node, (config,), read_only=True)
    return declare_config(node, config, preset, given, read_only=True)


def declare_all(node: Node, first: T, second: U, read_only: bool = True) -> tuple[T, U]:
    """Declares two dataclasses, whose names must differ, as `declare` does one.

    read_only: False where LiveParameters decides what may change.
    """
    preset, given = read_values(node, (first, second), read_only)
    return (declare_config(node, first, preset, given, read_only),
            declare_config(node, second, preset, given, read_only))


def read_values(node: Node, configs: Sequence[DataclassInstance],
                read_only: bool) -> tuple[dict[str, object], dict[str, object]]:
    """Returns the values of the preset and those given to the node, by dotted name.

    Declares the parameter `preset`. Raises ConfigError for an unknown parameter or preset.
    """
    names = [name for config in configs for name, _, _ in flat_fields(config)]
    given = given_parameters(node)
    # A params file for `/**` gives the parameters of all main nodes to each node.
    shared = [name for config in (LerfConfig(), MapperNodeConfig(), QueryNodeConfig())
              for name, _, _ in flat_fields(config)]
    refuse_unknown(given, [*names, 'preset', *shared])
    return read_preset(node, given.get('preset') or '', names, read_only), given


def declare_config(node: Node, base: T, preset: Mapping[str, object],
                   given: Mapping[str, object], read_only: bool) -> T:
    """Declares the parameters of a dataclass with their values; returns the resolved dataclass."""
    names = {name for name, _, _ in flat_fields(base)}
    config = override(base, {k: v for k, v in preset.items() if k in names})
    config = override(config, fill_empty({k: v for k, v in given.items() if k in names}, base))
    types = setting_types(config)
    for name, field, value in flat_fields(config):
        described = descriptor(field, types[name], read_only)
        if value == ():
            declare_empty(node, name, array_type(types[name]), described)
        else:
            node.declare_parameter(name, list(value) if isinstance(value, tuple) else value,
                                   described, ignore_override=True)
    return config


def given_settings(node: Node, base: DataclassInstance) -> dict[str, object]:
    """Returns the settings of a dataclass that were given to this node by name, without presets."""
    names = {name for name, _, _ in flat_fields(base)}
    return fill_empty({name: parameter.value for name, parameter in
                       node._parameter_overrides.items() if name in names}, base)


def given_parameters(node: Node) -> dict[str, object]:
    """Returns what params file, launch file and command line set for this node, by name.

    Leaves out the parameters of rclpy itself. An empty list arrives without a type, as None.
    """
    own = set(node._parameters)     # that rclpy has declared before, such as use_sim_time
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()
            if name not in own and not name.startswith('qos_overrides.')}


def refuse_unknown(given: Iterable[str], known: list[str]) -> None:
    """Raises ConfigError that names all unknown parameters, each with the nearest known one."""
    unknown = [f'{name!r}{nearest(name, known)}' for name in given if name not in known]
    if unknown:
        raise ConfigError(
            f'unknown parameter {"; ".join(unknown)}. A parameter of another node belongs under '
            "that node's name (`/**/other_node:`) in the params file")


def read_preset(node: Node, preset: object, names: list[str],
                read_only: bool) -> dict[str, object]:
    """Returns the values of a preset for the settings of this node, by dotted name.

    Declares the parameter `preset` where the node has settings of the core. Raises ConfigError for
    a preset that cannot be read.
    """
    if not isinstance(preset, str):
        raise ConfigError(f'preset = {preset!r}: expected a name or the path of a YAML file')
    if not {name for name, _, _ in flat_fields(LerfConfig())} & set(names):
        return {}
    node.declare_parameter('preset', preset, ParameterDescriptor(
        description='settings to start from: a name (offline, online, ...) or a YAML file',
        read_only=read_only), ignore_override=True)
    if not preset:
        return {}
    path = preset_path(preset)
    load_preset(path)   # raises an error that names what is wrong in the file
    return {k: v for k, v in config_presets.read_preset(path).items() if k in names}


def fill_empty(given: Mapping[str, object], base: DataclassInstance) -> dict[str, object]:
    """Returns the given values with () for an untyped empty list.

    Raises ConfigError for any other missing value.
    """
    values = dict(given)
    for name, _, default in flat_fields(base):
        if name in values and values[name] is None:
            if not isinstance(default, tuple):
                raise ConfigError(f'parameter {name!r} is given without a value')
            values[name] = ()
    return values


def declare_empty(node: Node, name: str, kind: Parameter.Type,
                  described: ParameterDescriptor) -> None:
    """Declares an empty array.

    For rclpy the value [] has no element type, and a declared type alone has no value: then it
    answers a request for all parameters, such as that of `ros2 param dump`, with none at all.
    """
    node.declare_parameter(name, kind, ParameterDescriptor(), ignore_override=True)
    node.set_parameters([Parameter(name, kind, [])])
    described.type = kind.value
    node.set_descriptor(name, described)


def array_type(hint: object) -> Parameter.Type:
    """Returns the parameter type of a setting that is a tuple."""
    return ARRAYS[typing.get_args(hint)[0]]


def setting_types(config: DataclassInstance, prefix: str = '') -> dict[str, object]:
    """Returns the type hint of every setting of nested dataclasses, by dotted name."""
    types: dict[str, object] = {}
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            types.update(setting_types(value, f'{prefix}{name}.'))
        else:
            types[f'{prefix}{name}'] = hint
    return types


def descriptor(field: dataclasses.Field[object], hint: object,
               read_only: bool = True) -> ParameterDescriptor:
    """Returns meaning, unit and range of a setting, as `ros2 param describe` shows them."""
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


class LiveParameters:
    """Answers requests to set parameters while a node runs: checks values, or says why not."""

    def __init__(self, node: Node, configs: Sequence[DataclassInstance],
                 why_fixed: Callable[[str], str],
                 on_change: Callable[[Mapping[str, object]], None]) -> None:
        """configs: those that `declare_all` returned.

        why_fixed: returns why a setting cannot change while the node runs, '' when it can.
        on_change: called with the new values by dotted name; may refuse them with a LerfError.
        """
        self._node, self._configs = node, configs
        self._why_fixed, self._on_change = why_fixed, on_change
        self._types = {k: hint for c in configs for k, hint in setting_types(c).items()}
        self._showing: int | None = None    # the thread that only shows values
        node.add_on_set_parameters_callback(self.on_set)

    def on_set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Accepts all parameters, or none and says why."""
        if self._showing == threading.get_ident():
            return SetParametersResult(successful=True)
        ours = {*self._types, 'preset'}
        values = {p.name: p.value for p in parameters if p.name in ours}
        for name in values:
            if reason := self._why_fixed(name):
                return SetParametersResult(successful=False, reason=f'{name}: {reason}')
        try:
            for config in self._configs:
                known = setting_types(config)
                override(config, {k: v for k, v in values.items() if k in known})
            if values:
                self._on_change(values)
        except LerfError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def show(self, values: Mapping[str, object]) -> None:
        """Sets parameters to the values in force, which nobody has requested."""
        self._showing = threading.get_ident()
        try:
            self._node.set_parameters([self._parameter(*item) for item in values.items()])
        finally:
            self._showing = None

    def _parameter(self, name: str, value: object) -> Parameter:
        hint = self._types[name]
        if isinstance(value, tuple):
            return Parameter(name, array_type(hint), list(value))
        return Parameter(name, SCALARS[hint], value)
