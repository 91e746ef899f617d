# SPDX-License-Identifier: Apache-2.0
"""What gpu.py feeds its sections with: presets, keyframes of noise, a small world, a layout."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera

sys.path.append(str(Path(__file__).resolve().parent.parent / 'test'))
from tiny_world import orbit, photograph

GPU = torch.device('cuda')
HD = PinholeCamera(1280, 720, 915.0, 915.0, 640.0, 360.0)
SMALL = PinholeCamera(64, 36, 45.0, 45.0, 32.0, 18.0)
EMBEDDING, DENSE = 512, 384         # numbers of a ViT-B-16's embedding and of DINO's features
CROPS = (0.05, 0.125, 0.2, 0.275, 0.35, 0.425, 0.5)     # parts of the height (LERF)
RNG = np.random.default_rng(0)


def preset(name: str, arguments: argparse.Namespace, **settings: object) -> LerfConfig:
    """Returns the settings of a preset on a GPU, much smaller for a smoke run."""
    config = load_preset(preset_path(name), LerfConfig()).override({
        'training.device': 'cuda', 'training.settle_steps': 0, **settings})
    if not arguments.smoke:
        return config
    return config.override({'training.rays': 64, 'training.language_rays': 32,
                            'field.log2_table': 10, 'field.proposal_log2_table': 10,
                            'language.log2_table': 10})


def keyframe(number: int, smoke: bool) -> Keyframe:
    """Returns a keyframe of noise in front of a wall, 1.5 scene radii away."""
    camera, pose = SMALL if smoke else HD, np.eye(4)
    pose[:3, 3] = 0.02 * (number % 50), 0.0, -1.5
    shape = camera.height, camera.width
    return Keyframe(number, Frame(number, RNG.integers(0, 255, (*shape, 3), dtype=np.uint8), camera,
                                  pose, np.full(shape, 1.5, np.float32)))


def features(smoke: bool) -> KeyframeFeatures:
    """Returns random embeddings of a pyramid of crops as LERF takes, and dense features."""
    camera, levels = SMALL if smoke else HD, []
    for part in CROPS:
        side = max(int(camera.height * part), 2)
        stride = max(side // 2, 1)
        rows, columns = camera.height // stride + 1, camera.width // stride + 1
        words = RNG.standard_normal((rows * columns, EMBEDDING), dtype=np.float32)
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        ids = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns, 1)
        levels.append(EmbeddingMap(float(side), (0.0, 0.0), (float(stride), float(stride)), ids,
                                   np.ones((rows, columns, 1), np.float16), words))
    return KeyframeFeatures(tuple(levels), RNG.standard_normal(
        (62, 110, DENSE), dtype=np.float32).astype(np.float16))


def frames_of_cubes(count: int) -> list[Frame]:
    """Returns posed images of coloured cubes on a floor, with depth."""
    return [photograph(pose, stamp_ns=number) for number, pose in enumerate(orbit(count))]


def tiny_config() -> LerfConfig:
    """Returns settings that map the cubes in seconds."""
    return LerfConfig().override({
        'field.levels': 8, 'field.max_resolution': 128, 'field.log2_table': 14,
        'field.hidden': 32, 'field.color_hidden': 32, 'field.proposal_samples': [32],
        'field.samples': 16, 'field.proposal_log2_table': 14,
        'language.levels': [4], 'language.max_resolutions': [64], 'language.log2_table': 13,
        'language.hidden': 32, 'training.rays': 256, 'training.language_rays': 128,
        'training.decay_steps': 300, 'training.language_decay_steps': 300,
        'training.settle_steps': 0, 'training.newest_count': 4, 'features.widths': [0.1],
        'index.rays': 8000, 'index.scales': 1, 'index.rank': 9, 'index.voxel': 0.02,
        'query.cluster_radius': 0.08, 'query.min_points': 5})


class WordSentences:
    """Embeds each text as a random direction of its own: an encoder without weights."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, EMBEDDING) float32, always the same for a text."""
        rows = [np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8],
                                                     'big')).standard_normal(EMBEDDING)
                for text in texts]
        unit = np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit.astype(np.float32)

    def version(self) -> str:
        """Returns name and version of the weights, of which there are none."""
        return 'random directions'
