# SPDX-License-Identifier: Apache-2.0
"""Sections of gpu.py on fields: hash grids against double precision, steps, and what they learn."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from gpu_inputs import GPU, features, frames_of_cubes, keyframe, preset, tiny_config

from lerf_ros.config import LerfConfig
from lerf_ros.field.hash_encoding import (
    HashEncoding,
    HashGridBackend,
    TorchGrid,
    hash_grid_torch,
    make_triton_grid,
)
from lerf_ros.field.tinycudann_grid import make_tiny_cuda_grid
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.training.learners import RadianceLearner, Trainer
from lerf_ros.training.quality import measure_quality
from lerf_ros.training.ray_batches import KeyframeStore
from lerf_ros.training.scene_measurement import measure_scene
from lerf_ros.training.step_guard import StepGuard

PRESETS = ('online', 'reference', 'paper')
POINTS, MARGIN = 5000, 0.02    # at which grids are compared, that far from the borders of cells
SINGLE, HALF = 5e-4, 2e-2   # of the largest value: how far they may be from double precision


def grids(config: LerfConfig) -> Iterator[HashEncoding]:
    """Makes the hash grids of a preset, with tables that are not near zero."""
    field, language = config.field, config.language
    shapes = [(field.levels, field.base_resolution, field.max_resolution, field.log2_table,
               field.features)]
    shapes += [(field.proposal_levels, 16, finest, field.proposal_log2_table,
                field.proposal_features) for finest in field.proposal_resolutions]
    shapes += [(*grid, language.log2_table, language.features) for grid in zip(
        language.levels, language.base_resolutions, language.max_resolutions, strict=True)]
    for shape in shapes:
        torch.manual_seed(0)
        encoding = HashEncoding(*shape)
        torch.nn.init.normal_(encoding.table)
        yield encoding


def backends(encoding: HashEncoding) -> dict[str, HashGridBackend]:
    """Returns what can look up on a GPU here, by name."""
    found: dict[str, HashGridBackend | None] = {
        'torch': TorchGrid(encoding.geometry), 'triton': make_triton_grid(encoding.geometry),
        'tiny-cuda-nn': make_tiny_cuda_grid(encoding.grid_config, encoding.table.numel())}
    return {name: backend for name, backend in found.items() if backend is not None}


def grids_agree(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compares values and gradients of all grids of all presets with double precision on a CPU."""
    worst: dict[str, list[float]] = {}
    for name in PRESETS:
        for encoding in grids(preset(name, arguments)):
            positions = inside_cells(encoding, 64 if arguments.smoke else POINTS)
            weight = torch.randn(len(positions), encoding.output_dimension)
            exact = gradients(lambda p, t, e=encoding: hash_grid_torch(p.double(), t.double(),
                                                                       e.geometry),
                              encoding, positions, weight, torch.device('cpu'), False)
            for way, backend in backends(encoding).items():
                for half in (False, True) if way != 'torch' else (False,):
                    found = gradients(backend, encoding, positions, weight, GPU, half)
                    off = [float((a - b).abs().max() / b.abs().max())
                           for a, b in zip(found, exact, strict=True)]
                    key = f'{way}{" half" if half else ""}'
                    worst[key] = [max(pair) for pair in zip(worst.get(key, off), off, strict=True)]
    bad = {way: off for way, off in worst.items()
           if max(off) > (HALF if way.endswith('half') else SINGLE)}
    assert not bad, f'largest differences of values, table and positions: {bad}'
    return {way: [float(f'{value:.1e}') for value in off] for way, off in worst.items()}


def inside_cells(encoding: HashEncoding, count: int) -> torch.Tensor:
    """Draws positions off the borders of the cells of as many levels as leave some.

    At a border the gradient jumps, and the last bit of a position decides on its side.
    """
    positions = torch.rand(60 * count, 3)
    for scale in encoding.geometry['scale'].tolist():
        part = (positions * scale + 0.5) % 1
        keep = ((part > MARGIN) & (part < 1 - MARGIN)).all(1)
        positions = positions[keep] if keep.sum() >= count else positions
    return positions[:count]


def gradients(look_up: Callable[..., torch.Tensor], encoding: HashEncoding,
              positions: torch.Tensor, weight: torch.Tensor, device: torch.device,
              half: bool) -> list[torch.Tensor]:
    """Returns values, and gradients by table and positions of their weighted sum."""
    table = encoding.table.detach().to(device, copy=True).requires_grad_()
    where = positions.detach().to(device, copy=True).requires_grad_()
    with torch.autocast('cuda', torch.float16, enabled=half):
        values = look_up(where, table)
    (values.double() * weight.to(device)).sum().backward()
    assert table.grad is not None and where.grad is not None
    return [t.detach().double().cpu() for t in (values, table.grad, where.grad)]


