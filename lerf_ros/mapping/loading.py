# SPDX-License-Identifier: Apache-2.0
"""Replaces the map that a mapper works on by a saved one, of either kind, if it can go on with it.
"""

from __future__ import annotations

from pathlib import Path

from lerf_ros.config import LerfConfig
from lerf_ros.errors import ConfigError
from lerf_ros.mapping.restart import check_same_map
from lerf_ros.settings import to_dict
from lerf_ros.storage.durable import JsonObject
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.saved_maps import SavedMaps, stored_map
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet

# About half of a keyframe's rays end in other cubes: so many more are drawn, in training and for
# the index, so that as many are left as a map of one frame has.
MORE = 2


def cube_config(config: LerfConfig) -> LerfConfig:
    """Returns the settings of each submap, but for where its cube is."""
    return config.override({
        'scene.keyframes': 1, 'training.rays': MORE * config.training.rays,
        'training.language_rays': MORE * config.training.language_rays,
        'index.rays': MORE * config.index.rays})


def require_own(submaps: SubmapSet, path: Path) -> None:
    """Raises ConfigError for a map that was merged of several: their keyframes share numbers."""
    if submaps.merged:
        raise ConfigError(f'{path} was merged of several maps and can be asked, but not mapped on: '
                          'go on with one of them, and merge them again')


def load_into(path: Path, meta: JsonObject, config: LerfConfig, root: str, name: str) -> int:
    """Replaces the map at a path by a saved one; returns how many keyframes that has.

    meta: the meta.json that the mapper would write. Raises as SavedMaps.load and check_same_map.
    """
    saved = SavedMaps(root)
    found = stored_map(saved.path(name))
    submaps = isinstance(found, SubmapFolder)
    if isinstance(found, SubmapFolder):
        require_own(found.submaps(), found.path)
    settings = to_dict(cube_config(config)) if submaps else to_dict(config)

    def check(part: MapDirectory) -> None:
        stored = part.meta()
        # Each cube is somewhere else.
        scene = stored['config']['scene'] if submaps else settings['scene']
        check_same_map(stored, {**meta, 'config': {**settings, 'scene': scene}}, part)
    return saved.load(name, stored_map(path), check)
