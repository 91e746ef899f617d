# SPDX-License-Identifier: Apache-2.0
"""What `lerf_ros` alone says: what can be done next, given the maps that are here."""

from __future__ import annotations

from pathlib import Path

from lerf_ros import __version__

MAPS = Path('out/maps')     # where `train` writes maps unless it is told otherwise
MAX_MAPS = 5


def next_steps() -> str:
    """Returns what to type next: for a capture, a map, a robot, or none of them."""
    maps = maps_here()
    example = str(maps[0]) if maps else 'MAP'
    rows = [
        ('nothing yet', 'lerf_ros demo', 'a simulated robot maps a table and is asked'),
        ('photographs with poses', 'lerf_ros train FOLDER', 'makes a map in out/maps'),
        ('a map', f'lerf_ros query {example} "red mug"', 'says where it is'),
        ('', f'lerf_ros view {example}', 'shows the map in a browser'),
        ('a robot with ROS 2', 'lerf_ros up', 'maps and answers while it moves'),
        ('', 'lerf_ros call "red mug"', 'asks the running nodes'),
        ('something that fails', 'lerf_ros doctor', 'checks this machine, with cures')]
    width = max(len(command) for _, command, _ in rows)
    lines = [f'lerf_ros {__version__}: open-vocabulary 3D maps. What have you got?', '']
    lines += [f'  {have:22}  {command:{width}}  {what}' for have, command, what in rows]
    if maps:
        lines += ['', f'Maps here, newest first: {", ".join(map(str, maps[:MAX_MAPS]))}']
    return '\n'.join([*lines, '', 'lerf_ros --help lists all commands, lerf_ros COMMAND --help '
                      'their options.'])


def maps_here() -> list[Path]:
    """Returns the map directories below out/maps, the one that was written last first."""
    found = [meta.parent for meta in MAPS.glob('*/meta.json')]
    return sorted(found, key=lambda folder: folder.stat().st_mtime, reverse=True)
