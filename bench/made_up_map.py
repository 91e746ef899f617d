# SPDX-License-Identifier: Apache-2.0
"""Makes up maps without training: boxes on a table whose points have embeddings of phrases.

For measuring how long answers take, not how good they are. The encoder is a real one. A building is
a folder of submaps, whose embeddings change smoothly from point to point, as a field's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.image_text import ImageTextEncoder, load_encoder
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.index.language_index import LanguageIndex, as_stored
from lerf_ros.index.scales import searched_scales
from lerf_ros.settings import to_dict
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet

SCALES = (0.05, 0.1, 0.2, 0.4, 0.8)     # metres
DIMENSIONS = 51                         # times five scales: at most 256
BOXES, BOX_M, TABLE_M = 40, 0.06, (2.4, 1.5)     # a gripper can hold such a box
NOISE = 0.35                            # of each embedding, perpendicular to it
# Of a building: rooms, in rows, with things, whose embeddings change over WAVE_M. In groups of 32
# points that gives radii as they are in a real map, 0.11.
ROOM_M, ROW, THINGS, THING_M, WAVE_M, WAVES = 4.08, 10, 8, 0.25, 1.2, 24


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
    write_index(folder, index, encoder, 1.0)
    return folder


def write_index(folder: Path, index: LanguageIndex, encoder: ImageTextEncoder,
                radius: float) -> None:
    """Writes a map directory whose only snapshot has this index."""
    directory = MapDirectory(folder, metric=True)
    directory.create({'frame_id': 'map', 'metric': True, 'encoder': encoder.identity(),
                      'scene': {'center': [0.0, 0.0, 0.0], 'radius': radius},
                      'config': to_dict(LerfConfig())})
    directory.write_snapshot(
        {'index': index.arrays()},
        {'stamp_ns': 0, 'steps': 9000, 'settled': True, 'points': len(index.points),
         'encoder': encoder.identity()}, keep=1)


def write_made_up_building(folder: Path, submaps: int, points: int, names: Sequence[str],
                           seed: int = 0) -> Path:
    """Builds submaps of 4 x 4 m in rows of ten; each has THINGS things of other names.

    A third of the points lies on things, the rest on the floor.
    """
    encoder = load_encoder(LerfConfig().features, 'cpu', text_only=True)
    meanings, rng = encoder.encode_texts([*names, 'floor']), np.random.default_rng(seed)
    made = SubmapSet.begin(SubmapLattice((0.0, 0.0, 0.0), ROOM_M * 0.6, 1 / 6))
    for number in range(submaps):
        at = np.array([number % ROW, number // ROW, 0]) * made.lattice.pitch
        own = rng.choice(len(names), THINGS, replace=False)
        index = room(points, meanings[[*own, -1]], at, rng)
        write_index(SubmapFolder(folder).path_of(number), index, encoder, made.lattice.radius)
        made = made.with_cell((number % ROW, number // ROW, 0))
    SubmapFolder(folder, True).write(made)
    return folder


def room(points: int, meanings: np.ndarray, at: np.ndarray,
         rng: np.random.Generator) -> LanguageIndex:
    """Returns an index of THINGS boxes on a floor around `at`; meanings (THINGS + 1, D)."""
    thing = np.where(rng.random(points) < 2 / 3, THINGS, rng.integers(0, THINGS, points))
    floor = rng.uniform(-ROOM_M / 2, ROOM_M / 2, (points, 3)) * [1, 1, 0]
    centers = np.column_stack([rng.uniform(-0.4 * ROOM_M, 0.4 * ROOM_M, (THINGS, 2)),
                               np.full(THINGS, THING_M / 2)])
    on = centers[np.minimum(thing, THINGS - 1)] + THING_M * rng.uniform(-0.5, 0.5, (points, 3))
    world = np.where((thing == THINGS)[:, None], floor, on) + at
    basis = np.linalg.qr(np.concatenate([meanings.T, rng.normal(
        size=(meanings.shape[1], DIMENSIONS))], 1))[0][:, :DIMENSIONS]
    codes = (meanings @ basis)[thing][None] + np.stack([smooth(world, rng) for _ in SCALES])
    codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
    return LanguageIndex(
        (world - at).astype(np.float32), rng.integers(60, 200, (points, 3), np.uint8),
        np.full(points, 12, np.int32), as_stored(torch.from_numpy(codes.astype(np.float32))),
        basis.astype(np.float32), np.array(searched_scales(SCALES), np.float32),
        np.tile(np.array([0, 0, 1], np.float16), (points, 1)),
        np.where(thing == THINGS, 0, thing + 1).astype(np.int32), np.array([[0.0, 0, 1, 0]]),
        origin=at.astype(np.float64))


def smooth(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns vectors (N, DIMENSIONS) of length NOISE in the mean that change over WAVE_M."""
    waves = rng.normal(size=(3, WAVES)) * 2 * np.pi / WAVE_M
    parts = np.cos(points @ waves + rng.uniform(0, 2 * np.pi, WAVES))
    mixed = parts @ rng.normal(size=(WAVES, DIMENSIONS))
    return np.asarray(NOISE * mixed / np.sqrt((mixed ** 2).sum(1).mean()))


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
