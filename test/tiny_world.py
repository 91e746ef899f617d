# SPDX-License-Identifier: Apache-2.0
"""A world small enough to be mapped in seconds: coloured cubes on a checkered floor.

Its encoder knows colours only: an image cell's embedding tells which cube's colour fills it, and
the words 'red', 'green' and 'blue' name them. What a test of the core finds wrong with it is the
core's fault, not an encoder's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera

CAMERA = PinholeCamera(96, 72, 90.0, 90.0, 48.0, 36.0)
COLORS = {'red': (220, 40, 40), 'green': (40, 200, 60), 'blue': (50, 70, 220)}
# Minimum and maximum corner of each cube, metres, z up; the floor is z = 0.
CUBES = {'red': ((-0.40, -0.10, 0.0), (-0.20, 0.10, 0.2)),
         'green': ((0.10, 0.15, 0.0), (0.30, 0.35, 0.2)),
         'blue': ((0.10, -0.35, 0.0), (0.30, -0.15, 0.2))}
WORDS = (*COLORS, 'floor', 'object', 'things', 'stuff', 'texture', 'purple')
PATCH = 8   # pixels a cell


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """T_world_camera (4, 4), OpenCV axes, level horizon."""
    z = (target - position) / np.linalg.norm(target - position)
    x = np.cross(z, [0.0, 0, 1])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    T[:3, 3] = position
    return T


def orbit(count: int, start: float = 0.0) -> list[np.ndarray]:
    """Poses on a circle around the cubes."""
    angles = start + np.arange(count) * 2 * np.pi / count
    return [look_at(np.array([1.1 * np.cos(a), 1.1 * np.sin(a), 0.7 + 0.1 * np.sin(3 * a)]),
                    np.array([0.0, 0.0, 0.05])) for a in angles]


def photograph(T_world_camera: np.ndarray, stamp_ns: int = 0, with_depth: bool = True,
               cubes: Mapping[str, tuple] = CUBES,
               camera: PinholeCamera = CAMERA) -> Frame:
    """What the camera sees, by intersecting its rays with the floor and the cubes."""
    directions = camera.directions(camera.pixel_grid().reshape(-1, 2)) @ T_world_camera[:3, :3].T
    origin = T_world_camera[:3, 3]
    distance = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], 20.0)
    hit = origin + distance[:, None] * directions
    checker = (np.floor(hit[:, 0] / 0.2) + np.floor(hit[:, 1] / 0.2)) % 2
    color = np.where(checker[:, None] == 0, 90, 150) * np.ones(3)
    for name, (low, high) in cubes.items():
        with np.errstate(divide='ignore', invalid='ignore'):
            a, b = (np.asarray(low) - origin) / directions, (np.asarray(high) - origin) / directions
        near, far = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
        front = (near < far) & (near > 0) & (near < distance)
        distance = np.where(front, near, distance)
        color[front] = COLORS[name]
    shape = (camera.height, camera.width)
    z = distance * (directions @ T_world_camera[:3, 2])
    return Frame(stamp_ns, color.reshape(*shape, 3).astype(np.uint8), camera, T_world_camera,
                 z.reshape(shape).astype(np.float32) if with_depth else None)


class ColorEncoder:
    """Words and colours on orthogonal axes; an image is the mixture of its colours."""

    name = 'colors'
    dimension = len(WORDS)
    receptive_px = float(PATCH)

    def identity(self) -> dict[str, str]:
        return {'name': self.name}

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(len(WORDS), dtype=np.float32)[[WORDS.index(t) for t in texts]]

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        mixtures = np.stack([self.shares(image.reshape(-1, 3)).mean(0) for image in images])
        return (mixtures / np.linalg.norm(mixtures, axis=1, keepdims=True)).astype(np.float32)

    @staticmethod
    def shares(pixels: np.ndarray) -> np.ndarray:
        """One-hot words (N, words) of pixels (N, 3): the cube of that colour, or floor."""
        difference = np.abs(pixels[:, None].astype(int) - np.array(list(COLORS.values()))).max(-1)
        word = np.where(difference.min(1) < 30, difference.argmin(1), WORDS.index('floor'))
        return np.eye(len(WORDS))[word]

    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
        cells = image[:rows * PATCH, :columns * PATCH].reshape(rows, PATCH, columns, PATCH, 3)
        shares = self.shares(cells.swapaxes(1, 2).reshape(-1, 3))
        weights = shares.reshape(rows, columns, PATCH * PATCH, -1).mean(2).astype(np.float16)
        ids = np.broadcast_to(np.arange(len(WORDS), dtype=np.int32), weights.shape)
        return EmbeddingMap(self.receptive_px / factor, (PATCH / 2, PATCH / 2), (PATCH, PATCH),
                            ids.copy(), weights, np.eye(len(WORDS), dtype=np.float32))
