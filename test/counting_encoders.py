# SPDX-License-Identifier: Apache-2.0
"""Fakes for the tests of the feature cache: encoders that count their runs, one frame."""

import numpy as np

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera

CAMERA = PinholeCamera(64, 48, 60.0, 60.0, 32.0, 24.0)
WIDTHS, DEPTH = (0.15, 0.3), 1.0


class Dense:
    """As conse: a vocabulary for all images, five of its rows a cell; counts its runs."""

    name, dimension, receptive_px, version = 'dense fake', 4, 18.0, '1'
    vocabulary = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)

    def __init__(self):
        self.runs = 0

    def identity(self):
        return {'name': self.name, 'weights': self.version}

    def encode_texts(self, texts):
        return np.ones((len(texts), 4), np.float32)

    encode_images = encode_texts

    def dense(self, image, factor):
        return self.dense_with_features(image, factor)[0]

    def dense_with_features(self, image, factor):
        self.runs += 1
        rng = np.random.default_rng(int(image.sum()))
        level = EmbeddingMap(self.receptive_px / factor, (1 / 3, 2.0), (4 / factor, 4 / 3),
                             rng.integers(0, 20, (6, 8, 5)).astype(np.int32),
                             rng.random((6, 8, 5)).astype(np.float16), self.vocabulary)
        return level, rng.random((12, 16, 3)).astype(np.float16)


class Crops:
    """Mean colours of crops; counts its runs."""

    name, dimension, version = 'crop fake', 3, '1'

    def __init__(self):
        self.runs = 0

    def identity(self):
        return {'name': self.name, 'weights': self.version}

    def encode_texts(self, texts):
        return np.ones((len(texts), 3), np.float32)

    def encode_images(self, images):
        self.runs += 1
        rows = np.stack([image.reshape(-1, 3).mean(0) + 1 for image in images])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def frame(seed=0, valid=None):
    image = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
    return Frame(0, image, CAMERA, np.eye(4), valid=valid)


def extract(encoder, folder, a_frame=None, widths=WIDTHS, megabytes=100, **settings):
    extractor = FeatureExtractor(encoder, FeatureConfig(**settings),
                                 FeatureCache(folder, megabytes))
    return extractor.extract(a_frame or frame(), widths, DEPTH)


def assert_same(a, b):
    """Bit by bit."""
    assert len(a.levels) == len(b.levels)
    for one, other in zip(a.levels, b.levels):
        for name in ('width_px', 'origin_px', 'stride_px'):
            assert getattr(one, name) == getattr(other, name)
        for name in ('ids', 'weights', 'vocabulary'):
            x, y = getattr(one, name), getattr(other, name)
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
    assert a.dense.dtype == b.dense.dtype
    np.testing.assert_array_equal(a.dense, b.dense)


def keyframe_files(folder):
    return sorted(folder.glob('keyframe_*'))
