# SPDX-License-Identifier: Apache-2.0
"""A keyframe that takes the place of another one: nothing of the old one is left."""

import numpy as np
import pytest
import torch
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training.language_targets import LanguageTargets
from lerf_ros.training.ray_batches import KeyframeStore

CPU, SCENE = torch.device('cpu'), SceneFrame((0.0, 0.0, 0.0), 2.0)


def random_frame(seed, width=8, height=6):
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, 3] = rng.normal(size=3)
    return Frame(seed, rng.integers(0, 255, (height, width, 3), np.uint8),
                 PinholeCamera(width, height, 9.0 + seed, 9.0, width / 2, height / 2), T,
                 rng.uniform(1, 3, (height, width)).astype(np.float32),
                 rng.random((height, width)) > 0.3)


def store_of(frames):
    store = KeyframeStore(SCENE, CPU)
    for index, frame in enumerate(frames):
        store.add(Keyframe(index, frame))
    return store


def replace(store, row, frame):
    """Puts a new keyframe in the place of the one in a row."""
    old = store.indices()[row]
    assert store.add(Keyframe(max(store.rows) + 1, frame), old) == row


def contents(store):
    """All usable pixels of all rows."""
    return [store.grid_of(row, 10**6) for row in range(len(store))]


def test_a_store_after_replacements_is_that_of_the_last_keyframes():
    """Twelve replacements in three rows, most of another size, so that places are moved."""
    frames = [random_frame(seed) for seed in range(3)]
    store = store_of(frames)
    for seed in range(3, 15):
        frames[seed % 3] = random_frame(seed, 4 + seed % 5)
        replace(store, seed % 3, frames[seed % 3])
    for a, b in zip(contents(store), contents(store_of(frames)), strict=True):
        for name in ('colors', 'pixels', 'focal_px', 'size_px'):
            assert torch.equal(getattr(a, name), getattr(b, name))
        for name in ('origins', 'directions', 'depth'):
            assert torch.equal(getattr(a.rays, name), getattr(b.rays, name))


def test_replacing_does_not_grow_the_store():
    store = store_of(random_frame(seed) for seed in range(4))
    before = store.bytes_used()
    for seed in range(40):
        replace(store, seed % 4, random_frame(seed, 6 + seed % 3))
        assert store.bytes_used() <= 2 * before


def test_the_rays_of_a_camera_that_focuses_go_with_its_keyframes():
    """Each image has other intrinsics: as many tables as keyframes, however many came."""
    store = store_of(random_frame(seed) for seed in range(4))
    before = store.bytes_used()
    for seed in range(4, 100):
        replace(store, seed % 4, random_frame(seed))
    assert store.bytes_used() == before and len(store._camera_start) == 4
    assert len(store._directions) == 4 * 8 * 6


def test_the_rays_of_a_camera_stay_while_one_keyframe_has_it():
    same = random_frame(0)
    store = store_of([same, same, random_frame(1)])
    replace(store, 0, random_frame(2))
    replace(store, 2, same)
    for row, frame in ((0, random_frame(2)), (1, same), (2, same)):
        expected = store_of([frame]).grid_of(0, 10**6).rays.directions
        assert torch.equal(store.grid_of(row, 10**6).rays.directions, expected)


def test_the_newest_keyframes_are_drawn_by_arrival():
    store = store_of(random_frame(seed) for seed in range(4))
    replace(store, 1, random_frame(9))
    batch = store.draw(400, 1.0, 1, torch.Generator().manual_seed(0))
    assert set(batch.keyframe.tolist()) == {1}


def random_features(seed, vocabulary=None):
    rng = np.random.default_rng(seed)
    levels = []
    for width in (3.0, 5.0)[:1 + seed % 2]:
        words = vocabulary if vocabulary is not None else rng.normal(size=(6, 4)).astype(np.float32)
        shape = (2 + seed % 3, 3, 2)
        levels.append(EmbeddingMap(width, (1.0, 1.0), (2.0, 2.0),
                                   rng.integers(0, len(words), shape).astype(np.int32),
                                   rng.uniform(.1, 1, shape).astype(np.float16), words))
    return KeyframeFeatures(tuple(levels), rng.normal(size=(2, 2 + seed % 2, 3)).astype(np.float32))


