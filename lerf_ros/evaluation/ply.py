# SPDX-License-Identifier: Apache-2.0
"""A point cloud as a binary PLY file, which every viewer opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

PLY_TYPES = {'f': ('float', '<f4'), 'i': ('int', '<i4'), 'u': ('int', '<i4')}


def write_ply(path: str | Path, points: np.ndarray, colors: np.ndarray,
              scalars: Mapping[str, np.ndarray] | None = None) -> None:
    """Writes points (N, 3) in world units with colours (N, 3) uint8 RGB.

    Coordinates are doubles: in a map frame such as UTM floats would be off by decimetres.

    scalars: more properties by name, (N,) each, fractions or whole numbers.
    """
    scalars = {name: np.asarray(values) for name, values in (scalars or {}).items()}
    types = {name: PLY_TYPES[values.dtype.kind] for name, values in scalars.items()}
    vertices = np.zeros(len(points), [('xyz', '<f8', 3), ('rgb', 'u1', 3),
                                      *((name, kind) for name, (_, kind) in types.items())])
    vertices['xyz'], vertices['rgb'] = points, colors
    for name, values in scalars.items():
        vertices[name] = values
    names = [f'property double {axis}' for axis in 'xyz']
    names += [f'property uchar {channel}' for channel in ('red', 'green', 'blue')]
    names += [f'property {word} {name}' for name, (word, _) in types.items()]
    header = ['ply', 'format binary_little_endian 1.0', f'element vertex {len(points)}', *names,
              'end_header']
    Path(path).write_bytes('\n'.join([*header, '']).encode() + vertices.tobytes())
