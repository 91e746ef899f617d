# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros reindex MAP`: rebuilds the index of a finished map with the current code."""

from __future__ import annotations

import argparse
import time

from lerf_ros.commands.options import add_set, overrides


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `reindex`."""
    anew = commands.add_parser('reindex', help="build a finished map's index anew from its fields")
    anew.add_argument('map', help='map directory, also one of the format before, or of submaps')
    add_set(anew, 'settings of the index and of queries, such as index.rays=200000')
    anew.set_defaults(func=run_reindex)


def run_reindex(arguments: argparse.Namespace) -> int:
    """Writes a new snapshot with the same fields and a new index."""
    from lerf_ros.mapping.reindex import reindex, reindex_submaps
    from lerf_ros.storage.submaps import SubmapFolder

    start, folder = time.monotonic(), SubmapFolder(arguments.map)
    if folder.exists():
        what = f'{reindex_submaps(folder, overrides(arguments.set))} submaps: indexes'
    else:
        what = f'snapshot {reindex(arguments.map, overrides(arguments.set))}: index'
    print(f'map {arguments.map}, {what} built anew in {time.monotonic() - start:.0f} s')
    return 0
