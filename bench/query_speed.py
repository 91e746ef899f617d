# SPDX-License-Identifier: Apache-2.0
"""Compares answers from the language index with evaluating the network itself, as LERF does.

    python bench/query_speed.py --points 200000 --out out/bench/query_speed.json

Both run on the same synthetic points (things on a floor), in one process and on the same cores.
Ours includes relevancy, places and boxes. Theirs is the embedding network of the `reference` preset
(193, 4 x 256, 512) at 30 scales on the same points, with the features of the hash grid given and
one sample per point (LERF takes 24), and the relevancy. Neither includes encoding of the texts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from full_search import least_softmax

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.field.language_field import LanguageField
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import LanguageIndex, as_stored, build_index
from lerf_ros.index.surface import Surface
from lerf_ros.query.text_query import TextQuery

GOAL, BAR_S = 1000.0, 0.05
FLOOR_SHARE = 2 / 3    # of the points, about the same as of the area
THINGS, PHRASES, NEGATIVES, DIMENSION, SEARCH_STEPS = 60, 10, 4, 512, 30
RANGE = 0.05, 0.6   # of the scales, scene radii
CHUNK = 8192        # points that the network sees at once


def things_on_a_floor(points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (N, 3) on a square floor and on boxes, and the thing of each (0: the floor).

    As in an index, they are about as dense on the boxes as on the floor, and visible from above.
    """
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(THINGS)))
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[:THINGS]
    centers = (cells + 0.5) * (1.6 / side) - 0.8
    half = rng.uniform(0.02, 0.06, (THINGS, 3))
    floor = np.column_stack([rng.uniform(-1, 1, (2 * points, 2)), np.zeros(2 * points)])
    under = (np.abs(floor[:, None, :2] - centers) < half[:, :2]).all(2).any(1)
    floor = floor[~under][:round(points * FLOOR_SHARE)]
    thing = np.concatenate([np.zeros(len(floor), int),
                            rng.integers(1, THINGS + 1, points - len(floor))])
    on = thing[len(floor):] - 1
    at = rng.uniform(-1, 1, (len(on), 3))
    # The top and the four sides.
    axis, sign = rng.choice(3, len(on), p=[0.4, 0.4, 0.2]), rng.choice([-1.0, 1.0], len(on))
    at[np.arange(len(on)), axis] = np.where(axis == 2, 1.0, sign)
    boxes = at * half[on] + np.column_stack([centers[on], half[on, 2]])
    place = np.concatenate([floor, boxes])
    return place + rng.normal(0, 5e-4, place.shape), thing


def surface_of(points: np.ndarray, thing: np.ndarray, seed: int = 3) -> Surface:
    """Returns the points as if found by rays from above; things differ in colour."""
    where = torch.from_numpy(points).float()
    origins = torch.tensor([0.0, 0.0, 2.0]).expand(len(points), 3)
    away = where - origins
    distance = away.norm(dim=1, keepdim=True)
    colors = np.random.default_rng(seed).random((THINGS + 1, 3))[thing]
    return Surface(where, origins, away / distance, distance, torch.ones(len(points), 1),
                   torch.from_numpy(colors).float(), torch.full((len(points),), 9.0))


def meanings(index: LanguageIndex, thing: np.ndarray, seed: int = 1) -> LanguageIndex:
    """Returns the index with codes that differ for each thing."""
    rng, (scales, _, rank) = np.random.default_rng(seed), index.codes.shape
    names = rng.normal(size=(scales, THINGS + 1, rank))
    # A field is smooth: neighbours are similar.
    codes = names[:, thing] + 0.1 * rng.normal(size=index.codes.shape)
    codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
    return replace(index, codes=as_stored(torch.from_numpy(codes)))


THRESHOLD = 0.68   # that of conse


def seconds(run: Callable[[], object], repeats: int) -> list[float]:
    """Returns wall seconds of each repeat, after one that does not count."""
    out = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        out.append(time.perf_counter() - start)
    return out[1:]


