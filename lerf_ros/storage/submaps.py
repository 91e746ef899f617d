# SPDX-License-Identifier: Apache-2.0
"""A folder of submaps: which cubes of space they are, each with a map directory of its own.

    FOLDER/submaps.json          the lattice of cubes, and the cube of each submap by its number
    FOLDER/submaps/0000/         a map directory (storage/map_directory.py)

submaps.json is replaced as a whole, and a cube is in it before its map directory begins: after a
kill a reader finds the map directories of all cubes, or none yet for the newest one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lerf_ros.errors import MapUnreadableError
from lerf_ros.geometry.submap_lattice import Cell, SubmapLattice
from lerf_ros.storage.durable import write_json
from lerf_ros.storage.ownership import require_no_strangers

MANIFEST, FOLDER, FORMAT = 'submaps.json', 'submaps', 1


class SubmapFolder:
    """Reads and writes which submaps there are; one writer, any number of readers."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def path_of(self, number: int) -> Path:
        """Returns the map directory of a submap."""
        return self.path / FOLDER / f'{number:04d}'

    def read(self) -> tuple[SubmapLattice, list[Cell]] | None:
        """Returns the lattice and the cube of each submap; None where there are none.

        Raises MapUnreadableError for a damaged file and for another format.
        """
        file = self.path / MANIFEST
        if not file.exists():
            return None
        try:
            stored = json.loads(file.read_text())
            if stored['format'] != FORMAT:
                raise ValueError(f'its format is {stored["format"]}, not {FORMAT}')
            x, y, z = (float(value) for value in stored['origin'])
            cells = [(int(i), int(j), int(k)) for i, j, k in stored['cells']]
            return SubmapLattice((x, y, z), float(stored['radius']),
                                 float(stored['overlap'])), cells
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MapUnreadableError(f'{file} cannot be read: {error}') from error

    def write(self, lattice: SubmapLattice, cells: Sequence[Cell]) -> None:
        """Replaces the file as a whole.

        Raises OSError when the disk does not take it, ForeignFolderError for a folder with other
        things in it that is no folder of submaps yet.
        """
        if not (self.path / MANIFEST).exists():
            require_no_strangers(self.path, MANIFEST)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / MANIFEST, {
            'format': FORMAT, 'origin': list(lattice.origin), 'radius': lattice.radius,
            'overlap': lattice.overlap, 'cells': [list(cell) for cell in cells]})
