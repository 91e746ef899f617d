# SPDX-License-Identifier: Apache-2.0
"""The options that several commands share: --preset and --set."""

from __future__ import annotations

import argparse

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.errors import ConfigError
from lerf_ros.settings import flat_fields, nearest


def add_settings(command: argparse.ArgumentParser) -> None:
    """Adds --preset and --set to a command."""
    command.add_argument('--preset', help='offline, online, reference, ... or a YAML file')
    command.add_argument('--set', nargs='*', default=(), metavar='NAME=VALUE',
                         help='settings, such as training.rays=1024')


def read_config(arguments: argparse.Namespace) -> LerfConfig:
    """Returns the settings: defaults, overridden by the preset, overridden by --set."""
    config = load_preset(preset_path(arguments.preset)) if arguments.preset else LerfConfig()
    return config.override(overrides(arguments.set))


def overrides(pairs: list[str]) -> dict[str, object]:
    """Parses NAME=VALUE pairs with YAML values; raises ConfigError for anything else.

    Nothing after the sign is the empty text, as a shell means it, where YAML has null.
    """
    import yaml
    out: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition('=')
        if not equals:
            known = [n for n, _, _ in flat_fields(LerfConfig())]
            raise ConfigError(f'--set {pair}: expected NAME=VALUE{nearest(name, known)}')
        out[name] = yaml.safe_load(value) if value.strip() else ''
    return out
