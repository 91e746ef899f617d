# SPDX-License-Identifier: Apache-2.0
"""A map in the layout that the OpenLex3D benchmark reads predictions from (openlex3d.github.io).

    embeddings.npy   (M, D) an embedding of each object
    index.npy        (N,) the object of each point
    point_cloud.pcd  the N points, with colours

The benchmark compares the embeddings with those of its labels, by the text encoder of the model
that it is told; so a map must be made with that encoder. An object is a segment of the map; a point
of no segment is an object of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.storage.output_folder import OutputFolder

EMBEDDINGS, OBJECTS, CLOUD = 'embeddings.npy', 'index.npy', 'point_cloud.pcd'


def export_openlex3d(index: LanguageIndex, folder: OutputFolder) -> int:
    """Writes the three files; returns the number of objects."""
    embeddings, objects = object_embeddings(index)
    for name, array in ((EMBEDDINGS, embeddings), (OBJECTS, objects)):
        with folder.file(name) as path, path.open('wb') as file:
            np.save(file, array)
    with folder.file(CLOUD) as path:
        write_pcd(path, index.points_world, index.colors)
    return len(embeddings)


def object_embeddings(index: LanguageIndex) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit embeddings (M, D) float32 of objects, and the object (N,) int64 of each point.

    That of a segment is the mean of its points at the stored scale nearest to its own size, and of
    its second looks, as much as of the points, where there are any. Points of no segment have the
    smallest scale.
    """
    count = int(index.segments.max(initial=-1)) + 1
    apart = np.flatnonzero(index.segments < 0)
    objects = index.segments.astype(np.int64)
    objects[apart] = count + np.arange(len(apart))
    embeddings = np.zeros((count + len(apart), index.basis.shape[0]), np.float32)
    for segment in range(count):
        embeddings[segment] = segment_embedding(index, segment)
    if len(apart):
        embeddings[count:] = index.codes_of(apart)[:, 0] @ index.basis.T
    # Numbers without a point, if there are any, are left out.
    used, objects = np.unique(objects, return_inverse=True)
    return unit(embeddings[used]), objects.reshape(-1).astype(np.int64)


def segment_embedding(index: LanguageIndex, segment: int) -> np.ndarray:
    """Returns the embedding (D,) of a segment; zeros for one without a point."""
    members = np.flatnonzero(index.segments == segment)
    if not len(members):
        return np.zeros(index.basis.shape[0], np.float32)
    size = float(np.ptp(index.points[members], axis=0).max())
    scale = int(np.abs(np.log(index.stored_scales) - np.log(max(size, 1e-6))).argmin())
    own = unit(index.basis @ index.codes_of(members)[:, scale].mean(0))
    looks = index.looks.embeddings[index.looks.segments == segment].astype(np.float32)
    return own + unit(looks.mean(0)) if len(looks) else own


def unit(rows: np.ndarray) -> np.ndarray:
    """Returns rows (..., D) scaled to length one; zeros stay."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12),
                      np.float32)


def write_pcd(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    """Writes points (N, 3) in single precision, with colours (N, 3) uint8 RGB, as binary PCD 0.7.

    The bits of rgb are 0x00RRGGBB, by type a float: as the Point Cloud Library has it.
    """
    red, green, blue = np.asarray(colors, np.uint32).T
    cloud = np.zeros(len(points), [('xyz', '<f4', 3), ('rgb', '<u4')])
    cloud['xyz'], cloud['rgb'] = points, red << 16 | green << 8 | blue
    header = ['# .PCD v0.7 - Point Cloud Data file format', 'VERSION 0.7', 'FIELDS x y z rgb',
              'SIZE 4 4 4 4', 'TYPE F F F F', 'COUNT 1 1 1 1', f'WIDTH {len(points)}', 'HEIGHT 1',
              'VIEWPOINT 0 0 0 1 0 0 0', f'POINTS {len(points)}', 'DATA binary', '']
    path.write_bytes('\n'.join(header).encode() + cloud.tobytes())