def answer(query: TextQuery, phrases: np.ndarray, negatives: np.ndarray) -> int:
    """Computes scores, places and boxes of phrases (P, r); returns the number of places."""
    found = 0
    for values, scales in zip(*query.scorer.each_phrase(phrases, negatives), strict=True):
        found += len(query.places(values, scales, THRESHOLD, query.config.max_hits))
    return found


@torch.no_grad()
def as_lerf(field: LanguageField, features: torch.Tensor, phrase: torch.Tensor,
            negatives: torch.Tensor) -> torch.Tensor:
    """Returns the relevancy (N,) of a phrase from the network, at all scales of LERF's search."""
    parts = []
    for part in features.split(CHUNK):
        best = torch.zeros(len(part))
        for scale in np.linspace(*RANGE, SEARCH_STEPS):
            at = torch.full(part.shape[:2], float(scale))
            embedding = field.embeddings(part, at)[:, 0]
            best = torch.maximum(best, least_softmax(embedding @ phrase, embedding @ negatives.T,
                                                     10.0))
        parts.append(best)
    return torch.cat(parts)


def measure(points: int, repeats: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns rows of what, ours, theirs, ratio and goal; and further measurements."""
    config = load_preset(preset_path('reference'), LerfConfig())
    torch.manual_seed(0)
    field = LanguageField(config.language, DIMENSION, 384)
    place, thing = things_on_a_floor(points)
    surface = surface_of(place, thing)
    start = time.perf_counter()
    default = LerfConfig()
    scales = tuple(np.geomspace(*RANGE, default.index.scales))
    index = build_index(surface, field, SceneFrame((0.0, 0.0, 0.0), 1.0), scales, default.index)
    built = time.perf_counter() - start
    rank = default.index.rank
    # Random weights need few dimensions; a real map uses all of them.
    index = replace(index, codes=np.zeros((len(scales), points, rank), np.int16),
                    basis=np.eye(DIMENSION, rank, dtype=np.float32))
    index = meanings(index, thing)
    query = TextQuery(index, None, replace(default.query, threshold=0.6), 1.0)  # type: ignore
    rng = np.random.default_rng(2)
    chosen = index.codes_of(rng.choice(np.flatnonzero(thing > 0), PHRASES))[:, 0]
    negatives = rng.normal(size=(NEGATIVES, rank)) / np.sqrt(rank)
    one = seconds(lambda: answer(query, chosen[:1], negatives), repeats)
    ten = seconds(lambda: answer(query, chosen, negatives), repeats)
    with torch.no_grad():
        features = field.features(surface.positions())
    embed = torch.nn.functional.normalize(torch.randn(1 + NEGATIVES, DIMENSION), dim=-1)
    start = time.perf_counter()
    as_lerf(field, features, embed[0], embed[1:])
    theirs = time.perf_counter() - start
    ours, many = statistics.median(one), statistics.median(ten)
    rows = [
        {'what': f'answering a phrase over {points} points, seconds', 'ours': ours,
         'theirs': theirs, 'ratio': theirs / ours, 'goal': GOAL},
        {'what': f'{PHRASES} phrases at once against the bar, seconds', 'ours': many,
         'theirs': BAR_S, 'ratio': BAR_S / many, 'goal': 1.0}]
    return rows, {
        'points': points, 'places of ten phrases': answer(query, chosen, negatives),
        'segments': int(index.segments.max()) + 1, 'numbers a point': len(scales) * rank,
        'index built, seconds': built, 'paid after queries': built / (theirs - ours),
        'one phrase, seconds': sorted(one), 'ten phrases, seconds': sorted(ten),
        'threads': torch.get_num_threads(), 'load average': os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--points', type=int, default=200000)
    parser.add_argument('--repeats', type=int, default=100)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=Path, default=Path('out/bench/query_speed.json'))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows, seen = measure(arguments.points, arguments.repeats)
    for row in rows:
        print(f'{row["what"]}: ours {row["ours"]:.4f}, theirs {row["theirs"]:.4g}, '
              f'{row["ratio"]:.3g} times (goal {row["goal"]:g})')
    for name, value in seen.items():
        print(f'{name}: {value}')
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({'rows': rows, **seen}, indent=1) + '\n')


if __name__ == '__main__':
    main()
