# SPDX-License-Identifier: Apache-2.0
"""Measures what grows with the number of keyframes: steps, memory, snapshots, answers.

    python bench/growth.py --counts 50 200 1000

Keyframes are noise with depth from circles above a plane, with made-up embeddings, so that no
encoder's time is in it; the field is the preset `offline` at full size. Each number of keyframes
is measured in the same process, the batches of steps in turn, so that other load on the machine
affects all of them. Writes OUT/growth.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lerf_ros import lerf
from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.surface import PosedCamera
from lerf_ros.index.survey import ViewCache
from lerf_ros.query.relevancy import Scorer
from lerf_ros.simulation.trajectory import look_at
from lerf_ros.training.learners import Trainer

CAMERA = PinholeCamera(320, 240, 275.0, 275.0, 160.0, 120.0)
VOCABULARY = np.eye(64, 384, dtype=np.float32)
ROUNDS, STEPS, WARM_UP = 3, 10, 10
SETTLED = 400              # steps until the first of two snapshots
NEW, NEW_STEPS = 5, 20     # keyframes and steps between them


def pose(number: int) -> np.ndarray:
    """Returns T_world_camera on a circle that drifts, looking down at the plane z = 0."""
    angle, drift = 0.4 * number, np.array([0.02 * number, 0.0, 0.0])
    eye = drift + [np.cos(angle), np.sin(angle), 1.0]
    return look_at(eye, drift + [0.2, 0.0, 0.0])


def keyframe(number: int) -> Keyframe:
    """Returns a frame of noise with the depth of the plane."""
    rng, T = np.random.default_rng(number), pose(number)
    directions = CAMERA.directions(CAMERA.pixel_grid())
    slope = (directions @ T[:3, :3].T)[..., 2]
    depth = np.where(slope < -1e-3, -T[2, 3] / slope * directions[..., 2], 0.0)
    image = rng.integers(0, 256, (CAMERA.height, CAMERA.width, 3), dtype=np.uint8)
    return Keyframe(number, Frame(number, image, CAMERA, T, depth.astype(np.float32)))


def features(number: int) -> KeyframeFeatures:
    """Returns two levels of random embeddings, and dense features."""
    rng = np.random.default_rng(number)
    levels = tuple(EmbeddingMap(
        width, (8.0, 8.0), (16.0, 16.0), rng.integers(0, 64, (15, 20, 4)).astype(np.int32),
        rng.random((15, 20, 4)).astype(np.float16), VOCABULARY) for width in (40.0, 80.0))
    return KeyframeFeatures(levels, rng.random((15, 20, 40)).astype(np.float16))


def trainer_of(count: int, config: LerfConfig) -> Trainer:
    """Returns a trainer with so many keyframes."""
    trainer = Trainer(config, SceneFrame((0.0, 0.0, 0.0), 1.5), torch.device('cpu'))
    for number in range(count):
        trainer.add(keyframe(number), features(number))
    return trainer


def take_step(trainer: Trainer) -> None:
    """Takes one training step."""
    lerf.training_step(trainer.radiance, trainer.language)


def rate(trainer: Trainer) -> float:
    """Returns the processor seconds of a step."""
    start = time.process_time()
    for _ in range(STEPS):
        take_step(trainer)
    return (time.process_time() - start) / STEPS


def snapshots_and_query(trainer: Trainer, count: int, config: LerfConfig) -> dict[str, float]:
    """Returns the processor seconds of two surveys and of a query.

    NEW keyframes and NEW_STEPS steps lie between the surveys. The query is the relevancy of a
    phrase at the points of the second one.
    """
    memory = ViewCache()
    for _ in range(SETTLED - trainer.radiance.steps):
        take_step(trainer)
    first_s, _ = timed_survey(trainer, count, config, memory)
    for number in range(count, count + NEW):
        trainer.add(keyframe(number), features(number))
    for _ in range(NEW_STEPS):
        take_step(trainer)
    second_s, index = timed_survey(trainer, count + NEW, config, memory)
    renewed, answers = memory.renewed, []
    scorer, phrases = Scorer(index.codes, config.query.temperature), VOCABULARY[:5] @ index.basis
    for _ in range(ROUNDS + 1):     # the first one computes the negatives
        start = time.process_time()
        scorer.best_phrase(phrases[:1], phrases[1:])
        answers.append(time.process_time() - start)
    return {'snapshot_s': first_s, 'second_snapshot_s': second_s, 'views_renewed': renewed,
            'points': len(index.points_world), 'query_ms': 1000 * float(np.median(answers[1:]))}


def timed_survey(trainer: Trainer, count: int, config: LerfConfig,
                 memory: ViewCache) -> tuple[float, LanguageIndex]:
    """Returns the processor seconds of a survey of so many keyframes, and its index."""
    cameras = [PosedCamera(CAMERA, trainer.scene.pose_to_scene(pose(n))) for n in range(count)]
    assert trainer.language.field is not None
    start = time.process_time()
    survey = lerf.index(trainer.radiance.field, trainer.language.field, cameras, trainer.scene,
                         trainer.language.trained_scales(), config, None, memory)
    return time.process_time() - start, survey.index


def measure(counts: list[int], config: LerfConfig) -> list[dict[str, Any]]:
    """Returns a row for each number of keyframes."""
    memory, trainers = [], []
    for count in counts:
        trainers.append(trainer_of(count, config))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        for _ in range(WARM_UP):
            take_step(trainers[-1])
    rounds = [[rate(trainer) for trainer in trainers] for _ in range(ROUNDS)]
    steps_s = np.median(rounds, axis=0)
    return [{'keyframes': count, 'step_s': float(step_s), 'peak_memory_mb': mb,
             **snapshots_and_query(trainer, count, config)}
            for count, step_s, mb, trainer in zip(counts, steps_s, memory, trainers, strict=True)]


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compares the most keyframes with the fewest, as ratios of which more is better."""
    few, many = rows[0], rows[-1]
    words = f'with {many["keyframes"]} keyframes beside {few["keyframes"]}'
    return [{'what': f'{title} {words}', 'ours': many[name], 'theirs': few[name],
             'ratio': few[name] / many[name], 'goal': goal}
            for title, name, goal in (
                ('processor seconds of a training step', 'step_s', 0.8),
                ('processor milliseconds of a query', 'query_ms', 0.95),
                ('processor seconds of a snapshot', 'snapshot_s', 0.8),
                ('processor seconds of a second snapshot', 'second_snapshot_s', 0.8))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--counts', type=int, nargs='+', default=[50, 1000])
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    arguments = parser.parse_args()
    config = load_preset(preset_path('offline')).override(
        {'keyframes.max_count': max(arguments.counts) + NEW})
    rows = measure(arguments.counts, config)
    for row in rows:
        print(', '.join(f'{name} {value:.4g}' for name, value in row.items()))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / 'growth.json').write_text(json.dumps(
        {'rows': compared(rows), 'all': rows}, indent=1) + '\n')


if __name__ == '__main__':
    main()
