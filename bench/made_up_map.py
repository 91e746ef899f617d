# SPDX-License-Identifier: Apache-2.0
"""Makes up a map without training: boxes on a table whose points have embeddings of phrases.

For measuring how long answers take, not how good they are. The encoder is a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.index.language_index import LanguageIndex, as_stored
from lerf_ros.index.scales import searched_scales
from lerf_ros.settings import to_dict
from lerf_ros.storage.map_directory import MapDirectory

SCALES = (0.05, 0.1, 0.2, 0.4, 0.8)     # metres
DIMENSIONS = 51                         # times five scales: at most 256
BOXES, BOX_M, TABLE_M = 40, 0.06, (2.4, 1.5)     # a gripper can hold such a box
NOISE = 0.35                            # of each embedding, perpendicular to it


def write_made_up_map(folder: Path, points: int, phrases: Sequence[str], seed: int = 0) -> Path:
    """Builds an index: half of its points on the table, half on 40 boxes that repeat phrases."""
    config = LerfConfig()
    encoder = load_encoder(config.features, 'cpu', text_only=True)
    rng = np.random.default_rng(seed)
    meanings = encoder.encode_texts([*phrases, 'wooden table'])
    basis = np.linalg.qr(np.concatenate(
        [meanings.T, rng.normal(size=(meanings.shape[1], DIMENSIONS))], 1))[0][:, :DIMENSIONS]
    thing = np.where(rng.random(points) < 0.5, BOXES, rng.integers(0, BOXES, points))
    meaning = np.where(thing == BOXES, len(phrases), thing % len(phrases))
    codes = (meanings @ basis)[meaning][None] + NOISE / DIMENSIONS ** 0.5 * rng.normal(
        size=(len(SCALES), points, DIMENSIONS))
    codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
    points_world, normals = places(thing, rng)
    index = LanguageIndex(
        points_world.astype(np.float32), rng.integers(60, 200, (points, 3), np.uint8),
        np.full(points, 12, np.int32), as_stored(torch.from_numpy(codes.astype(np.float32))),
        basis.astype(np.float32), np.array(searched_scales(SCALES), np.float32),
        normals.astype(np.float16),
        np.where(thing == BOXES, 0, thing + 1).astype(np.int32), np.array([[0.0, 0, 1, 0]]))
    directory = MapDirectory(folder, metric=True)
    directory.create({'frame_id': 'map', 'metric': True, 'encoder': encoder.identity(),
                      'scene': {'center': [0.0, 0.0, 0.0], 'radius': 1.0},
                      'config': to_dict(config)})
    directory.write_snapshot({'index': index.arrays()},
                             {'stamp_ns': 0, 'encoder': encoder.identity()}, keep=1)
    return folder


def places(thing: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns places (N, 3) metres of points on their things, and outward normals (N, 3).

    They lie on the top or a side of a box in a grid, or on the table.
    """
    on_table = (thing == BOXES)[:, None]
    table = rng.uniform(-0.5, 0.5, (len(thing), 3)) * [*TABLE_M, 0]
    columns = 8
    center = np.stack([(thing % columns - 3.5) * 0.28, (thing // columns - 2) * 0.28,
                       np.full(len(thing), BOX_M / 2)], 1)
    faces = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    outward = faces[rng.integers(0, len(faces), len(thing))]
    surface = np.where(outward != 0, outward / 2, rng.uniform(-0.5, 0.5, (len(thing), 3)))
    return (np.where(on_table, table, center + BOX_M * surface),
            np.where(on_table, faces[-1], outward))
