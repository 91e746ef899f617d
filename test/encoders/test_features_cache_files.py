# SPDX-License-Identifier: Apache-2.0
"""The files of the feature cache: damage, limits, full disks, several writers."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

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
from lerf_ros.encoders import cache as cache_module
from lerf_ros.encoders.cache import DamagedFileError, FeatureCache, read_file, write_file
from lerf_ros.encoders.extractor import FeatureExtractor


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
    begun = tmp_path / f'keyframe_{"a" * 64}.writing0.part'   # another process is writing it
    left_over = tmp_path / f'keyframe_{"b" * 64}.writing1.part'
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
    for seed in range(2):
        extractor.extract(frame(seed), WIDTHS, DEPTH)
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
