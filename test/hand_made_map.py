# SPDX-License-Identifier: Apache-2.0
"""A map directory made by hand: cubes of points that mean a word each, on a floor.

Its words lie on axes at right angles, so every relevancy can be computed in the head: a place that
means the word asked for beats all negatives by a margin of 1, any other loses by 0 or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.index.language_index import LanguageIndex, as_stored
from lerf_ros.index.scales import searched_scales
from lerf_ros.settings import to_dict
from lerf_ros.storage.map_directory import MapDirectory

WORDS = ('object', 'things', 'stuff', 'texture', 'mug', 'plate', 'ball', 'floor')
COLORS = {'mug': (220, 40, 40), 'plate': (40, 200, 60), 'ball': (50, 70, 220)}
# Centre of each cube on the floor z = 0, and its edge; metres.
CUBES = {'mug': ((0.0, 0.0, 0.05), 0.10), 'plate': ((0.5, 0.0, 0.04), 0.08),
         'ball': ((0.0, 0.5, 0.03), 0.06)}
CONFIG = LerfConfig()
CAMERA = PinholeCamera(64, 48, 60.0, 60.0, 32.0, 24.0)


def axis(word: str) -> np.ndarray:
    return np.eye(len(WORDS), dtype=np.float32)[WORDS.index(word)]


class WordEncoder:
    """Words on axes; a picture is the thing whose colour its middle has."""

    name = 'words'
    dimension = len(WORDS)

    def identity(self) -> dict[str, str]:
        return {'name': self.name}

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([axis(text) for text in texts])

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        middles = [tuple(im[im.shape[0] // 2, im.shape[1] // 2].tolist()) for im in images]
        return np.stack([axis({c: w for w, c in COLORS.items()}[m]) for m in middles])


def cube_index(cubes: dict[str, tuple[tuple[float, float, float], float]]) -> LanguageIndex:
    """216 points in each cube that mean its word, and a floor of 1,600 points."""
    steps = np.linspace(-0.5, 0.5, 6)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    floor = np.stack(np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 40), [0.0]),
                     -1).reshape(-1, 3)
    points = np.concatenate([*(cube * edge + center for center, edge in cubes.values()), floor])
    words = [word for word in cubes for _ in cube] + ['floor'] * len(floor)
    codes = np.stack([axis(word) for word in words])[None]
    segments = np.repeat([*range(1, len(cubes) + 1), 0], [*[len(cube)] * len(cubes), len(floor)])
    return plain_index(points, codes, segments, np.array([0.1], np.float32))


def plain_index(points: np.ndarray, codes: np.ndarray, segments: np.ndarray,
                scales: np.ndarray) -> LanguageIndex:
    """An index of points (N, 3) with codes (S, N, r) at scales (S,), on the floor z = 0."""
    count, rank = len(points), codes.shape[-1]
    return LanguageIndex(points.astype(np.float32), np.full((count, 3), 90, np.uint8),
                         np.full(count, 9), as_stored(torch.from_numpy(codes)),
                         np.eye(rank, dtype=np.float32),
                         np.array(searched_scales(scales), np.float32),
                         np.zeros((count, 3), np.float16), segments.astype(np.int32),
                         np.array([[0.0, 0.0, 1.0, 0.0]]))


def write_map(folder: Path, index: LanguageIndex | None = None, metric: bool = True,
              encoder: str = 'words', **parts: dict[str, np.ndarray]) -> Path:
    """The map directory of an index (three cubes on a floor by default), with one keyframe.

    parts: more arrays of the snapshot. The keyframe shows a square of the mug's colour.
    """
    index = index or cube_index(CUBES)
    directory = MapDirectory(folder, metric)
    directory.create({'frame_id': 'map', 'metric': metric, 'encoder': {'name': encoder},
                      'scene': {'center': [0.0, 0.0, 0.0], 'radius': 1.0},
                      'config': to_dict(CONFIG)})
    image = np.full((CAMERA.height, CAMERA.width, 3), 128, np.uint8)
    image[10:30, 10:40] = COLORS['mug']
    directory.keyframes.add(Keyframe(0, Frame(0, image, CAMERA, np.eye(4))))
    directory.write_snapshot({'index': index.arrays(), **parts},
                             {'stamp_ns': 5, 'steps': 9000, 'encoder': {'name': encoder}}, keep=1)
    return folder
