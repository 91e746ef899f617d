# SPDX-License-Identifier: Apache-2.0
"""Two maps become one map of submaps, whose files are those of the two: nothing is mapped anew.

A submap of either map is taken over as it is; only its place changes, which submaps.json holds. A
map of one frame becomes one submap. What both mapped is joined when it is asked for, as it is where
submaps of one map overlap.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lerf_ros.errors import (
    EncoderMismatchError,
    ForeignFolderError,
    LockedError,
    MapInTheWayError,
    MapUnreadableError,
    StorageError,
)
from lerf_ros.geometry.rigid import rigid_transform
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.storage.durable import OURS, copy_file, flush, flush_folders, remove_scratch
from lerf_ros.storage.lock import in_use
from lerf_ros.storage.map_directory import MapDirectory, scene_of
from lerf_ros.storage.ownership import require_apart
from lerf_ros.storage.saved_maps import StoredMap, lasting_files, parts, stored_map, verify
from lerf_ros.storage.submaps import SubmapFolder, SubmapPlace, SubmapSet

MERGING = f'{OURS}merging-'
LONE_OVERLAP = 0.25     # of the cubes that the frame of a single map is one of; it has no neighbour


@dataclass(frozen=True)
class Merged:
    """How many submaps and keyframes the merged map has, and whether its lengths are metres."""

    submaps: int
    keyframes: int
    metric: bool


@dataclass(frozen=True)
class Piece:
    """A submap of one of the two maps: its files, and its place in the merged map."""

    directory: MapDirectory
    place: SubmapPlace


def merge_maps(a: str | Path, b: str | Path, T_a_b: np.ndarray, out: str | Path) -> Merged:
    """Makes one map of submaps of two maps, in the frame of the first; both stay as they are.

    T_a_b (4, 4), rigid, world units: from the frame of b into that of a. out: a folder that is
    empty or not there; files are linked where the file system can, and copied elsewhere. It is all
    there when this returns, or nothing is. Raises InvalidRequestError for another transform,
    MapUnreadableError for a damaged map or one without a snapshot, LockedError while a mapper
    works on one, EncoderMismatchError and MapUnreadableError for maps that cannot be one, and
    ForeignFolderError, MapInTheWayError and StorageError for `out`.
    """
    target = Path(out)
    T = rigid_transform(np.asarray(T_a_b).ravel().tolist())
    maps = [checked(Path(a)), checked(Path(b))]
    require_apart(target, [a, b])
    require_empty(target)
    metric = require_alike(maps[0], maps[1])
    pieces = [*pieces_of(maps[0], np.eye(4), 0)]
    pieces += pieces_of(maps[1], T, 1 + max(piece.place.source for piece in pieces))
    merging = target.absolute().parent / f'{MERGING}{os.getpid()}-{target.name}'
    try:
        keyframes = written(merging, pieces, [str(Path(p).resolve()) for p in (a, b)], metric)
        os.replace(merging, target)
        flush(merging.parent)
    except (OSError, shutil.Error) as error:
        raise StorageError(f'{target} cannot be written: {error}') from error
    finally:
        remove_scratch(merging)
    return Merged(len(pieces), keyframes, metric)


def checked(path: Path) -> StoredMap:
    """Returns a map after a look at all of its files. Raises MapUnreadableError and LockedError."""
    stored = stored_map(path)
    if not stored.exists():
        raise MapUnreadableError(f'there is no map in {path}')
    if in_use(path):
        raise LockedError(f'a mapper works on {path}: stop it, or save the map under a name '
                          '(lerf/save_map) and merge that copy')
    verify(stored)
    return stored


def require_empty(target: Path) -> None:
    """Raises an error unless a folder is empty or not there."""
    if stored_map(target).claim():
        raise MapInTheWayError(f'{target} holds a map: merge into another folder')
    left = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if left:
        raise ForeignFolderError(f'{target} is not empty ({", ".join(left[:3])}): merge into a new '
                                 'folder')


def require_alike(a: StoredMap, b: StoredMap) -> bool:
    """Returns whether the lengths of both maps are metres; raises where they cannot be one map."""
    metric = [{bool(part.meta()['metric']) for part in parts(stored)} for stored in (a, b)]
    if metric[0] != metric[1] or len(metric[0]) != 1:
        words = ['is metric' if True in flags else 'is not metric' for flags in metric]
        raise MapUnreadableError(f'{a.path} {words[0]} and {b.path} {words[1]}: a transform '
                                 'without a scale cannot relate them; map the one without depth '
                                 'anew, with --scale')
    encoders = [encoder_of(stored) for stored in (a, b)]
    if encoders[0] != encoders[1]:
        raise EncoderMismatchError(
            f'{a.path} was made with the encoder {named(encoders[0])} and {b.path} with '
            f'{named(encoders[1])}: a phrase has no meaning that both know; map one of them anew '
            'with the encoder of the other (features.encoder)')
    return metric[0].pop()


def encoder_of(stored: StoredMap) -> dict[str, str]:
    """Returns the identity of the encoder that a verified map was made with."""
    snapshot = stored.newest()
    assert snapshot is not None
    return dict(snapshot.info['encoder'])


def named(identity: dict[str, str]) -> str:
    """Returns an encoder in words: all that tells it from another one."""
    return ' '.join(str(value) for value in identity.values())


def pieces_of(stored: StoredMap, T: np.ndarray, first: int) -> Iterator[Piece]:
    """Yields the submaps of a map after the motion T (4, 4), their sources counted from `first`."""
    if isinstance(stored, SubmapFolder):
        submaps = stored.submaps()
        for number, place in enumerate(submaps.places):
            if (directory := stored.directory(number)).exists():
                yield Piece(directory, replace(
                    place, T_map_submap=T @ place.T_map_submap, source=first + place.source,
                    lattice=submaps.lattice_of(number)))
        return
    scene = scene_of(stored.meta())
    yield Piece(stored, SubmapPlace((0, 0, 0), T, SubmapLattice(
        scene.center, scene.radius, LONE_OVERLAP), first))


def written(folder: Path, pieces: list[Piece], sources: list[str], metric: bool) -> int:
    """Writes the merged map into a new folder; returns its keyframes. Raises OSError."""
    target, lattice = SubmapFolder(folder, metric), pieces[0].place.lattice
    assert lattice is not None
    target.path.mkdir(parents=True)
    for number, piece in enumerate(pieces):
        for path in lasting_files(piece.directory):
            inside = path.relative_to(piece.directory.path)
            if inside.parts[0] != 'features':       # which only training needs
                link(path, target.path_of(number) / inside)
    target.write(replace(SubmapSet.begin(lattice, {'merged': sources}),
                         places=tuple(piece.place for piece in pieces)))
    target.write_transforms()
    keyframes = verify(target)
    flush_folders(folder)
    return keyframes


def link(source: Path, target: Path) -> None:
    """Links a file to a second place, or copies it. No file of a map is ever changed in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:     # another file system, or one without links
        copy_file(source, target)
