# SPDX-License-Identifier: Apache-2.0
"""Training that runs out of memory takes smaller steps; training that is spoiled goes back."""

import pytest
import torch
from test_resume import CONFIG, FRAMES, mapper_on, parameters

from lerf_ros.errors import TrainingFailedError
from lerf_ros.training import step_guard
from lerf_ros.training.step_guard import StepGuard


@pytest.fixture
def guard(tmp_path):
    return StepGuard(mapper_on(tmp_path, frames=FRAMES[:4]).trainer)


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nmore')


def test_out_of_memory_halves_the_step_and_says_so(guard, monkeypatch):
    assert guard.step().rays <= CONFIG.training.rays == 256
    with monkeypatch.context() as patched:
        patched.setattr(step_guard, 'training_step', out_of_memory)
        assert guard.step() is None and guard.step() is None
    assert guard.trainer.radiance.rays == 64
    assert 'a step takes 64 rays from now on (training.rays is 256)' in guard.message
    report = guard.step()
    assert report.rays <= 64 and guard.trainer.radiance.steps == 2


def test_memory_for_nothing_ends_with_a_name(guard, monkeypatch):
    monkeypatch.setattr(step_guard, 'training_step', out_of_memory)
    for rays in (128, 64, 32, 16):
        assert guard.step() is None and guard.trainer.radiance.rays == rays
    with pytest.raises(TrainingFailedError, match='16 rays does not fit into the memory of cpu'):
        guard.step()


def spoil(guard):
    with torch.no_grad():
        for parameter in guard.trainer.radiance.field.parameters():
            parameter.fill_(float('nan'))


def test_a_spoiled_field_goes_back_to_the_last_good_state(guard):
    for _ in range(3):
        guard.step()
    assert guard.remember()
    good = parameters_of(guard)
    guard.step()
    spoil(guard)
    for _ in range(step_guard.BAD_STEPS):
        assert guard.step() is None
    assert all(torch.equal(a, b) for a, b in zip(parameters_of(guard), good, strict=True))
    assert guard.trainer.radiance.steps == 3 and 'training went back to step 3' in guard.message
    assert guard.step() is not None and guard.healthy()


def parameters_of(guard):
    modules = (guard.trainer.radiance.field, guard.trainer.language.field)
    return [p.detach().clone() for module in modules for p in module.parameters()]


def test_a_spoiled_state_is_never_taken_for_good(guard):
    guard.step()
    spoil(guard)
    assert not guard.remember()
    assert guard.healthy() and guard.trainer.radiance.steps == 0


def test_one_bad_batch_moves_nothing_and_changes_nothing(guard, monkeypatch):
    guard.step()
    before, steps = parameters_of(guard), guard.trainer.radiance.steps
    with monkeypatch.context() as patched:
        report = type(guard.step())(float('nan'), 0.0, 9)
        patched.setattr(step_guard, 'training_step', lambda *_: report)
        assert guard.step() is None
    assert not guard.message and guard.trainer.radiance.steps == steps + 1 and len(before)
    assert guard.step() is not None and guard._bad_steps == 0


def test_what_is_spoiled_again_and_again_ends_with_a_name(guard, monkeypatch):
    guard.step()
    with pytest.raises(TrainingFailedError, match='after 5 rollbacks'):
        for _ in range(step_guard.ROLLBACKS + 1):
            spoil(guard)
            for _ in range(step_guard.BAD_STEPS):
                guard.step()


def test_keyframes_that_came_after_the_good_state_stay(tmp_path):
    mapper = mapper_on(tmp_path, frames=FRAMES[:4])
    mapper.guard.step()
    mapper.guard.remember()
    mapper.add_frame(FRAMES[4])
    spoil(mapper.guard)
    for _ in range(step_guard.BAD_STEPS):
        mapper.guard.step()
    assert mapper.trainer.radiance.steps == 1 and len(mapper.trainer.radiance.store) == 5
    assert mapper.trainer.radiance.field.appearance.count == 5
    assert mapper.guard.step() is not None
    assert all(torch.isfinite(p).all() for p in parameters(mapper))
