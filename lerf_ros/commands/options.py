# SPDX-License-Identifier: Apache-2.0
"""The options that several commands share: --preset and --set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lerf_ros.errors import ConfigError

if TYPE_CHECKING:
    from lerf_ros.config import LerfConfig


def add_settings(command: argparse.ArgumentParser) -> None:
    """Adds --preset and --set to a command."""
    command.add_argument('--preset', help='offline, online, reference, ... or a YAML file')
    add_set(command, 'settings, such as training.rays=1024; docs/parameters.md lists them')


def add_set(command: argparse.ArgumentParser, meaning: str) -> None:
    """Adds --set to a command; several settings may follow one --set."""
    command.add_argument('--set', action='append', default=[], metavar='NAME=VALUE', help=meaning)


def read_config(arguments: argparse.Namespace) -> LerfConfig:
    """Returns the settings: defaults, overridden by the preset, overridden by --set."""
    from lerf_ros.config import LerfConfig, load_preset, preset_path
    config = load_preset(preset_path(arguments.preset)) if arguments.preset else LerfConfig()
    return config.override(overrides(arguments.set))


def overrides(pairs: Sequence[str]) -> dict[str, object]:
    """Parses NAME=VALUE pairs with YAML values; raises ConfigError for anything else.

    Nothing after the sign is the empty text, as a shell means it, where YAML has null.
    """
    import yaml

    from lerf_ros.config import LerfConfig
    from lerf_ros.settings import flat_fields, nearest
    out: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition('=')
        if not equals:
            known = [n for n, _, _ in flat_fields(LerfConfig())]
            raise ConfigError(f'--set {pair}: expected NAME=VALUE{nearest(name, known)}')
        out[name] = yaml.safe_load(value) if value.strip() else ''
    return out


def phrases(values: Sequence[str]) -> tuple[str, ...]:
    """Returns the phrases of an option that may be given several times, with ; between phrases.

    A value of blanks stays, so that the request is refused for it.
    """
    return tuple(part.strip() for value in values for part in value.split(';'))
