# SPDX-License-Identifier: Apache-2.0
"""Where the package's config, launch and rviz files are."""

from __future__ import annotations

import sys
from pathlib import Path

from lerf_ros import config
from lerf_ros.errors import ConfigError


def share_directory() -> Path:
    """The folder that holds config/, launch/ and rviz/.

    The source tree comes first, so that an editable installation and its tests see edits; then the
    ament index, then the prefix of this Python, for wheels whose prefix nobody has announced.
    Raises ConfigError when none of them holds the package's files.
    """
    source = Path(__file__).resolve().parents[2]
    if (source / 'package.xml').is_file() and (source / 'config').is_dir():
        return source
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        pass
    else:
        try:
            return Path(get_package_share_directory('lerf_ros'))
        except (PackageNotFoundError, LookupError, ValueError):
            pass    # AMENT_PREFIX_PATH is unset or names other workspaces only
    prefix = Path(sys.prefix) / 'share' / 'lerf_ros'
    if prefix.is_dir():
        return prefix
    raise ConfigError('the share folder of lerf_ros was not found: source the workspace '
                      '(install/setup.bash) or reinstall with pip install .')


def preset_path(preset: str) -> Path:
    """The file of a preset given by its name or by a path; ConfigError when there is none."""
    by_path = preset.endswith(('.yaml', '.yml')) or '/' in preset
    return config.preset_path(preset, None if by_path else share_directory())
