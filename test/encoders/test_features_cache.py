# SPDX-License-Identifier: Apache-2.0
"""Features that were computed before come from the disk, and never the wrong ones."""


import numpy as np
import pytest
from counting_encoders import (
    DEPTH,
    WIDTHS,
    Crops,
    Dense,
    assert_same,
    extract,
    frame,
    keyframe_files,
)

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.cache import FeatureCache, read_file
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.encoders.extractor import FeatureExtractor


@pytest.mark.parametrize('kind', [Dense, Crops])
@pytest.mark.parametrize('pyramid', ['widths', 'fractions'])
def test_the_second_time_the_encoder_does_not_run(tmp_path, kind, pyramid):
    settings = {'pyramid': pyramid, 'fractions': (0.2, 0.5)}
    first = kind()
    fresh = extract(first, tmp_path, **settings)
    again = kind()
    assert_same(extract(again, tmp_path, **settings), fresh)
    assert first.runs > 0 and again.runs == 0
    without = FeatureExtractor(kind(), FeatureConfig(**settings)).extract(frame(), WIDTHS, DEPTH)
    assert_same(without, fresh)


def other_mask():
    valid = np.ones((48, 64), bool)
    valid[40:] = False
    return frame(valid=valid)


@pytest.mark.parametrize('change', [
    {'a_frame': frame(1)},
    {'a_frame': other_mask()},
    {'widths': (0.15, 0.35)},
    {'pyramid': 'fractions', 'fractions': (0.2, 0.5)},
    {'pyramid': 'fractions', 'fractions': (0.2, 0.5), 'overlap': 0.25},
    {'pyramid': 'fractions', 'fractions': (0.12, 0.5)},
    {'pyramid': 'fractions', 'fractions': (0.12, 0.5), 'overlap_small': 0.5},
])
def test_other_images_and_settings_do_not_collide(tmp_path, change):
    for before in ({}, {'pyramid': 'fractions', 'fractions': (0.2, 0.5)},
                   {'pyramid': 'fractions', 'fractions': (0.12, 0.5)}):
        if before != change:
            extract(Crops(), tmp_path, **before)
    encoder = Crops()
    extract(encoder, tmp_path, **change)
    assert encoder.runs > 0


@pytest.mark.parametrize('name', ['name', 'version', 'device', 'receptive_px'])
def test_other_encoders_do_not_collide(tmp_path, name):
    extract(Dense(), tmp_path)
    encoder = Dense()
    setattr(encoder, name, 36.0 if name == 'receptive_px' else 'cuda:0')
    extract(encoder, tmp_path)
    assert encoder.runs > 0


def test_settings_that_change_nothing_find_what_is_there(tmp_path):
    extract(Crops(), tmp_path, batch=32)
    encoder = Crops()
    extract(encoder, tmp_path, batch=7)
    assert encoder.runs == 0


def test_dense_features_are_part_of_the_key(tmp_path):
    class Border:
        def __init__(self, layer):
            self.layer = layer

        def identity(self):
            return {'layer': self.layer}

        def features(self, image):
            return np.full((2, 2, 1), float(self.layer), np.float16)

    for layer in ('9', '11'):
        extractor = FeatureExtractor(Crops(), FeatureConfig(), FeatureCache(tmp_path, 100))
        extractor._dense = Border(layer)
        assert extractor.extract(frame(), WIDTHS, DEPTH).dense[0, 0, 0] == float(layer)


def test_a_shared_vocabulary_is_one_file_and_one_array(tmp_path):
    extractor = FeatureExtractor(Dense(), FeatureConfig(), FeatureCache(tmp_path, 100))
    for seed in (0, 1):
        extractor.extract(frame(seed), WIDTHS, DEPTH)
    assert len(list(tmp_path.glob('vocabulary_*'))) == 1 and len(keyframe_files(tmp_path)) == 2
    other = Dense()   # another process: its own array of the same values
    other.vocabulary = Dense.vocabulary.copy()
    extractor = FeatureExtractor(other, FeatureConfig(), FeatureCache(tmp_path, 100))
    found = [extractor.extract(frame(seed), WIDTHS, DEPTH) for seed in (0, 1, 2)]
    assert other.runs == 2   # the two levels of frame 2
    assert len({id(level.vocabulary) for features in found for level in features.levels}) == 1


def test_embeddings_of_crops_take_half_the_space(tmp_path):
    fresh = extract(Crops(), tmp_path)
    arrays, _ = read_file(keyframe_files(tmp_path)[0])
    assert arrays['0.vocabulary'].dtype == np.float16 and '0.ids' not in arrays
    assert arrays['0.vocabulary'].shape == fresh.levels[0].vocabulary.shape


def test_no_dense_features_and_values_beyond_half_precision(tmp_path):
    cache = FeatureCache(tmp_path, 100)
    level = EmbeddingMap(3.0, (0.0, 0.0), (1.0, 1.0), np.arange(2, dtype=np.int32).reshape(1, 2, 1),
                         np.ones((1, 2, 1), np.float16),
                         np.array([[1 / 3, 1e-9], [1, 2]], np.float32))
    features = KeyframeFeatures((level,), np.zeros((1, 1, 0), np.float16))
    assert_same(cache.store('a', features), features)
    assert_same(FeatureCache(tmp_path, 100).load('a'), features)
