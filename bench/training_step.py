# SPDX-License-Identifier: Apache-2.0
"""Compares a training step of the radiance field with nerfacto's, in pairs within one run.

    python bench/radiance_quality.py --data FOLDER --prepare
    python bench/training_step.py --rival .venv-nerfstudio/bin/python

Both take 1,024 rays of the same images, 256 and 96 proposal samples, 48 final ones, and have
nerfacto's grids, networks and proposal schedule: on our side the preset `reference` without
language and pose refinement. bench/README.md tells how to make nerfstudio's environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from radiance_curve import Problem

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.training.learners import RadianceLearner
from lerf_ros.training.scene_measurement import measure_scene

WARM_UP, PAIRS, GOAL = 3, 15, 5.0
WORKER = Path(__file__).with_name('nerfacto_worker.py')
MALLOC = {'MALLOC_MMAP_THRESHOLD_': '8000000000', 'MALLOC_TRIM_THRESHOLD_': '20000000000',
          'MALLOC_TOP_PAD_': '500000000'}
Timing = dict[str, float]


def same_as_nerfacto(rays: int) -> LerfConfig:
    """Returns settings with the field, samples and schedule of nerfacto."""
    return load_preset(preset_path('reference')).override({
        'training.rays': rays, 'poses.refine': False})


def our_learner(problem: Problem, config: LerfConfig) -> RadianceLearner:
    """Returns a learner of the trained images; a pinhole stands for the prepared directions.

    For the time of a step it does not matter through which lens the pixels were seen.
    """
    height, width = problem.images.shape[1:3]
    camera = PinholeCamera(width, height, float(width), float(width), width / 2, height / 2)
    frames = [Frame(0, image, camera, pose) for image, pose, held_out in zip(
        problem.images, problem.T_world_camera, problem.held_out, strict=True) if not held_out]
    learner = RadianceLearner(config, measure_scene(frames, config), torch.device('cpu'),
                              torch.Generator().manual_seed(0))
    for i, frame in enumerate(frames):
        learner.add(Keyframe(i, frame))
    return learner


def timed(learner: RadianceLearner) -> Timing:
    """Returns the wall and processor seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    learner.step()
    return {'wall_s': time.perf_counter() - wall, 'cpu_s': time.process_time() - cpu}


@contextlib.contextmanager
def rival(python: Path, problem: Path, threads: int) -> Iterator[subprocess.Popen[str]]:
    """Runs nerfacto in a process of its own, which waits between steps."""
    process = subprocess.Popen(
        [str(python), str(WORKER), str(problem), '--threads', str(threads)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **MALLOC})
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def ask(process: subprocess.Popen[str]) -> Timing:
    """Runs one step of the rival."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write('step\n')
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit('the rival ended: see its words above')
    return dict(json.loads(answer))


def measure(problem: Path, python: Path, threads: int, count: int) -> dict[str, Any]:
    """Returns medians over pairs, and the ratio of theirs to ours."""
    data = Problem.load(problem)
    learner = our_learner(data, same_as_nerfacto(int(data.rays)))
    first = timed(learner)['wall_s']
    with rival(python, problem, threads) as process:
        pairs = [(timed(learner), ask(process)) for _ in range(WARM_UP + count)][WARM_UP:]
    out: dict[str, Any] = {'rays': int(data.rays), 'pairs': len(pairs), 'first_step_s': first}
    for clock in ('wall_s', 'cpu_s'):
        ours, theirs = (np.array([pair[side][clock] for pair in pairs]) for side in (0, 1))
        out[clock] = {'ours': float(np.median(ours)), 'theirs': float(np.median(theirs)),
                      'ratio': float(np.median(theirs / ours))}
    step = out['wall_s']
    out['rows'] = [{'what': f'a training step of {out["rays"]} rays against nerfacto, s',
                    'goal': GOAL, **step}]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--problem', type=Path, default=Path('out/radiance_quality/problem.npz'))
    parser.add_argument('--rival', type=Path, default=Path('.venv-nerfstudio/bin/python'),
                        help="nerfstudio's python")
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--pairs', type=int, default=PAIRS)
    parser.add_argument('--out', type=Path, help='JSON file to write')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.problem, arguments.rival, arguments.threads, arguments.pairs)
    for clock, title in (('wall_s', 'wall'), ('cpu_s', 'processor')):
        row = found[clock]
        print(f'{title}: ours {row["ours"]:.3f} s, nerfacto {row["theirs"]:.3f} s, '
              f'{row["ratio"]:.1f} times (median of {found["pairs"]} pairs)')
    print(f'first step of ours: {found["first_step_s"]:.2f} s')
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    main()
