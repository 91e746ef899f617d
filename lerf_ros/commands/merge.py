# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros merge A B`: one map of two, such as those of two robots, or of two days."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.errors import InvalidRequestError

if TYPE_CHECKING:
    import numpy as np


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `merge`."""
    command = commands.add_parser(
        'merge', help='make one map of two, in the frame of the first',
        description='Submaps are taken over as they are, and both maps stay: nothing is trained. '
        'What both mapped is one hit. The merged map is asked, viewed, saved and exported like any '
        'other; mapping goes on in the two maps, which are merged again in a second.')
    command.add_argument('a', metavar='A', help='map directory, whose frame the merged map has')
    command.add_argument('b', metavar='B', help='map directory')
    command.add_argument('--transform', required=True, metavar='T',
                         help='where the frame of B is in that of A, in metres: "x y z qx qy qz '
                         'qw", or a JSON file with a 4x4 matrix; "0 0 0 0 0 0 1" if it is the '
                         'same')
    command.add_argument('--out', required=True, metavar='C',
                         help='folder of the merged map, empty or new')
    command.set_defaults(func=run_merge)


def run_merge(arguments: argparse.Namespace) -> int:
    """Merges two maps and says what came of it."""
    from lerf_ros.commands.map_target import require_map
    from lerf_ros.storage.merged_maps import merge_maps

    T = read_transform(arguments.transform)
    for path in (arguments.a, arguments.b):
        require_map(path)
    made = merge_maps(arguments.a, arguments.b, T, arguments.out)
    unit = '' if made.metric else ('; the maps have no metres, so the transform was taken in the '
                                   'unit of their poses, which must be the same')
    print(f'{arguments.out}: {made.submaps} submaps, {made.keyframes} keyframes, in the frame of '
          f'{arguments.a}{unit}')
    return 0


def read_transform(text: str) -> np.ndarray:
    """Returns T_a_b (4, 4) of seven numbers, or of a file; raises InvalidRequestError."""
    from lerf_ros.geometry.rigid import rigid_transform

    words = text.replace(',', ' ').split()
    try:
        return rigid_transform([float(word) for word in words])
    except ValueError:
        if len(words) == 7:
            raise InvalidRequestError(f'--transform {text}: seven numbers, x y z qx qy qz qw, or '
                                      'the name of a JSON file') from None
    try:
        content = json.loads(Path(text).read_text())
        numbers = [float(value) for row in content
                   for value in (row if isinstance(row, list) else [row])]
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequestError(f'--transform {text} is neither seven numbers, x y z qx qy qz '
                                  f'qw, nor a JSON file with a 4x4 matrix ({error})') from error
    return rigid_transform(numbers)
