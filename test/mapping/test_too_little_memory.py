# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out while a keyframe is taken: what is done, said, and kept on the disk."""

import pytest
import torch
from test_resume import CONFIG as RESUMED
from test_resume import FRAMES, restored, run
from test_resume import mapper_on as any_mapper_on
from tiny_world import orbit, photograph

from lerf_ros.config import KeyframeConfig
from lerf_ros.errors import TrainingFailedError
from lerf_ros.frames.frame import Keyframe
from lerf_ros.mapping.keyframes import LearnedKeyframes
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training.language_targets import LanguageTargets
from lerf_ros.training.ray_batches import KeyframeStore

MORE = [photograph(T, stamp_ns=100 + i) for i, T in enumerate(orbit(3, start=0.4))]
CONFIG = RESUMED.override({'keyframes.holdout_every': 0})
NO_MEMORY = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nmore')


def mapper_on(folder):
    return any_mapper_on(folder, CONFIG)


def fails_when(monkeypatch, owner, name, condition):
    """Makes a method raise for as long as the condition holds for its owner and arguments."""
    real = getattr(owner, name)

    def method(self, *arguments):
        if condition(self, *arguments):
            raise NO_MEMORY
        return real(self, *arguments)

    monkeypatch.setattr(owner, name, method)


def test_the_memory_of_the_steps_is_tried_first(tmp_path, monkeypatch):
    mapper, calls = mapper_on(tmp_path), []
    fails_when(monkeypatch, KeyframeStore, '_write', lambda *_: calls.append(1) or len(calls) == 1)
    mapper.add_frame(MORE[0])
    assert len(calls) == 2 and len(mapper.learned) == len(FRAMES) + 1
    assert not mapper.learned.memory_fault and not mapper.learned.forgotten
    run(mapper, 2)


@pytest.mark.parametrize('owner, name', [(KeyframeStore, '_write'), (LanguageTargets, '_write')])
def test_then_keyframes_take_the_place_of_others_which_stay_on_the_disk(
        tmp_path, monkeypatch, owner, name):
    mapper = mapper_on(tmp_path)
    trained = mapper.trainer.radiance.store
    # Pixels or features of a row more than there are now do not fit.
    fails_when(monkeypatch, owner, name, lambda _, row, *rest: row >= len(FRAMES))
    for frame in MORE:
        mapper.add_frame(frame)
    assert len(mapper.learned) == len(FRAMES) and mapper.learned.forgotten == len(MORE)
    assert f'{len(FRAMES)} keyframes are trained on' in mapper.learned.memory_fault
    assert sorted(trained.rows.values()) == list(range(len(FRAMES)))
    assert set(trained.rows) == {known.index for known in mapper.learned}
    assert MapDirectory(tmp_path).keyframes.indices() == list(range(len(FRAMES) + len(MORE)))
    run(mapper, 2).snapshot()
    # The next process meets the same: it goes on as well, with the training as it was.
    again = restored(tmp_path, CONFIG)
    assert again.steps == 2 and len(again.learned) == len(FRAMES)
    run(again, 1)


def test_a_keyframe_that_fits_nowhere_ends_with_a_name(tmp_path, monkeypatch):
    mapper = mapper_on(tmp_path)
    fails_when(monkeypatch, KeyframeStore, '_write', lambda *_: True)
    with pytest.raises(TrainingFailedError, match=r'keyframe 6 does not fit into the memory of cpu'
                                                  r'.*Tried to allocate 2.00 GiB'):
        mapper.add_frame(MORE[0])
    assert MapDirectory(tmp_path).keyframes.indices() == list(range(len(FRAMES) + 1))


def test_other_errors_are_no_lack_of_memory(tmp_path, monkeypatch):
    mapper = mapper_on(tmp_path)

    def broken(*_):
        raise RuntimeError('a bug')

    monkeypatch.setattr(KeyframeStore, '_write', broken)
    with pytest.raises(RuntimeError, match='a bug'):
        mapper.add_frame(MORE[0])


def test_a_restart_with_less_memory_resumes_what_was_trained(tmp_path):
    run(mapper_on(tmp_path), 3).snapshot()
    # A megabyte holds none of them: from the next keyframe on each takes the place of another.
    again = restored(tmp_path, CONFIG.override({'keyframes.memory_megabytes': 1}))
    assert not again.restoring and again.steps == 3
    assert MapDirectory(tmp_path).keyframes.indices() == list(range(len(FRAMES)))
    run(again, 1)
    monster = photograph(orbit(1, start=0.7)[0], stamp_ns=999)
    again.learned._megabytes = 1e-3
    again.add_frame(monster)
    assert len(again.learned) == len(FRAMES) and again.learned.forgotten == 1


def test_a_gpu_sets_a_limit_of_its_own():
    # 60 % of 100 MB; ten keyframes of 5 MB take 50, and with one more 55, times 1.25 for growth.
    full, room = (LearnedKeyframes(KeyframeConfig(), megabytes) for megabytes in (100, 120))
    for learned in (full, room):
        for index in range(10):
            learned.add(Keyframe(index, FRAMES[index % 6]), False)
    newcomer = Keyframe(10, FRAMES[0])
    assert full.to_forget(newcomer, False, 50 * 2**20) is not None      # 68.75 > 60
    assert room.to_forget(newcomer, False, 50 * 2**20) is None          # 68.75 < 72
    # Nobody set that limit: what has to go for it stays on the disk.
    assert not full.deletes
    asked = LearnedKeyframes(KeyframeConfig(memory_megabytes=60))
    assert asked.deletes
    cpu = LearnedKeyframes(KeyframeConfig())
    cpu.add(Keyframe(0, FRAMES[0]), False)
    assert cpu.to_forget(newcomer, False, 2**40) is None


def test_what_goes_for_the_memory_of_a_gpu_stays_on_the_disk(tmp_path):
    mapper = mapper_on(tmp_path)
    mapper.learned._megabytes = 1e-3        # as if a GPU had next to nothing
    for frame in MORE:
        mapper.add_frame(frame)
    assert len(mapper.learned) == len(FRAMES) and mapper.learned.forgotten == len(MORE)
    assert MapDirectory(tmp_path).keyframes.indices() == list(range(len(FRAMES) + len(MORE)))
