# SPDX-License-Identifier: Apache-2.0
"""Presets: YAML files that only override."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from lerf_ros.errors import ConfigError
from lerf_ros.settings import flatten, nearest


def read_preset(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file by dotted name.

    `base: NAME` at its top takes those of another preset beside it first. Raises ConfigError for a
    file that cannot be read or is no mapping.
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


def installed_share() -> Path | None:
    """The folder with config/ and launch/: the source tree, or below this Python's prefix."""
    source = Path(__file__).resolve().parents[2]
    if (source / 'package.xml').is_file() and (source / 'config').is_dir():
        return source
    prefix = Path(sys.prefix) / 'share' / 'lerf_ros'
    return prefix if prefix.is_dir() else None


def preset_path(preset: str, share: Path | None = None) -> Path:
    """The file of a preset given by its name or by a path; share: the folder that holds config/.

    Raises ConfigError, naming the presets there are, when there is no such file.
    """
    if preset.endswith(('.yaml', '.yml')) or '/' in preset:
        path = Path(preset).expanduser()
        if not path.is_file():
            raise ConfigError(f'preset {preset!r}: there is no such file')
        return path
    share = share or installed_share()
    known = sorted(p.stem for p in (share / 'config' / 'presets').glob('*.yaml')) if share else []
    if share is None or preset not in known:
        raise ConfigError(f'unknown preset {preset!r}{nearest(preset, known)}; presets are '
                          f'{", ".join(known)}, or give the path of a YAML file')
    return share / 'config' / 'presets' / f'{preset}.yaml'
