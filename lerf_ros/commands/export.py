# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros export MAP`: the map's surface as a PLY file for other programs, or answers of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from lerf_ros.errors import NoSnapshotError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `export`."""
    command = commands.add_parser(
        'export', help='write the map as a point cloud (PLY)',
        description='Writes map.ply: coordinates in the frame and the units of the poses, colour, '
        'normal, segment (-1 for none) and the number of keyframes that see the point. Answers to '
        'phrases are written by lerf_ros query MAP PHRASE --export FOLDER.')
    command.add_argument('map', help='map directory')
    command.add_argument('--out', default='out/export', metavar='FOLDER',
                         help='folder to write to, new or with earlier exports')
    command.set_defaults(func=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    """Writes the points of the newest snapshot; no encoder is loaded for that."""
    from lerf_ros.commands.map_target import require_single
    from lerf_ros.index.language_index import LanguageIndex
    from lerf_ros.show.files import write_ply
    from lerf_ros.storage.output_folder import OutputFolder

    folder, directory = OutputFolder(arguments.out), require_single(arguments.map)
    folder.claim([arguments.map])
    snapshot = directory.newest()
    if snapshot is None:
        raise NoSnapshotError(f'{arguments.map} holds no complete snapshot yet: ask again when '
                              'training has written one')
    index = LanguageIndex.from_arrays(snapshot.arrays('index'))
    normals = index.normals.astype('f4')
    with folder.file('map.ply') as path:
        write_ply(path, index.points_world, index.colors, {
            'nx': normals[:, 0], 'ny': normals[:, 1], 'nz': normals[:, 2],
            'segment': index.segments, 'keyframes': index.keyframes})
    meta = directory.meta()
    unit = 'metres' if meta['metric'] else 'units of the poses'
    print(f'{Path(arguments.out) / "map.ply"}: {len(index.points)} points in {unit}, frame '
          f'{meta["frame_id"]!r}, snapshot {snapshot.number}')
    return 0