def grids_on_a_gpu_are_fast(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times looking up and both gradients, milliseconds, on as many positions as a step has."""
    out = {}
    for name in PRESETS:
        for number, encoding in enumerate(grids(preset(name, arguments))):
            encoding = encoding.to(GPU)
            positions = torch.rand(64 if arguments.smoke else 4096 * 48, 3, device=GPU)
            for way, backend in backends(encoding).items():
                for half in (False, True) if way != 'torch' else (False,):
                    key = f'{name} grid {number} {way}{" half" if half else ""}'
                    out[key] = round(median_ms(lambda b=backend, e=encoding, p=positions, h=half:
                                               forward_backward(b, e, p, h)), 3)
    return out


def forward_backward(backend: HashGridBackend, encoding: HashEncoding, positions: torch.Tensor,
                     half: bool) -> None:
    with torch.autocast('cuda', torch.float16, enabled=half):
        values = backend(positions, encoding.table)
    values.float().square().sum().backward()
    encoding.table.grad = None


def median_ms(call: Callable[[], object], repeats: int = 7, warm: int = 3) -> float:
    """Returns the median milliseconds of a call, by events on the GPU."""
    times = []
    for number in range(warm + repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        if number >= warm:
            times.append(start.elapsed_time(end))
    return float(np.median(times))


def steps_of_the_presets(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times training steps of each preset, one kernel at a time and as CUDA graphs."""
    out = {}
    for name in ('online',) if arguments.smoke else ('online', 'lite', 'reference', 'paper'):
        for graphs in (False, True) if name == 'online' else (True,):
            with contextlib.suppress(torch.OutOfMemoryError):
                out[name if graphs else f'{name}, no graphs'] = time_steps(
                    preset(name, arguments, **{'training.cuda_graphs': graphs}), arguments.smoke)
    return out


def time_steps(config: LerfConfig, smoke: bool) -> dict[str, Any]:
    """Returns milliseconds, kernels, launches, synchronisations and memory of a step."""
    torch.cuda.reset_peak_memory_stats()
    guard = StepGuard(trainer_of(config, 3 if smoke else 24, smoke))
    warm, count = (5, 2) if smoke else (30, 100)
    for _ in range(warm):
        guard.step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    reports = [guard.step() for _ in range(count)]
    torch.cuda.synchronize()
    took = (time.perf_counter() - start) / count * 1e3
    return {'ms': round(took, 2), 'failed_steps': sum(report is None for report in reports),
            'graphs': len(guard.captured.graphs), **profile(guard.step),
            'peak_GiB': round(torch.cuda.max_memory_allocated() / 2**30, 2)}


def profile(step: Callable[[], object]) -> dict[str, Any]:
    """Counts what a step gives the GPU to do, and what takes longest there."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    events = seen.key_averages()
    kernels = [e for e in events if e.self_device_time_total > 0]
    slowest = sorted(kernels, key=lambda e: -e.self_device_time_total)[:10]
    # The last one is the profiler's own.
    return {'kernels': sum(e.count for e in kernels),
            'gpu_ms': round(sum(e.self_device_time_total for e in kernels) / 1e3, 2),
            'launches': sum(e.count for e in events if e.key in (
                'cudaLaunchKernel', 'cuLaunchKernel', 'cudaLaunchKernelExC', 'cuLaunchKernelEx',
                'cudaGraphLaunch', 'cudaMemcpyAsync', 'cudaMemsetAsync')),
            'syncs': sum(e.count for e in events if 'Synchronize' in e.key) - 1,
            'slowest': [(e.key[:70], e.count, round(e.self_device_time_total / 1e3, 3))
                        for e in slowest]}


def trainer_of(config: LerfConfig, keyframes: int, smoke: bool) -> Trainer:
    """Returns a trainer with random keyframes of 1280 x 720."""
    trainer = Trainer(config, SceneFrame((0.0, 0.0, 0.0), 1.0), GPU)
    for number in range(keyframes):
        trainer.add(keyframe(number, smoke), features(smoke))
    return trainer


def learns_as_the_cpu_does(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures held-out PSNR, dB, after the same steps on a CPU, and on a GPU in single and half.

    Of several seeds: the spread of one device's is what a difference must be compared with.
    """
    frames, out = frames_of_cubes(6 if arguments.smoke else 24), {}
    for device, half in (('cpu', False), ('cuda', False), ('cuda', True)):
        config = tiny_config().override({'training.mixed_precision': half,
                                         'training.device': device})
        out[f'{device}{" half" if half else ""}'] = [
            round(learned_psnr(frames, config, seed, 2 if arguments.smoke else 400), 2)
            for seed in range(1 if arguments.smoke else 3)]
    means = {way: float(np.mean(psnr)) for way, psnr in out.items()}
    assert arguments.smoke or min(means.values()) > means['cpu'] - 0.5, out
    return out


def learned_psnr(frames: list[Frame], config: LerfConfig, seed: int, steps: int) -> float:
    """Returns the PSNR of held-out frames after some steps of the radiance field alone."""
    scene, device = measure_scene(frames, config), torch.device(config.training.device)
    torch.manual_seed(seed)
    learner = RadianceLearner(config, scene, device, torch.Generator().manual_seed(seed))
    held_out = KeyframeStore(scene, device)
    for number, frame in enumerate(frames):
        (held_out if number % 6 == 5 else learner).add(Keyframe(number, frame))
    for _ in range(steps):
        learner.step()
    return measure_quality(learner.field, held_out, scene.radius).psnr
