# SPDX-License-Identifier: Apache-2.0
"""The whole life of a map on a device, in variants of the method. Run by test_stand_in.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stand_in import DEVICE, StandInTensor
from test_end_to_end import SMALL
from test_resume import parameters, restored
from tiny_world import ColorEncoder, orbit, photograph

import lerf_ros.map_query
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.reindex import reindex
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training.captured_step import WARM_STEPS
from lerf_ros.training.step_guard import BAD_STEPS

# As little as has all parts: a step is a thousand operations, each of them Python's here.
TINY = SMALL.override({
    'training.device': DEVICE.type, 'training.cuda_graphs': False, 'training.rays': 64,
    'training.language_rays': 32, 'field.levels': 3, 'field.log2_table': 10, 'field.samples': 8,
    'field.proposal_samples': [12], 'field.proposal_levels': 2, 'field.proposal_log2_table': 10,
    'language.levels': [2], 'language.log2_table': 10, 'index.rays': 1500,
    'index.min_accumulation': 0.0, 'index.depth_tolerance': 1.0, 'keyframes.holdout_every': 5})
GRAPHS = {'training.cuda_graphs': True}
MIXED = {'training.mixed_precision': True, 'field.appearance': 4}
VARIANTS: dict[str, dict[str, object]] = {
    'single precision': {},
    'mixed precision': MIXED,
    'CUDA graphs, poses refined': {**MIXED, **GRAPHS, 'poses.refine': True},
    'as LERF was released': {
        **MIXED, 'poses.refine': True, 'training.optimizer': 'radam',
        'training.language_optimizer': 'radam', 'training.embedding_loss': 'huber',
        'training.language_average_steps': 1, 'training.depth_weight': 0.0,
        'field.proposal_samples': [16, 12], 'field.proposal_resolutions': [64, 128],
        'field.background': 'last_sample', 'language.contraction': 'euclidean',
        'language.scale_rule': 'reference', 'language.scale_input': 'raw',
        'language.levels': [2, 2], 'language.base_resolutions': [8, 32],
        'language.max_resolutions': [32, 64], 'features.pyramid': 'fractions'},
    'nothing opaque': {'index.min_accumulation': 1.0}}
NEEDS_CUDA = pytest.mark.skipif(
    DEVICE.type != 'cuda', reason='this torch has no CUDA: neither half precision nor graphs')
FRAMES = [photograph(T, stamp_ns=index) for index, T in enumerate(orbit(6))]


def take_steps(mapper: Mapper, count: int) -> None:
    """Trains, and asserts that each step is a good one."""
    for _ in range(count):
        report = mapper.guard.step()
        assert report is not None and np.isfinite(report.loss), mapper.guard.message


def spoil(mapper: Mapper) -> None:
    """Makes the radiance field useless and takes steps until training has gone back."""
    with torch.no_grad():
        for parameter in mapper.trainer.radiance.field.parameters():
            parameter.fill_(float('nan'))
    for _ in range(BAD_STEPS + 1):      # a replayed step tells of the one before it
        if not mapper.guard.message:
            mapper.guard.step()


@pytest.mark.parametrize('variant', [
    name if 'graphs' not in name else pytest.param(name, marks=NEEDS_CUDA) for name in VARIANTS])
def test_a_map_lives_on_the_device(variant: str, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: ColorEncoder())
    config = TINY.override(VARIANTS[variant])
    opaque = 'index.min_accumulation' not in VARIANTS[variant]
    mapper = Mapper(config, MapDirectory(tmp_path, True), ColorEncoder(), 'map', True)
    for frame in FRAMES:
        mapper.add_frame(frame)
    first = WARM_STEPS + 2 if config.training.cuda_graphs else 3
    take_steps(mapper, first)
    assert bool(mapper.guard.captured.graphs) == config.training.cuda_graphs
    assert all(isinstance(p, StandInTensor) for p in parameters(mapper))
    assert mapper.snapshot() == 1 and (mapper.points > 0) == opaque
    take_steps(mapper, 2)
    moved = FRAMES[0].T_world_camera.copy()
    moved[:3, 3] += 0.002
    assert mapper.move_keyframes({0: moved}) == 1
    assert mapper.guard.remember()
    mapper.checkpoint()
    spoil(mapper)
    assert f'training went back to step {first + 2}' in mapper.guard.message
    take_steps(mapper, 2)
    assert mapper.snapshot() == 2

    again = restored(tmp_path, config)
    assert again.steps == mapper.steps == first + 4
    for ours, stored in zip(parameters(again), parameters(mapper), strict=True):
        assert torch.equal(ours.cpu(), stored.cpu())
    assert scales(again) == scales(mapper)
    take_steps(again, 2)

    # The search for any device but a GPU runs in threads, which no other stand-in reaches.
    query = MapQuery(tmp_path, device=DEVICE.type if DEVICE.type == 'cuda' else 'cpu')
    assert query.refresh()
    assert (len(query.answer('red').points_world) > 0) == opaque
    assert reindex(tmp_path) == 3


def scales(mapper: Mapper) -> list[float]:
    """The factors by which losses are multiplied, 1 in single precision."""
    trainer = mapper.trainer
    return [descent.scaler.get_scale()
            for descent in (trainer.radiance.descent, trainer.language.descent)]


@NEEDS_CUDA
def test_mixed_precision_is_half_precision_on_the_device(tmp_path: Path) -> None:
    mapper = Mapper(TINY.override(MIXED), MapDirectory(tmp_path, True), ColorEncoder(), 'map', True)
    for frame in FRAMES:
        mapper.add_frame(frame)
    radiance = mapper.trainer.radiance
    assert radiance.descent.half and scales(mapper) == [65536.0, 65536.0]
    seen = []
    radiance.field.color_network.register_forward_hook(
        lambda _module, _inputs, out: seen.append(out.dtype))
    take_steps(mapper, 1)
    assert seen == [torch.float16]


def losses(folder: Path, steps: int, **settings: object) -> list[float]:
    """The losses of the first steps with these settings, all from the same random numbers."""
    config = TINY.override(settings)
    mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    for frame in FRAMES:
        mapper.add_frame(frame)
    found = [mapper.guard.step().loss for _ in range(steps)]
    assert bool(mapper.guard.captured.graphs) == config.training.cuda_graphs
    return found


def test_a_step_on_the_device_is_a_step_on_the_host(tmp_path: Path) -> None:
    """What differs is the order of sums, and plain torch in place of native kernels."""
    assert losses(tmp_path / 'a', 4) == pytest.approx(
        losses(tmp_path / 'b', 4, **{'training.device': 'cpu'}), rel=1e-3)


@NEEDS_CUDA
def test_a_step_replayed_from_a_graph_is_the_step_itself(tmp_path: Path) -> None:
    """Weights, optimisers, loss scale, inputs and random numbers: all move as without a graph."""
    settings = {**MIXED, 'poses.refine': True}
    steps = WARM_STEPS + 4
    plain = losses(tmp_path / 'a', steps, **settings)
    # A replay tells the loss of the one before it, but for the first.
    assert losses(tmp_path / 'b', steps, **settings, **GRAPHS) == [
        *plain[:WARM_STEPS + 1], *plain[WARM_STEPS:-1]]
