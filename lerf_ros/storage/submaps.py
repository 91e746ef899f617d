# SPDX-License-Identifier: Apache-2.0
"""A folder of submaps: which cubes of space they are, each with a map directory of its own.

    FOLDER/submaps.json          the lattice of cubes, and the cube and place of each submap
    FOLDER/submaps/0000/         a map directory (storage/map_directory.py)

submaps.json is replaced as a whole, and a submap is in it before its map directory begins: after a
kill a reader finds the map directories of all submaps, or none yet for the newest one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lerf_ros.errors import ForeignFolderError, MapUnreadableError
from lerf_ros.geometry.submap_lattice import Cell, SubmapLattice
from lerf_ros.storage.durable import (
    OURS,
    JsonObject,
    flush,
    is_file,
    is_folder,
    remove_folder_if_empty,
    remove_scratch,
    write_json,
)
from lerf_ros.storage.keyframe_files import COMMON
from lerf_ros.storage.lock import NAME as LOCK
from lerf_ros.storage.map_directory import MapDirectory, Snapshot, feature_files, new_identity
from lerf_ros.storage.ownership import require_no_strangers

MANIFEST, FOLDER = 'submaps.json', 'submaps'
FORMAT, FORMAT_MERGED = 2, 3    # readers of the first would take all cubes for those of one map
TRANSFORMS, OF_SUBMAPS = 'transforms.json', 'of_submaps'
MOVES_KEPT = 20     # earlier places of all submaps, to undo moves


@dataclass(frozen=True, eq=False)
class SubmapPlace:
    """The cube that a submap is for, in the frame that it was mapped in, and where that is now.

    T_map_submap (4, 4), rigid: from that frame into the map frame; a loop closure changes it.
    lattice: of the cell, where it is not that of the whole set. source: which of the maps that were
    merged it comes from; each counts its keyframes for itself.
    """

    cell: Cell
    T_map_submap: np.ndarray = field(default_factory=lambda: np.eye(4))
    lattice: SubmapLattice | None = None
    source: int = 0


@dataclass(frozen=True, eq=False)
class SubmapSet:
    """All submaps, by their number.

    id: copies of the map keep it. edition: changes with each reset or load. earlier: where the
    first of the submaps were before each move, (M, 4, 4), the newest move last. source: of which
    capture it was made, as in meta.json.
    """

    lattice: SubmapLattice
    places: tuple[SubmapPlace, ...] = ()
    id: str = ''
    edition: str = ''
    earlier: tuple[np.ndarray, ...] = ()
    source: JsonObject = field(default_factory=dict)

    @classmethod
    def begin(cls, lattice: SubmapLattice, source: JsonObject | None = None) -> SubmapSet:
        """Begins an empty set with an identity of its own."""
        identity = new_identity()
        return cls(lattice, (), identity['id'], identity['edition'], (), source or {})

    @property
    def cells(self) -> list[Cell]:
        """The cube of each submap."""
        return [place.cell for place in self.places]

    def with_cell(self, cell: Cell) -> SubmapSet:
        """Returns the set with a new submap in it, which is where it was mapped."""
        return replace(self, places=(*self.places, SubmapPlace(cell)))

    def moved(self, transforms: Sequence[np.ndarray]) -> SubmapSet:
        """Returns the set with T_map_submap (4, 4) of each submap; `undone` takes that back."""
        now = np.stack([place.T_map_submap for place in self.places])
        return replace(self._placed(transforms), earlier=(*self.earlier, now)[-MOVES_KEPT:])

    def undone(self) -> SubmapSet:
        """Returns the set as it was before the newest move; those that are newer stay."""
        *earlier, before = self.earlier
        later = [place.T_map_submap for place in self.places[len(before):]]
        return replace(self._placed([*before, *later]), earlier=tuple(earlier))

    def _placed(self, transforms: Sequence[np.ndarray]) -> SubmapSet:
        return replace(self, places=tuple(
            replace(place, T_map_submap=np.asarray(T, np.float64))
            for place, T in zip(self.places, transforms, strict=True)))

    def depths(self, points_map: np.ndarray) -> np.ndarray:
        """Returns how far from the middle of each of S cubes points (N, 3) lie, (S, N); 1: a face.
        """
        out = [self.depth(number, points_map) for number in range(len(self.places))]
        return np.array(out, np.float64).reshape(len(self.places), len(points_map))

    def depth(self, number: int, points_map: np.ndarray) -> np.ndarray:
        """Returns how far from the middle of a cube points (..., 3) lie (...): 1 on its faces."""
        place = self.places[number]
        R, t = place.T_map_submap[:3, :3], place.T_map_submap[:3, 3]
        return self.lattice_of(number).depth(place.cell, (np.asarray(points_map) - t) @ R)

    def lattice_of(self, number: int) -> SubmapLattice:
        """Returns the cubes that the cube of a submap is one of."""
        return self.places[number].lattice or self.lattice

    @cached_property
    def _boxes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Middles (S, 3), axes (S, 3, 3) and radii (S,) of all cubes in the map frame."""
        numbers = range(len(self.places))
        return (np.stack([self.middle(k) for k in numbers]),
                np.stack([self.T_map_submap(k)[:3, :3] for k in numbers]),
                np.array([self.lattice_of(k).radius for k in numbers]))

    def overlapping(self, number: int, depth: float = 1.0) -> list[int]:
        """Returns the submaps whose cubes may share space with that of one; itself among them.

        depth: all cubes are made so many times as large.
        """
        middles, axes, radii = self._boxes
        apart = np.abs(np.einsum('sji,sj->si', axes, middles[number] - middles))
        # As wide as the cube is along the axes of each other one.
        wide = radii[number] * np.abs(np.einsum('sji,jk->sik', axes, axes[number])).sum(2)
        return np.flatnonzero(
            (apart <= depth * (radii[:, None] + wide) + 1e-6).all(1)).tolist()

    @property
    def merged(self) -> bool:
        """Whether these are the submaps of several maps."""
        return len({place.source for place in self.places}) > 1

    def T_map_submap(self, number: int) -> np.ndarray:
        """Returns the pose (4, 4) of the frame that a submap was mapped in."""
        return self.places[number].T_map_submap

    def middle(self, number: int) -> np.ndarray:
        """Returns the middle (3,) of a cube in the map frame."""
        place = self.places[number]
        center = np.asarray(self.lattice_of(number).scene(place.cell).center)
        return np.asarray(place.T_map_submap[:3, :3] @ center + place.T_map_submap[:3, 3])


