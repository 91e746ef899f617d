# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros export MAP`: the map's surface as a PLY file, or in the layout of a benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.errors import NoSnapshotError

if TYPE_CHECKING:
    from lerf_ros.index.language_index import LanguageIndex
    from lerf_ros.storage.map_directory import MapDirectory, Snapshot
    from lerf_ros.storage.output_folder import OutputFolder
    from lerf_ros.storage.saved_maps import StoredMap

PLY, OPENLEX3D = FORMATS = ('ply', 'openlex3d')


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `export`."""
    command = commands.add_parser(
        'export', help='write the map as a point cloud (PLY), or for a benchmark',
        description='ply: map.ply with coordinates in the frame and the units of the poses, '
        'colour, normal, segment (-1 for none) and the keyframes that see the point. openlex3d: '
        'the three files of predictions that the OpenLex3D benchmark evaluates, embeddings.npy, '
        'index.npy and point_cloud.pcd; an object is a segment. Answers to phrases are written by '
        'lerf_ros query MAP PHRASE --export FOLDER.')
    command.add_argument('map', help='map directory')
    command.add_argument('--out', default='out/export', metavar='FOLDER',
                         help='folder to write to, new or with earlier exports')
    command.add_argument('--format', choices=FORMATS, default=PLY, help='what to write')
    command.set_defaults(func=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    """Writes the points of the newest snapshot; no encoder is loaded for that."""
    from lerf_ros.commands.map_target import require_map, require_single
    from lerf_ros.storage.output_folder import OutputFolder
    from lerf_ros.storage.submaps import SubmapFolder

    folder = OutputFolder(arguments.out)
    # The embeddings of submaps have a basis each, and cannot be averaged together.
    stored = (require_single if arguments.format == OPENLEX3D else require_map)(arguments.map)
    folder.claim([arguments.map])
    index, newest = read_index(stored)
    meta, snapshot = newest[0].meta(), newest_of(newest[0])
    unit = 'metres' if meta['metric'] else 'units of the poses'
    what = f'{len(index.points)} points in {unit}'
    if arguments.format == OPENLEX3D:
        from lerf_ros.show.openlex3d import export_openlex3d
        name, objects = '', export_openlex3d(index, folder)
        what = f'{objects} objects of {what}, encoder {snapshot.info["encoder"]["name"]}'
    else:
        name = write_cloud(index, folder)
    taken = f'{len(newest)} submaps' if isinstance(stored, SubmapFolder) else \
        f'snapshot {snapshot.number}'
    print(f'{Path(arguments.out) / name}: {what}, frame {meta["frame_id"]!r}, {taken}')
    return 0


def write_cloud(index: LanguageIndex, folder: OutputFolder) -> str:
    """Writes the points as PLY; returns the name of the file."""
    from lerf_ros.show.files import write_ply

    normals, name = index.normals.astype('f4'), 'map.ply'
    with folder.file(name) as path:
        write_ply(path, index.points_world, index.colors, {
            'nx': normals[:, 0], 'ny': normals[:, 1], 'nz': normals[:, 2],
            'segment': index.segments, 'keyframes': index.keyframes})
    return name


def read_index(stored: StoredMap) -> tuple[LanguageIndex, list[MapDirectory]]:
    """Returns the index of the newest snapshot, of submaps joined, and the maps it is of."""
    from lerf_ros.index.language_index import LanguageIndex
    from lerf_ros.query.mapped_space import joined_index
    from lerf_ros.storage.lock import no_snapshot
    from lerf_ros.storage.submaps import SubmapFolder

    if not isinstance(stored, SubmapFolder):
        return LanguageIndex.from_arrays(newest_of(stored).arrays('index')), [stored]
    submaps = stored.submaps()
    there = {k: stored.directory(k) for k in range(len(submaps.places))}
    ready = {k: part for k, part in there.items() if part.exists() and part.newest()}
    if not ready:
        raise NoSnapshotError(no_snapshot(stored.path))
    return joined_index(submaps, {k: LanguageIndex.from_arrays(newest_of(part).arrays('index'))
                                  for k, part in ready.items()}), list(ready.values())


def newest_of(directory: MapDirectory) -> Snapshot:
    """Returns the newest snapshot; raises NoSnapshotError without one."""
    from lerf_ros.storage.lock import no_snapshot

    snapshot = directory.newest()
    if snapshot is None:
        raise NoSnapshotError(no_snapshot(directory.path))
    return snapshot
