# SPDX-License-Identifier: Apache-2.0
"""Counts the launches, copies and waits of a training step of a preset.

    python test/device/on_stand_in.py test/device/step_counts.py [PRESET]

prints them by file and line. The step is small in what does not change them: rays, tables, images.
"""

from __future__ import annotations

import itertools
import sys
from unittest import mock

import numpy as np
from one_kernel_grid import OneKernelGrid
from stand_in import DEVICE
from traffic import TRAFFIC, Traffic

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.field.hash_encoding import HashEncoding, HashGridBackend, TorchGrid
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.training.captured_step import WARM_STEPS
from lerf_ros.training.learners import Trainer
from lerf_ros.training.step_guard import StepGuard

CAMERA = PinholeCamera(32, 24, 30.0, 30.0, 16.0, 12.0)
KEYFRAMES = 10      # more than training.newest_count
STEPS = 4           # that are counted: the mean of the weights is updated in each fourth
DIMENSION, DENSE = 16, 12


def small_preset(name: str) -> LerfConfig:
    """Returns a preset for the device with few rays and small tables, but all of its levels."""
    return load_preset(preset_path(name)).override({
        'training.device': DEVICE.type, 'training.rays': 64, 'training.language_rays': 32,
        'field.log2_table': 10, 'field.proposal_log2_table': 10, 'language.log2_table': 10})


def make_trainer(config: LerfConfig) -> Trainer:
    """Returns a trainer that has a few keyframes of noise, with measured depth."""
    trainer = Trainer(config, SceneFrame((0.0, 0.0, 0.0), 1.0), DEVICE)
    random = np.random.default_rng(0)
    for index in range(KEYFRAMES):
        T_world_camera = np.eye(4)
        T_world_camera[:3, 3] = (0.02 * index, 0.0, -1.5)
        shape = CAMERA.height, CAMERA.width
        frame = Frame(index, random.integers(0, 255, (*shape, 3), dtype=np.uint8), CAMERA,
                      T_world_camera, np.full(shape, 1.5, np.float32))
        levels = [_embedding_map(width, random) for width in range(6, 6 + len(
            config.features.widths))]
        trainer.add(Keyframe(index, frame), KeyframeFeatures(
            tuple(levels), random.standard_normal((3, 4, DENSE)).astype(np.float16)))
    return trainer


def _embedding_map(width: int, random: np.random.Generator) -> EmbeddingMap:
    """Returns one level of a pyramid of crops, `width` pixels wide."""
    words = random.standard_normal((12, DIMENSION)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    return EmbeddingMap(float(width), (0.0, 0.0), (8.0, 8.0),
                        np.arange(12, dtype=np.int32).reshape(3, 4, 1),
                        np.ones((3, 4, 1), np.float16), words)


def count_step(config: LerfConfig, compiled_grid: bool) -> Traffic:
    """Counts STEPS training steps.

    compiled_grid: whether hash grids are looked up in one launch each, as Triton's kernels and
    tiny-cuda-nn do, or in plain torch.
    """
    def choose(encoding: HashEncoding, device_type: str) -> HashGridBackend:
        if compiled_grid:
            return OneKernelGrid(encoding.geometry, DEVICE)
        return TorchGrid(encoding.geometry)

    with mock.patch.object(HashEncoding, '_choose_backend', choose):
        guard = StepGuard(make_trainer(config))
        # Until optimisers have their state, and the step is captured.
        for _ in range(WARM_STEPS + 1 if guard.captured.wanted else 1):
            assert guard.step() is not None
        with TRAFFIC.counted():
            for _ in range(STEPS):
                assert guard.step() is not None
    return TRAFFIC


def main(preset: str) -> None:
    """Prints the counts of a preset."""
    for graphs, compiled in itertools.product((False, True), (True, False)):
        config = small_preset(preset).override({'training.cuda_graphs': graphs})
        print(f'# {preset}, {"one CUDA graph" if graphs else "one kernel at a time"}, '
              f'{"one launch a hash grid" if compiled else "hash grids in plain torch"}')
        print(count_step(config, compiled).table(STEPS))


if __name__ == '__main__':
    main(sys.argv[1] if len(sys.argv) > 1 else 'online')
