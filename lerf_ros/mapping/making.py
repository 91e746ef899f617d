# SPDX-License-Identifier: Apache-2.0
"""Which kind of map a folder holds, or is to hold: one scene frame, or submaps."""

from __future__ import annotations

import logging
from pathlib import Path

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.mapping.fused_map import FusedMap
from lerf_ros.mapping.map_maker import MapMaker
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.storage.durable import JsonObject
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.saved_maps import stored_map
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet
from lerf_ros.submap_mapper import SubmapMapper

log = logging.getLogger(__name__)


def claim_map(path: str | Path) -> bool:
    """Returns whether a map of either kind is in a folder; writes nothing.

    Raises ForeignFolderError where none may be written, MapUnreadableError for a damaged one.
    """
    return stored_map(Path(path)).claim()


def makes_submaps(config: LerfConfig, path: str | Path) -> bool:
    """Returns whether the map in a folder consists of submaps, or will, where none is there."""
    there = SubmapFolder(path).exists()
    return there if there or MapDirectory(path).exists() else config.submaps.use


def make_map(config: LerfConfig, path: str | Path, encoder: ImageTextEncoder, frame_id: str,
             metric: bool, cache: FeatureCache | None = None) -> MapMaker:
    """Opens the map in a folder, or begins the kind that submaps.use says.

    A map that is there goes on as what it is. Raises as the constructors of the two.
    """
    submaps = makes_submaps(config, path)
    if submaps != config.submaps.use:
        log.warning('the map in %s %s, and goes on so, whatever submaps.use says: choose another '
                    'folder to begin one of the other kind', path,
                    'is a folder of submaps' if submaps else 'has one scene frame')
    if submaps:
        return SubmapMapper(config, path, encoder, frame_id, metric, cache)
    return single_map(config)(config, MapDirectory(path, metric), encoder, frame_id, metric, cache)


def single_map(config: LerfConfig) -> type[SingleMap]:
    """Returns what makes a map of one scene frame: with a field, or by fusion alone."""
    return SingleMap if config.training.field == 'lerf' else FusedMap


def begin_map(config: LerfConfig, path: str | Path, encoder: ImageTextEncoder, metric: bool,
              source: JsonObject) -> None:
    """Begins the kind of map that submaps.use says, in the place of one that is in the folder.

    source: of which capture it is made, for meta.json. What others put into the folder stays.
    """
    before = stored_map(Path(path))
    if before.claim() and isinstance(before, SubmapFolder) != config.submaps.use:
        before.delete(before.own_files())
    if not config.submaps.use:
        mapper = single_map(config)(config, MapDirectory(path, metric), encoder, 'map', metric)
        mapper.directory.clear({**mapper.meta(None), 'source': source})
        return
    folder, c = SubmapFolder(path, metric), config.submaps
    folder.claim()
    folder.clear()
    folder.write(SubmapSet.begin(SubmapLattice((0.0, 0.0, 0.0), c.radius, c.overlap), source))
