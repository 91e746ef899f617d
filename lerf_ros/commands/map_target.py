# SPDX-License-Identifier: Apache-2.0
"""Finds the map that a command means: where `train` writes it, and where others read it.

It checks that nothing else is lost, and that a map that is resumed was made from the same images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lerf_ros.errors import (
    DatasetError,
    ForeignFolderError,
    MapInTheWayError,
    MapUnreadableError,
    NoSnapshotError,
)
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import COEFFICIENTS, PinholeCamera
from lerf_ros.storage.keyframe_files import as_stored
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.ownership import META, read_meta, require_apart
from lerf_ros.storage.saved_maps import StoredMap, parts, stored_map
from lerf_ros.storage.submaps import MANIFEST, SubmapFolder

COMPARED = 8            # images of a map that are compared with those of the folder, at most
DEPTH_TOLERANCE_M = 1e-3
DEFAULT_MAPS = Path('out/maps')
MAX_NAMED = 5           # maps that an error lists


def map_place(capture: str | Path, given: str | None) -> Path:
    """Returns the folder of the map of a capture: the given one, or out/maps/NAME.

    NAME is that of the capture's folder. If something else is there, such as the map of another
    capture of this name, a hash of the capture's path is appended; so a capture always finds its
    own map.
    """
    if given:
        return Path(given)
    source = Path(capture).resolve()
    place = DEFAULT_MAPS / (source.name or 'map')
    other = place.with_name(f'{place.name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}')
    made = [p for p in (place, other) if source_of(p).get('capture') == str(source)]
    return made[0] if made else place if _free(place, source) else other


def require_map(place: str | Path) -> StoredMap:
    """Returns the map in a folder; raises NoSnapshotError where no map was begun.

    Raises MapUnreadableError for a file, and for a folder that holds other things.
    """
    stored = stored_map(Path(place))
    if not stored.exists():
        there = Path(place).is_dir()
        others = sorted(str(file.parent) for name in (META, MANIFEST)
                        for file in DEFAULT_MAPS.glob(f'*/{name}'))
        raise NoSnapshotError(
            f'there is no map in {place}, {"an empty folder" if there else "which does not exist"}'
            f': lerf_ros train FOLDER --map {place} makes one from a capture'
            f'{"; maps here: " + ", ".join(others[:MAX_NAMED]) if others else ""}')
    return stored


def require_single(place: str | Path) -> MapDirectory:
    """Returns a map of one frame; raises MapUnreadableError for submaps, and as `require_map`."""
    stored = require_map(place)
    if isinstance(stored, SubmapFolder):
        raise MapUnreadableError(f'{place} is a folder of submaps, and this works on a map of one '
                                 f'frame: name one of them, such as {stored.path_of(0)}')
    return stored


def source_of(place: Path) -> dict[str, object]:
    """Returns what a map records about the source of its images, or an empty dict."""
    stored = stored_map(place)
    if isinstance(stored, SubmapFolder):
        return stored.submaps().source
    source = (read_meta(place) or {}).get('source')
    return source if isinstance(source, dict) else {}


def _free(place: Path, source: Path) -> bool:
    try:
        require_apart(place, [source])
        return not stored_map(place).claim()
    except ForeignFolderError:
        return False


def check_place(place: Path, capture: str | Path, images: Iterable[str], resume: bool,
                force: bool) -> None:
    """Raises an error if a map must not be written to a folder; writes nothing.

    images: paths relative to the capture. resume, force: as on the command line. Raises
    ForeignFolderError for a folder of the input or with files of others, MapInTheWayError for one
    with a map unless it is resumed or may be deleted, and NoSnapshotError if there is nothing to
    resume.
    """
    require_apart(place, [capture])
    for name in images:
        image = (Path(capture) / name).resolve()
        if place.resolve() in image.parents:
            raise ForeignFolderError(f'{place} holds the image {image} of {capture}: choose a '
                                     'folder of its own for the map')
    there = stored_map(place).claim()
    if resume and not there:
        raise NoSnapshotError(f'{place} holds no training to go on with: leave out --resume to '
                              'begin, or name the map with --map')
    if there and not (resume or force):
        source = source_of(place).get('capture')
        raise MapInTheWayError(
            f'{place} holds a map{f" of {source}" if source else ""}: --resume goes on with it, '
            '--force deletes it and begins anew, --map FOLDER writes another one')


def check_same_images(place: Path, capture: str, frames: Sequence[Frame]) -> None:
    """Raises DatasetError, which names the difference, unless a map was made from these images.

    A sample of them is compared pixel by pixel.
    """
    files = {index: part.keyframes for part in parts(stored_map(place))
             for index in part.keyframes.indices()}
    stored = sorted(files)
    count = source_of(place).get('images', len(frames))
    if count != len(frames) or len(stored) > len(frames):
        raise DatasetError(
            f'the map in {place} is made from {max(int(str(count)), len(stored))} images, '
            f'and {capture} has {len(frames)}: resume with the same folder, or write another map '
            '(--map)')
    if not stored:
        return
    chosen = np.unique(np.linspace(0, len(stored) - 1, min(len(stored), COMPARED)).astype(int))
    for i in chosen.tolist():
        try:
            before = files[stored[i]].read(stored[i]).frame
        except MapUnreadableError:      # reported and left out when the map is resumed
            continue
        if words := difference(before, as_stored(frames[i])):
            raise DatasetError(f'image {i} of {capture} is not that of the map in '
                               f'{place}: {words}; resume with the same folder and '
                               'options, or write another map (--map)')


def difference(before: Frame, now: Frame) -> str:
    """Returns what differs between two frames, in words, or '' if nothing does."""
    if before.image.shape != now.image.shape:
        sizes = [f'{frame.camera.width}x{frame.camera.height}' for frame in (before, now)]
        return f'{sizes[1]} pixels instead of {sizes[0]} (--max-side)'
    if not np.allclose(before.T_world_camera, now.T_world_camera, rtol=1e-9, atol=1e-9):
        return 'another pose (another capture, --scale or --up)'
    if not same_lens(before.camera, now.camera):
        return 'another lens or focal length'
    for name, one, two in (('depth', before.depth_m, now.depth_m),
                           ('a mask', before.valid, now.valid)):
        if (one is None) != (two is None):
            return f'{name} is there only {"now" if one is None else "in the map"}'
    if before.depth_m is not None and now.depth_m is not None and not np.allclose(
            before.depth_m, now.depth_m, atol=DEPTH_TOLERANCE_M):
        return 'another depth'
    if before.valid is not None and now.valid is not None and (before.valid != now.valid).any():
        return 'another mask (--mask)'
    return 'another picture' if (before.image != now.image).any() else ''


def same_lens(one: PinholeCamera, two: PinholeCamera) -> bool:
    """Returns whether two cameras are equal; missing distortion coefficients count as 0."""
    return one.model == two.model and np.allclose(lens_numbers(one), lens_numbers(two))


def lens_numbers(camera: PinholeCamera) -> list[float]:
    """Returns size, intrinsics and distortion, padded with zeros."""
    left_out = [0.0] * (COEFFICIENTS - len(camera.distortion))
    return [camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy,
            *camera.distortion, *left_out]
