# SPDX-License-Identifier: Apache-2.0
"""Presets: YAML files that override settings, and the share directory that holds them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from lerf_ros.errors import ConfigError
from lerf_ros.settings import flatten, nearest


def read_preset(path: str | Path) -> dict[str, object]:
    """Reads the settings of a YAML file, by dotted name.

    `base: NAME` at its top includes those of the preset NAME in the same folder. Raises ConfigError
    for a file that cannot be read or is not a mapping.
    """
    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f'preset {path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise ConfigError(f'preset {path} must be a mapping of settings')
    base = content.pop('base', None)
    settings = flatten(content)
    if base is None:
        return settings
    if base == Path(path).stem:
        raise ConfigError(f'preset {path} names itself as its base')
    return {**read_preset(Path(path).with_name(f'{base}.yaml')), **settings}


def share_directory() -> Path:
    """Returns the folder that holds config/, launch/ and rviz/.

    The source tree comes first, so that an editable installation and its tests see edits; then the
    sourced workspaces, then the prefix of this Python, for wheels whose prefix nobody announced.
    Raises ConfigError when none of them holds the files of the package.
    """
    source = Path(__file__).resolve().parents[2]
    if (source / 'package.xml').is_file() and (source / 'config').is_dir():
        return source
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    for share in (Path(prefix) / 'share' / 'lerf_ros' for prefix in prefixes if prefix):
        if (share / 'config').is_dir():
            return share
    raise ConfigError('the share folder of lerf_ros was not found: source the workspace '
                      '(install/setup.bash) or reinstall with pip install .')


def preset_path(preset: str, share: Path | None = None) -> Path:
    """Returns the file of a preset given by its name or by a path.

    share: the folder that holds config/, by default that of this installation. Raises ConfigError,
    naming the presets there are, when there is no such file.
    """
    if preset.endswith(('.yaml', '.yml')) or '/' in preset:
        path = Path(preset).expanduser()
        if not path.is_file():
            raise ConfigError(f'preset {preset!r}: there is no such file')
        return path
    folder = (share or share_directory()) / 'config' / 'presets'
    known = sorted(path.stem for path in folder.glob('*.yaml'))
    if preset not in known:
        raise ConfigError(f'unknown preset {preset!r}{nearest(preset, known)}; presets are '
                          f'{", ".join(known)}, or give the path of a YAML file')
    return folder / f'{preset}.yaml'