@pytest.mark.parametrize('shared', [True, False])
def test_targets_after_replacements_are_those_of_the_last_keyframes(shared):
    words = np.random.default_rng(5).normal(size=(7, 4)).astype(np.float32) if shared else None
    kept = [random_features(seed, words) for seed in range(3)]
    targets = LanguageTargets(CPU)
    for row, features in enumerate(kept):
        targets.put(row, features)
    for seed in range(3, 20):
        kept[seed % 3] = random_features(seed, words)
        targets.put(seed % 3, kept[seed % 3])
    fresh = LanguageTargets(CPU)
    for row, features in enumerate(kept):
        fresh.put(row, features)
    rows = torch.arange(3).repeat(20)
    pixels, size = torch.rand(60, 2) * 6, torch.full((60, 2), 6.0)
    for a, b in zip(*(t.embeddings(rows, pixels, torch.Generator().manual_seed(0))
                      for t in (targets, fresh)), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(targets.dense(rows, pixels, size), fresh.dense(rows, pixels, size))
    assert targets.bytes_used() <= 2.5 * fresh.bytes_used()


@pytest.mark.parametrize('shared', [True, False])
def test_features_of_the_same_size_take_the_very_place_of_others(shared):
    words = np.random.default_rng(5).normal(size=(7, 4)).astype(np.float32) if shared else None
    targets, fresh = LanguageTargets(CPU), LanguageTargets(CPU)
    for row in range(3):
        targets.put(row, random_features(row, words))
    buffers = [table._buffer.data_ptr() for table in targets._tables.values()]
    replaced = [random_features(row + 6 * (row + 1), words) for row in range(3)]
    for row, features in enumerate(replaced):
        targets.put(row, features)
        fresh.put(row, features)
    # A table that grows for a moment has another buffer.
    assert [table._buffer.data_ptr() for table in targets._tables.values()] == buffers
    assert targets._wasted == 0
    rows, pixels, size = torch.arange(3).repeat(20), torch.rand(60, 2) * 6, torch.full((60, 2), 6.0)
    for a, b in zip(*(t.embeddings(rows, pixels, torch.Generator().manual_seed(0))
                      for t in (targets, fresh)), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(targets.dense(rows, pixels, size), fresh.dense(rows, pixels, size))


def mapper_of(folder, frames, **settings):
    config = SMALL.override({f'keyframes.{name}': value for name, value in settings.items()})
    mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    for frame in frames:
        mapper.add_frame(frame)
    return mapper


def test_beyond_the_budget_the_most_redundant_keyframe_is_forgotten(tmp_path):
    """Twelve views around the world, then one beside the third: the third goes, not the oldest."""
    poses = orbit(12)
    beside = poses[2].copy()
    beside[:3, 3] += 0.01
    frames = [photograph(T, stamp_ns=i) for i, T in enumerate([*poses, beside])]
    mapper = mapper_of(tmp_path, frames, max_count=12, holdout_every=0)
    assert len(mapper.learned) == 12 and mapper.learned.forgotten == 1
    assert sorted(view.index for view in mapper.learned) == [0, 1, *range(3, 13)]
    assert len(mapper.trainer.radiance.store) == 12
    stored = sorted(path.name for path in (tmp_path / 'images').iterdir())
    assert '000002.png' not in stored and len(stored) == 12
    mapper.guard.step()


def test_held_out_keyframes_are_forgotten_for_held_out_ones(tmp_path):
    frames = [photograph(T, stamp_ns=i) for i, T in enumerate(orbit(24))]
    mapper = mapper_of(tmp_path, frames, max_count=8, holdout_every=4)
    assert len(mapper.learned) == 8 and mapper.learned.forgotten == 16
    assert sum(view.held_out for view in mapper.learned) == len(mapper.held_out) == 2
    # Evenly spread views are left, the newest among them.
    assert {20, 21, 22, 23} <= {view.index for view in mapper.learned}


def test_the_memory_budget_is_honoured(tmp_path):
    frames = [photograph(T, stamp_ns=i) for i, T in enumerate(orbit(40))]
    mapper = mapper_of(tmp_path, frames, memory_megabytes=1)
    assert mapper.bytes_used() <= 2**20 and mapper.learned.forgotten > 5