class SubmapFolder:
    """Reads and writes which submaps there are; one writer, any number of readers."""

    def __init__(self, path: str | Path, metric: bool = False) -> None:
        self.path, self.metric = Path(path), metric

    def exists(self) -> bool:
        """Returns whether there is a folder of submaps, readable or not."""
        return is_file(self.path / MANIFEST)

    def path_of(self, number: int) -> Path:
        """Returns the path of the map directory of a submap."""
        return self.path / FOLDER / f'{number:04d}'

    def directory(self, number: int) -> MapDirectory:
        """Returns the map directory of a submap."""
        return MapDirectory(self.path_of(number), self.metric)

    def read(self) -> SubmapSet | None:
        """Returns the submaps; None where there is no such folder.

        Raises MapUnreadableError for a damaged file and for another format.
        """
        file = self.path / MANIFEST
        if not file.exists():
            return None
        try:
            return parsed(json.loads(file.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MapUnreadableError(f'{file} cannot be read: {error}') from error

    def submaps(self) -> SubmapSet:
        """Returns the submaps. Raises MapUnreadableError, also where there is no such folder."""
        if (stored := self.read()) is None:
            raise MapUnreadableError(f'{self.path / MANIFEST} is missing')
        return stored

    def directories(self) -> list[MapDirectory]:
        """Returns the map directories of all submaps that have begun, by their number."""
        return [directory for _, directory in self.sources()]

    def sources(self) -> list[tuple[int, MapDirectory]]:
        """Returns the map directories of all submaps that have begun, with the map they come from.

        Keyframes of one index are the same only where they come from one map.
        """
        found = [(place.source, self.directory(number))
                 for number, place in enumerate(self.submaps().places)]
        return [(source, directory) for source, directory in found if directory.exists()]

    def newest(self) -> Snapshot | None:
        """Returns the newest snapshot of the first submap that has one; None without any."""
        return next(filter(None, (directory.newest() for directory in self.directories())), None)

    def own_files(self) -> list[Path]:
        """Returns all files that are known to be written by this package, submaps.json last."""
        numbers = list(self.numbers())
        files = [file for number in numbers for file in MapDirectory(
            self.path_of(number)).own_files()]
        transforms = [self.path / TRANSFORMS] if self._transforms_are_ours() else []
        return [*files, *feature_files(self.path), *transforms, self.path / MANIFEST]

    def strangers(self) -> list[Path]:
        """Returns all files, links and other things in here that are not ours."""
        own = set(self.own_files())
        return [path for path in sorted(self.path.rglob('*'))
                if path not in own and not is_folder(path)
                and not any(part.startswith(OURS) for part in
                            path.relative_to(self.path).parts)]

    def delete(self, files: Collection[Path]) -> None:
        """Deletes files, and folders of ours if nothing is left in them."""
        for file in files:
            file.unlink(missing_ok=True)
        for folder in sorted({parent for file in files for parent in file.parents
                              if self.path in parent.parents}, reverse=True):
            remove_folder_if_empty(folder)
        if self.path.is_dir():
            flush(self.path)

    def discard(self) -> None:
        """Deletes the submaps' own files, and the folder if nothing else is in it."""
        self.clear()
        self.delete(self.own_files())
        remove_scratch(self.path / LOCK)
        remove_folder_if_empty(self.path)

    def write(self, submaps: SubmapSet) -> None:
        """Replaces the file as a whole. Raises OSError when the disk does not take it."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / MANIFEST, as_json(submaps))

    def claim(self) -> bool:
        """Returns whether submaps are here; ForeignFolderError where none may be written."""
        folder = self.path / FOLDER
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise ForeignFolderError(f'{folder} is not a folder of lerf_ros: move it away, or map '
                                     'into another directory')
        if not self.exists():
            require_no_strangers(self.path, MANIFEST)
            return False
        self.read()
        return True

    def write_transforms(self) -> None:
        """Writes transforms.json with the keyframes of all submaps, each once, where they are now.

        A file of that name that was not written here stays. Raises OSError.
        """
        file, frames = self.path / TRANSFORMS, dict[tuple[int, int], JsonObject]()
        if os.path.lexists(file) and not self._transforms_are_ours():
            return
        for number, place in enumerate(self.submaps().places):
            directory = self.directory(number)
            inside, files = directory.path.relative_to(self.path), directory.keyframes
            for index in files.indices():
                key = place.source, index
                if key not in frames and index in files:
                    frames[key] = moved_entry(files.record(index)['frame'], inside,
                                              place.T_map_submap)
        common = next(iter(frames.values()), {})
        model = {'camera_model': common['camera_model']} if common else {}
        write_json(file, {**model, **COMMON, 'metric': self.metric, OF_SUBMAPS: True,
                          'frames': [frames[key] for key in sorted(frames)]})

    def _transforms_are_ours(self) -> bool:
        file = self.path / TRANSFORMS
        try:
            return is_file(file) and OF_SUBMAPS in json.loads(file.read_text())
        except (OSError, ValueError, TypeError):
            return False

    def clear(self) -> None:
        """Replaces the submaps by none, under another identity; deletes their own files.

        submaps.json changes first: from then on nothing of the old map counts. What others put
        into the folder stays.
        """
        if (stored := self.read()) is not None:
            self.write(SubmapSet.begin(stored.lattice))
            self.remove_strays(0)

    def remove_strays(self, count: int) -> None:
        """Deletes our files in map directories that no submap of the first `count` has.

        They are of a map that was cleared by a process that was killed before it was done.
        """
        for number in self.numbers():
            if number >= count:
                MapDirectory(self.path_of(number)).discard()
        remove_folder_if_empty(self.path / FOLDER)

    def numbers(self) -> Iterator[int]:
        """Yields the numbers of all map directories that are there, ascending."""
        folder = self.path / FOLDER
        names = sorted(path.name for path in folder.iterdir()) if is_folder(folder) else []
        yield from (int(name) for name in names if name.isdigit() and len(name) == 4)


def parsed(stored: JsonObject) -> SubmapSet:
    """Returns the submaps of a submaps.json; raises ValueError, KeyError or TypeError."""
    if stored['format'] not in (FORMAT, FORMAT_MERGED):
        raise ValueError(f'its format is {stored["format"]}, not {FORMAT} or {FORMAT_MERGED}')
    places = []
    for entry in stored['submaps']:
        i, j, k = (int(value) for value in entry['cell'])
        places.append(SubmapPlace(
            (i, j, k), np.array(entry['T_map_submap'], np.float64).reshape(4, 4),
            parsed_lattice(entry['lattice']) if 'lattice' in entry else None,
            int(entry.get('source', 0))))
    earlier = tuple(np.array(moved, np.float64).reshape(-1, 4, 4) for moved in stored['earlier'])
    return SubmapSet(parsed_lattice(stored), tuple(places), str(stored['id']),
                     str(stored['edition']), earlier, dict(stored['source']))


def parsed_lattice(stored: JsonObject) -> SubmapLattice:
    """Returns stored cubes; raises as `parsed`."""
    x, y, z = (float(value) for value in stored['origin'])
    return SubmapLattice((x, y, z), float(stored['radius']), float(stored['overlap']))


def moved_entry(frame: JsonObject, inside: Path, T_map_submap: np.ndarray) -> JsonObject:
    """Returns a keyframe's entry as it is in the folder above, whose submap lies `inside` it."""
    paths: JsonObject = {name: str(inside / frame[name]) for name in (
        'file_path', 'depth_file_path', 'mask_path') if name in frame}
    matrix = (T_map_submap @ np.array(frame['transform_matrix'])).tolist()
    return {**frame, **paths, 'transform_matrix': matrix}


def as_json(submaps: SubmapSet) -> JsonObject:
    """Returns the content of submaps.json."""
    return {'format': FORMAT_MERGED if submaps.merged else FORMAT, 'id': submaps.id,
            'edition': submaps.edition, 'source': submaps.source, **lattice_json(submaps.lattice),
            'submaps': [place_json(place) for place in submaps.places],
            'earlier': [moved.tolist() for moved in submaps.earlier]}


def place_json(place: SubmapPlace) -> JsonObject:
    """Returns the entry of one submap."""
    entry: JsonObject = {'cell': list(place.cell), 'T_map_submap': place.T_map_submap.tolist()}
    if place.source:
        entry['source'] = place.source
    return {**entry, 'lattice': lattice_json(place.lattice)} if place.lattice else entry


def lattice_json(lattice: SubmapLattice) -> JsonObject:
    """Returns cubes as they are stored."""
    return {'origin': list(lattice.origin), 'radius': lattice.radius, 'overlap': lattice.overlap}
