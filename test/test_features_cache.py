# SPDX-License-Identifier: Apache-2.0
"""Features that were computed before come from the disk, and never the wrong ones."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from lerf_ros.camera import PinholeCamera
from lerf_ros.config import FeatureConfig
from lerf_ros.features import cache as cache_module
from lerf_ros.features.cache import FeatureCache
from lerf_ros.features.embedding_map import EmbeddingMap
from lerf_ros.features.extractor import FeatureExtractor
from lerf_ros.features.feature_file import DamagedFileError, read_file, write_file
from lerf_ros.features.keyframe_features import KeyframeFeatures
from lerf_ros.keyframes.frame import Frame

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


@pytest.mark.parametrize('kind', ['keyframe', 'vocabulary'])
@pytest.mark.parametrize('damage', ['empty', 'text', 'cut', 'one bit', 'foreign'])
def test_a_damaged_file_is_named_removed_and_made_again(tmp_path, caplog, kind, damage):
    fresh = extract(Dense(), tmp_path)
    path = next(tmp_path.glob(f'{kind}_*'))
    whole = path.read_bytes()
    if damage == 'foreign':
        write_file(path, {'something': np.zeros(3)})
    else:
        path.write_bytes({'empty': b'', 'text': b'not a tensor file', 'cut': whole[:-10],
                          'one bit': whole[:-1] + bytes([whole[-1] ^ 1])}[damage])
    encoder = Dense()
    assert_same(extract(encoder, tmp_path), fresh)
    assert encoder.runs > 0 and str(path) in caplog.text and 'damaged' in caplog.text
    assert path.read_bytes() == whole
    again = Dense()
    extract(again, tmp_path)
    assert again.runs == 0


def test_the_oldest_go_first_when_the_folder_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, 'MEGABYTE', 1)   # the limit below is in bytes
    for seed in range(3):
        extract(Dense(), tmp_path, frame(seed), megabytes=10**9)
    paths = keyframe_files(tmp_path)
    newest_first = [extracted_path(tmp_path, seed) for seed in (1, 0, 2)]
    now = 10**9
    for age, path in enumerate(newest_first):
        os.utime(path, (now - age, now - age))
    limit = sum(path.stat().st_size for path in tmp_path.iterdir())
    extract(Dense(), tmp_path, frame(3), megabytes=limit)   # one more: frame 2 goes
    left = keyframe_files(tmp_path)
    assert len(left) == 3 and newest_first[2] not in left
    assert set(paths) - {newest_first[2]} < set(left)
    assert len(list(tmp_path.glob('vocabulary_*'))) == 1   # used by all, so never the oldest


def extracted_path(folder, seed):
    """The file of a frame: the only one that a look at it touches."""
    for path in keyframe_files(folder):
        os.utime(path, (1, 1))
    encoder = Dense()
    extract(encoder, folder, frame(seed))
    assert encoder.runs == 0
    return max(keyframe_files(folder), key=lambda path: path.stat().st_mtime)


def test_only_its_own_files_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, 'MEGABYTE', 1)
    (tmp_path / 'my_notes.txt').write_text('x' * 1000)
    begun = tmp_path / 'keyframe_abcxyz.part'   # another process is writing it
    left_over = tmp_path / 'keyframe_defuvw.part'
    for path in (begun, left_over):
        path.write_bytes(b'x' * 1000)
    os.utime(left_over, (1, 1))
    extract(Dense(), tmp_path, megabytes=10)   # less than a single file
    assert sorted(path.name for path in tmp_path.iterdir()) == [begun.name, 'my_notes.txt']


def test_a_limit_of_zero_switches_it_off(tmp_path):
    for _ in range(2):
        encoder = Dense()
        extract(encoder, tmp_path / 'features', megabytes=0)
        assert encoder.runs > 0
    assert not (tmp_path / 'features').exists()


def test_a_full_disk_is_one_warning(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.replace', full)
    encoder = Dense()
    extractor = FeatureExtractor(encoder, FeatureConfig(), FeatureCache(tmp_path, 100))
    for _ in range(2):
        extractor.extract(frame(), WIDTHS, DEPTH)
    assert encoder.runs == 4
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'No space left' in caplog.text and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path, caplog):
    (tmp_path / 'file').write_text('')
    encoder = Dense()
    extract(encoder, tmp_path / 'file' / 'below')
    assert encoder.runs > 0 and 'cannot be used' in caplog.text


def test_another_process_may_remove_files_at_any_time(tmp_path):
    cache = FeatureCache(tmp_path, 100)
    extractor = FeatureExtractor(Dense(), FeatureConfig(), cache)
    fresh = extractor.extract(frame(), WIDTHS, DEPTH)
    next(tmp_path.glob('vocabulary_*')).unlink()
    encoder = Dense()
    assert_same(extract(encoder, tmp_path), fresh)   # a vocabulary alone is missing: made again
    assert encoder.runs > 0 and len(list(tmp_path.glob('vocabulary_*'))) == 1


def test_files_are_checked_as_a_whole(tmp_path):
    path = tmp_path / 'some.safetensors'
    write_file(path, {'a': np.arange(3)}, {'note': 'x'})
    arrays, metadata = read_file(path)
    np.testing.assert_array_equal(arrays['a'], [0, 1, 2])
    assert metadata['note'] == 'x'
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"a"', b'"b"'))
    with pytest.raises(DamagedFileError):
        read_file(path)


def test_levels_may_mix_shared_and_own_vocabularies(tmp_path):
    shared = extract(Dense(), tmp_path)
    own = extract(Crops(), tmp_path)
    mixed = replace(shared, levels=(*shared.levels, *own.levels))
    cache = FeatureCache(tmp_path, 100)
    cache.store('mixed', mixed)
    assert_same(cache.load('mixed'), mixed)


def test_several_writers_share_a_folder(tmp_path, caplog):
    """Caches that know nothing of each other, in a folder too small for all of their files."""
    expected = [FeatureExtractor(Dense(), FeatureConfig()).extract(frame(seed), WIDTHS, DEPTH)
                for seed in range(4)]

    def work(worker):
        extractor = FeatureExtractor(Dense(), FeatureConfig(), FeatureCache(tmp_path, 1))
        extractor._cache._limit = 14000   # not all four keyframes
        for i in range(40):
            seed = (i + worker) % 4
            assert_same(extractor.extract(frame(seed), WIDTHS, DEPTH), expected[seed])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert 'damaged' not in caplog.text
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert 0 < sum(sizes.values()) <= 14000 and not any(name.endswith('.part') for name in sizes)
