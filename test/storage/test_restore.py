# SPDX-License-Identifier: Apache-2.0
"""A mapper that was killed goes on: the same keyframes, the training of the last checkpoint."""

import errno

import numpy as np
import pytest
import torch
from test_resume import CONFIG, FRAMES, assert_same, mapper_on, parameters, restored, run
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros.errors import ConfigError, EncoderMismatchError, StorageError
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory


def test_a_restored_training_equals_one_that_never_stopped(tmp_path):
    straight = run(mapper_on(tmp_path / 'straight'), 30)
    run(mapper_on(tmp_path / 'killed'), 18).checkpoint()
    mapper = restored(tmp_path / 'killed')
    assert (mapper.steps, len(mapper.learned), mapper.ready) == (18, 6, True)
    assert_same(run(mapper, 12), straight)


def test_keyframes_that_came_after_the_checkpoint_are_learned_too(tmp_path):
    mapper = run(mapper_on(tmp_path, frames=FRAMES[:5]), 6)
    mapper.checkpoint()
    before = parameters(mapper)
    mapper.add_frame(FRAMES[5])
    again = Mapper(CONFIG, MapDirectory(tmp_path, True), ColorEncoder(), 'map', True)
    again.restore()
    assert (len(again.waiting), again.steps, again.ready) == (6, 6, False)
    for _ in range(5):
        again.learn_next()
    assert again.ready and all(torch.equal(a, b) for a, b in
                               zip(parameters(again), before, strict=True))
    assert again.learn_next() and not again.learn_next()
    assert again.trainer.radiance.annealing.starts.rows.tolist()[-1] in (0, 6)
    run(again, 2).checkpoint()
    assert restored(tmp_path).steps == 8
    again.add_frame(photograph(orbit(1, start=0.3)[0]))
    assert MapDirectory(tmp_path).keyframes.indices() == list(range(7))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    mapper = run(mapper_on(tmp_path), 4)
    mapper.checkpoint()
    run(mapper, 4).checkpoint()
    newest = max((tmp_path / 'checkpoints').iterdir()) / 'training.safetensors'
    newest.write_bytes(newest.read_bytes()[:-1])
    assert restored(tmp_path).steps == 4
    assert 'is damaged' in caplog.text


def test_a_damaged_keyframe_is_left_out_and_the_others_keep_what_they_learned(tmp_path, caplog):
    mapper = run(mapper_on(tmp_path), 4)
    mapper.checkpoint()
    poses = mapper.trainer.radiance.poses.table[:6].detach().clone()
    image = tmp_path / 'images' / '000002.png'
    image.write_bytes(image.read_bytes()[:100])
    again = restored(tmp_path)
    assert 'keyframe 2 is left out' in caplog.text
    assert [v.index for v in again.learned] == [0, 1, 3, 4, 5] and again.steps == 4
    kept = again.trainer.radiance.poses.table[:5]
    assert torch.equal(kept, poses[[0, 1, 3, 4, 5]])
    run(again, 2)


def test_too_few_keyframes_wait_for_the_next_ones(tmp_path):
    mapper_on(tmp_path, frames=FRAMES[:2])
    again = restored(tmp_path)
    assert not again.ready and len(again.waiting) == 2
    for frame in FRAMES[2:4]:
        again.add_frame(frame)
    assert again.ready and len(again.learned) == 4


def test_an_empty_directory_is_a_new_map(tmp_path):
    assert restored(tmp_path / 'new').waiting.next_index == 0


@pytest.mark.parametrize(('other', 'error', 'words'), [
    ({'config': CONFIG.override({'training.rays': 128})}, ConfigError, 'training.rays'),
    ({'frame_id': 'odom'}, ConfigError, "map_frame = 'map', the mapper 'odom'")])
def test_a_map_of_other_settings_is_refused(tmp_path, other, error, words):
    run(mapper_on(tmp_path), 1)
    with pytest.raises(error, match=words):
        restored(tmp_path, **other)


def test_a_map_of_another_encoder_is_refused(tmp_path):
    run(mapper_on(tmp_path), 1)
    other = ColorEncoder()
    other.identity = lambda: {'name': 'other'}
    with pytest.raises(EncoderMismatchError, match='other'):
        restored(tmp_path, encoder=other)


def test_storing_does_not_grow_with_the_map(tmp_path, monkeypatch):
    """The bytes written for the 40th keyframe are those of the first one but for digits."""
    import lerf_ros.storage.durable as durable
    written = []
    replace = durable.os.replace
    monkeypatch.setattr(durable.os, 'replace', lambda a, b: (
        written.append(a.stat().st_size), replace(a, b)))
    mapper = Mapper(CONFIG, MapDirectory(tmp_path, True), ColorEncoder(), 'map', True)
    sizes = []
    for _ in range(40):
        written.clear()
        mapper.store(FRAMES[0])
        sizes.append(sum(written[-3:]))     # image, depth, record
    assert max(sizes[1:]) - min(sizes[1:]) < 10


def test_a_full_disk_goes_on_mapping_and_stores_later(tmp_path, monkeypatch):
    mapper = run(mapper_on(tmp_path, frames=FRAMES[:4]), 2)
    mapper.snapshot()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr('lerf_ros.storage.keyframe_files.prepare', full)
        for module in ('keyframe_files', 'snapshots'):
            patched.setattr(f'lerf_ros.storage.{module}.write_json', full)
        mapper.add_frame(FRAMES[4])
        assert 'No space left' in mapper.waiting.fault
        assert len(mapper.learned) == 5
        assert MapDirectory(tmp_path).keyframes.indices() == [0, 1, 2, 3]
        run(mapper, 1)
        for write in (mapper.snapshot, mapper.checkpoint):
            with pytest.raises(StorageError, match='No space left'):
                write()
        assert MapDirectory(tmp_path).newest().number == 1
    assert mapper.waiting.store_again() and not mapper.waiting.fault
    assert MapDirectory(tmp_path).keyframes.indices() == [0, 1, 2, 3, 4]
    assert mapper.snapshot() == 2
    assert not list((tmp_path / 'snapshots').glob('.*'))


def test_what_is_stored_is_a_nerfstudio_folder_at_every_snapshot(tmp_path):
    run(mapper_on(tmp_path), 1).snapshot()
    frames = load_folder(tmp_path).frames
    assert len(frames) == 6
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, FRAMES, strict=True))
    assert all(np.abs(a.depth_m - b.depth_m).max() <= 0.00051
               for a, b in zip(frames, FRAMES, strict=True))
