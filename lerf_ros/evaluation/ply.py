# SPDX-License-Identifier: Apache-2.0
"""A point cloud as a binary PLY file, which every viewer opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_ply(path: str | Path, points: np.ndarray, colors: np.ndarray) -> None:
    """Writes points (N, 3) in world units with colours (N, 3) uint8 RGB."""
    vertices = np.zeros(len(points), [('xyz', '<f4', 3), ('rgb', 'u1', 3)])
    vertices['xyz'], vertices['rgb'] = points, colors
    names = [f'property float {axis}' for axis in 'xyz']
    names += [f'property uchar {channel}' for channel in ('red', 'green', 'blue')]
    header = ['ply', 'format binary_little_endian 1.0', f'element vertex {len(points)}', *names,
              'end_header']
    Path(path).write_bytes('\n'.join([*header, '']).encode() + vertices.tobytes())
