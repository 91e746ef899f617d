# SPDX-License-Identifier: Apache-2.0
"""Asks finished maps of simulated layouts, and indexes without a field of the same keyframes.

    python bench/map_rivals.py --maps out/demo31/map out/demo33/map --seeds 31 33

Nothing is trained: method lerf is the index that the mapper wrote, `no second look` the same
without its second looks; fusion, fusion_second_look and tsdf are made of the keyframes that it
trained on, with the same encoder and settings. A map is of the layout of `make demo SEED=n`, or
with --evaluation of that of `lerf_ros eval --seeds n`. OUT gets results.json and table.md as in
`lerf_ros eval`; poses are those that the map was given.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lerf_ros import lerf
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.card import relevancy_threshold
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.encoders.image_text import ImageTextEncoder, load_encoder
from lerf_ros.evaluation.command import EVERYDAY_NAMES, FIELD_ALONE, write
from lerf_ros.evaluation.experiment import LOOKS
from lerf_ros.evaluation.records import EvalResults, ObjectResult, PhraseScore
from lerf_ros.evaluation.scenes import TruthObject
from lerf_ros.evaluation.scoring import (
    EvaluatedIndex,
    absent_words,
    score_objects,
    score_phrases,
)
from lerf_ros.evaluation.tsdf import fuse_tsdf
from lerf_ros.frames.selection import is_held_out
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.looks import SecondLooks
from lerf_ros.mapping.fusion import fuse, measured_views
from lerf_ros.mapping.map_looks import MapLooks
from lerf_ros.mapping.reindex import known_settings
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.raycast import SurfaceLabels
from lerf_ros.simulation.scene import TabletopScene, label_names
from lerf_ros.storage.map_directory import MapDirectory, scene_of

METHODS = ('lerf', FIELD_ALONE, 'fusion', 'fusion_second_look', 'tsdf')
OUT = Path('out/bench/map_rivals')


def settings_of(directory: MapDirectory) -> LerfConfig:
    """Returns the settings of a map, but for those of queries, which are today's."""
    stored = known_settings(directory.meta()['config'], answers=True)
    return LerfConfig().override({name: value for name, value in stored.items()
                                  if not name.startswith('query.')})


def indexes(directory: MapDirectory, encoder: ImageTextEncoder, config: LerfConfig,
            scene: SceneFrame, methods: Sequence[str]) -> Iterator[tuple[str, LanguageIndex]]:
    """Yields each of the methods with its index."""
    snapshot = directory.newest()
    assert snapshot is not None
    lerf_, alone, fusion, looking, tsdf = METHODS
    mapped = LanguageIndex.from_arrays(snapshot.arrays('index'))
    yield from ((name, index) for name, index in (
        (lerf_, mapped), (alone, replace(mapped, looks=SecondLooks()))) if name in methods)
    if set(methods) <= {lerf_, alone}:
        return
    files, every = directory.keyframes, config.keyframes.holdout_every
    kept = [i for i in files.indices() if not is_held_out(i, every)]
    frames = [files.read(i).frame for i in kept]
    extractor = FeatureExtractor(encoder, config.features,
                                 FeatureCache(directory.path / 'features', 1000))
    features = [lerf.embed(frame, scene, extractor, config.features.widths) for frame in frames]
    if {fusion, looking} & set(methods):
        index = fuse(frames, features, scene, config)
        yield fusion, index
    if looking in methods:
        look = MapLooks.of(encoder, files, replace(config.index, look_views=LOOKS)).within(True)
        assert look is not None
        views = measured_views(frames, kept, scene, config.index)
        yield looking, replace(index, looks=look(index, scene, *views))
    if tsdf in methods:
        yield tsdf, fuse_tsdf(frames, features, scene, config)


def compare(path: Path, tabletop: TabletopScene, name: str,
            methods: Sequence[str]) -> EvalResults:
    """Scores the methods on one map."""
    directory = MapDirectory(path)
    config, meta = settings_of(directory), directory.meta()
    scene = scene_of(meta)
    encoder = load_encoder(config.features)
    config = config.override({'query.threshold': relevancy_threshold(
        encoder, config.query.temperature)})
    things = tuple(TruthObject(o.name, o.query, o.group, o.box_min, o.box_max, math.nan)
                   for o in tabletop.objects)
    absent = absent_words([*label_names(tabletop), *(thing.query for thing in things)],
                          EVERYDAY_NAMES, encoder.encode_texts)
    surfaces = SurfaceLabels(tabletop)
    objects: list[ObjectResult] = []
    phrases: list[PhraseScore] = []
    start = time.monotonic()
    for method, index in indexes(directory, encoder, config, scene, methods):
        labels = surfaces.at(index.points_world)
        asked = EvaluatedIndex(name, encoder.name, method, index,
                               np.where(labels < len(things), labels, -1), encoder, scene.radius,
                               config.query)
        rows = score_objects(asked, things)
        objects += rows
        phrases += score_phrases(asked, [thing.query for thing in things], absent)
        print(f'{name}, {method}: {sum(bool(row.hit) for row in rows)} of {len(rows)}, IoU '
              f'{np.mean([row.iou_3d for row in rows]):.2f}, {len(index.points)} points, '
              f'{len(index.looks)} looks, {time.monotonic() - start:.0f} s', flush=True)
    return EvalResults(objects, phrases, (), {'left out': []})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--maps', type=Path, nargs='+', required=True)
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--evaluation', action='store_true', help='layouts of the evaluation')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument('--out', type=Path, default=OUT)
    a = parser.parse_args()
    layout = evaluation_layout if a.evaluation else TabletopScene.generate
    parts = [compare(path, layout(seed), f'{"layout" if a.evaluation else "demo"}{seed}',
                     a.methods)
             for path, seed in zip(a.maps, a.seeds, strict=True)]
    results = EvalResults([o for part in parts for o in part.objects],
                          [p for part in parts for p in part.phrases], (), {'left out': []})
    for file in write(results, a.out):
        print(file)


if __name__ == '__main__':
    run_quietly(main)
