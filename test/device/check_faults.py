# SPDX-License-Identifier: Apache-2.0
"""Faults that only a GPU shows are found on the stand-in. Run by test_stand_in.py."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from check_life import FRAMES, GRAPHS, MIXED, NEEDS_CUDA, TINY
from stand_in import DEVICE
from test_resume import restored
from tiny_world import ColorEncoder
from torch import Tensor
from traffic import TRAFFIC

from lerf_ros.field import radiance_field
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.index import language_index
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training import optimizers
from lerf_ros.training.captured_step import WARM_STEPS
from lerf_ros.training.pose_refinement import PoseRefinement

TWO_DEVICES = f'at least two devices, {re.escape(str(DEVICE))} and cpu'


def trained(folder: Path, **settings: object) -> Mapper:
    """Returns a mapper on the device that has taken a step."""
    config = TINY.override({**MIXED, **settings})
    mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    for frame in FRAMES[:5]:
        mapper.add_frame(frame)
    mapper.guard.step()
    return mapper


def test_tensors_of_two_devices_do_not_meet() -> None:
    ours, hosts = torch.ones(2, 3, device=DEVICE), torch.ones(2, 3)
    for meet in (lambda: ours + hosts, lambda: torch.cat([ours, hosts]), lambda: ours.add_(hosts),
                 lambda: hosts.add_(ours), lambda: torch.where(hosts > 0, ours, ours)):
        with pytest.raises(RuntimeError, match=TWO_DEVICES):
            meet()
    with pytest.raises(RuntimeError, match='indices should be either on cpu or on the same device'):
        hosts[torch.tensor([0], device=DEVICE)]
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        ours[torch.tensor([0], device=DEVICE)] = hosts[:1]


def test_what_a_gpu_allows_is_allowed() -> None:
    ours = torch.ones(2, 3, device=DEVICE)
    assert (ours * torch.tensor(2.0)).sum().item() == 12.0      # a number may come from the host
    assert ours[torch.tensor([1])].shape == (1, 3)              # and so may indices
    ours[0] = torch.zeros(3)                                    # which is a copy
    assert ours.cpu().tolist() == [[0.0] * 3, [1.0] * 3]


def test_launches_copies_and_waits_are_counted() -> None:
    ours = torch.ones(2, 3, device=DEVICE)
    with TRAFFIC.counted():
        kept = ours[ours > 0]           # compares, looks up; waits to know how many
        kept[:2].exp_().sum().item()    # a view is free; two launches, and a wait
        torch.zeros(3).to(DEVICE)       # a copy, and a wait
    assert TRAFFIC.totals(1) == {'launches': 4, 'copies': 1, 'waits': 3}


def test_a_tensor_of_the_host_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapper = trained(tmp_path)
    monkeypatch.setattr(radiance_field, 'jitter', lambda rays, samples, single, device: torch.rand(
        rays, 1 if single else samples) - 0.5)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        mapper.guard.step()


def test_numpy_of_a_device_tensor_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def field_arrays(radiance: RadianceField, language: LanguageField) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in radiance.state_dict().items()}

    mapper = trained(tmp_path)
    monkeypatch.setattr('lerf_ros.mapper.field_arrays', field_arrays)
    with pytest.raises(TypeError, match='to numpy'):
        mapper.checkpoint()


def test_a_basis_made_on_the_host_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compression_basis(surface: object, language: LanguageField, *_: object) -> Tensor:
        return torch.eye(language.embedding_dimension)[:, :9]

    mapper = trained(tmp_path, **{'index.min_accumulation': 1.0})
    monkeypatch.setattr(language_index, 'compression_basis', compression_basis)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        mapper.snapshot()


@NEEDS_CUDA
def test_updating_a_fresh_scaler_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = optimizers.Descent.load_state

    def load_state(descent: optimizers.Descent, state: dict[str, Tensor]) -> None:
        scale = state.pop('scale')
        stored(descent, state)
        descent.scaler.update(float(scale))

    trained(tmp_path).snapshot()
    monkeypatch.setattr(optimizers.Descent, 'load_state', load_state)
    with pytest.raises(AssertionError, match='_scale is None'):
        restored(tmp_path, TINY.override(MIXED))


@NEEDS_CUDA
def test_a_step_that_reads_back_is_not_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                caplog: pytest.LogCaptureFixture) -> None:
    def penalty(poses: PoseRefinement) -> Tensor:
        assert float(poses.table.detach().abs().max()) < 1.0
        return poses.table.square().sum()

    mapper = trained(tmp_path, **GRAPHS, **{'poses.refine': True})
    monkeypatch.setattr(PoseRefinement, 'penalty', penalty)
    for _ in range(WARM_STEPS):
        assert mapper.guard.step() is not None
    assert not mapper.guard.captured.graphs
    assert 'cannot be captured' in caplog.text
