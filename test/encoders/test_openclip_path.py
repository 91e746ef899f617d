# SPDX-License-Identifier: Apache-2.0
"""The whole of the real open_clip path: crops, pyramid, extraction, cache, training, query."""

from dataclasses import asdict

import numpy as np
import pytest
from openclip_checkpoint import SHARED, openclip_checkpoint
from test_end_to_end import SMALL

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory

PHOTOS = SHARED / 'data' / 'apple_banana'
FRACTIONS = (0.2, 0.35, 0.5)
OVERLAP = 0.25   # less than LERF's half: fewer crops
MAX_SIDE = 134   # a sixth of the photographs


@pytest.fixture(scope='module')
def openclip_config(tmp_path_factory):
    """Settings of features that name the checkpoint; no DINO, whose weights are not at hand."""
    return FeatureConfig(
        encoder='openclip', openclip_model=openclip_checkpoint(tmp_path_factory.mktemp('clip')),
        pyramid='fractions', fractions=FRACTIONS, overlap=OVERLAP, dense_model='')


@pytest.fixture(scope='module')
def openclip_encoder(openclip_config):
    return load_encoder(openclip_config)


@pytest.fixture(scope='module')
def frames():
    """Four photographs around the table, small."""
    if not PHOTOS.exists():
        pytest.skip(f'{PHOTOS} is not there')
    everything = load_folder(PHOTOS, max_side=MAX_SIDE).frames
    return [everything[i] for i in range(0, len(everything), max(len(everything) // 4, 1))][:4]


@pytest.fixture(scope='module')
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp('features')


@pytest.fixture(scope='module')
def features(openclip_encoder, openclip_config, frames, cache_folder):
    extractor = FeatureExtractor(openclip_encoder, openclip_config,
                                 FeatureCache(cache_folder, 100))
    return [extractor.extract(frame) for frame in frames]


def test_levels_are_parts_of_the_image_height(frames, features, openclip_encoder):
    for frame, found in zip(frames, features):
        height, width = frame.image.shape[:2]
        for level, fraction in zip(found.levels, FRACTIONS):
            side = int(height * fraction)
            stride = int(side * (1 - OVERLAP))
            assert level.width_px == side and level.stride_px == (stride, stride)
            shape = tuple((extent + side // 2 * 2 - side) // stride + 1
                          for extent in (height, width))
            assert level.shape == shape
            assert level.vocabulary.shape == (shape[0] * shape[1], openclip_encoder.dimension)
            np.testing.assert_allclose(np.linalg.norm(level.vocabulary, axis=1), 1, atol=2e-3)


def test_a_cell_is_the_embedding_of_what_lies_around_it(frames, features, openclip_encoder):
    """A crop cut out by hand, through PIL: the embedding of the cell at its middle."""
    level = features[0].levels[1]
    row, col = level.shape[0] // 2, level.shape[1] // 2
    x, y = level.cell_centers()[row, col]
    half = level.width_px / 2
    cut = frames[0].image[round(y - half):round(y + half), round(x - half):round(x + half)]
    assert cut.shape == (level.width_px, level.width_px, 3)
    expected = openclip_encoder.encode_images([cut])[0]
    assert level.cell_embeddings(np.array([row * level.shape[1] + col]))[0] @ expected > 0.99


def test_the_fruit_is_nearer_to_its_names_than_to_others(features, openclip_encoder):
    """Over all frames and levels; the photographs show an apple and a banana."""
    texts = [f'a photo of a {name}' for name in ('banana', 'apple', 'laptop', 'car')]
    rows = np.concatenate([level.vocabulary for found in features for level in found.levels])
    banana, apple, laptop, car = (rows @ openclip_encoder.encode_texts(texts).T).max(0)
    assert min(banana, apple) > max(laptop, car)


def test_the_second_extraction_reads_the_cache(frames, features, openclip_config, cache_folder,
                                               openclip_encoder, monkeypatch):
    monkeypatch.setattr(openclip_encoder, 'encode_squares', None)
    extractor = FeatureExtractor(openclip_encoder, openclip_config,
                                 FeatureCache(cache_folder, 100))
    for frame, fresh in zip(frames, features):
        for level, expected in zip(extractor.extract(frame).levels, fresh.levels):
            np.testing.assert_array_equal(level.vocabulary, expected.vocabulary)


def test_a_map_of_the_photographs_knows_what_they_show(frames, features, openclip_config,
                                                       openclip_encoder, cache_folder, tmp_path):
    """Trained on the crops, asked through a text tower that is loaded again from its checkpoint."""
    config = SMALL.override({
        'features': asdict(openclip_config), 'scene.keyframes': len(frames),
        'keyframes.holdout_every': 0, 'training.newest_fraction': 0.0, 'index.min_keyframes': 1,
        'index.rank': 96})
    mapper = Mapper(config, MapDirectory(tmp_path), openclip_encoder, 'map', False,
                    FeatureCache(cache_folder, 100))
    for frame in frames:
        mapper.add_frame(frame)
    for _ in range(250):
        mapper.guard.step()
    mapper.snapshot()
    query = MapQuery(tmp_path)
    assert query.refresh()
    best = {text: float(query.answer(f'a photo of a {text}').relevancy.max())
            for text in ('banana', 'laptop', 'bicycle')}
    assert best['banana'] > max(best['laptop'], best['bicycle']), best
    assert query.info['encoder'] == openclip_encoder.identity()
