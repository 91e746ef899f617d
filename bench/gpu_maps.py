# SPDX-License-Identifier: Apache-2.0
"""Sections of gpu.py on maps: a whole life, a layout, encoders, queries, and too little memory."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_fields import trainer_of
from gpu_inputs import GPU, WordSentences, features, frames_of_cubes, keyframe, preset, tiny_config
from tiny_world import ColorEncoder

from lerf_ros.config import FeatureConfig, LerfConfig
from lerf_ros.encoders import openclip
from lerf_ros.encoders.dino import DinoFeatures
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.index.language_index import as_stored
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.reindex import reindex
from lerf_ros.query.relevancy import Scorer
from lerf_ros.query.request import QueryRequest
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training.step_guard import StepGuard

HALF: dict[str, object] = {'training.mixed_precision': True, 'field.appearance': 4}
VARIANTS: dict[str, dict[str, object]] = {
    'single': {}, 'half': HALF, 'one kernel at a time': {**HALF, 'training.cuda_graphs': False},
    'released': {
        **HALF, 'poses.refine': True, 'training.optimizer': 'radam',
        'training.language_optimizer': 'radam', 'field.proposal_samples': (32, 24),
        'field.proposal_resolutions': (64, 128), 'field.background': 'last_sample',
        'language.contraction': 'euclidean', 'language.scale_rule': 'reference',
        'language.scale_input': 'raw', 'training.embedding_loss': 'huber',
        'training.language_average_steps': 1, 'language.levels': (4, 4),
        'language.base_resolutions': (8, 32), 'language.max_resolutions': (32, 64),
        'features.pyramid': 'fractions', 'training.depth_weight': 0.0,
        'index.min_accumulation': 0.0},
    'poses refined in graphs': {**HALF, 'poses.refine': True},
    'nothing opaque': {'index.min_accumulation': 1.0}}


def life_of_a_map(arguments: argparse.Namespace) -> dict[str, Any]:
    """Maps, moves, checkpoints, rolls back, restarts, asks and indexes anew, in variants."""
    done, failures = [], {}
    for name, settings in VARIANTS.items():
        config = tiny_config().override({'training.device': 'cuda', **settings})
        try:
            with tempfile.TemporaryDirectory() as folder:
                live(config, Path(folder), 6 if arguments.smoke else 20)
            done.append(name)
        except Exception as error:      # each variant tells on its own
            trace, at = error.__traceback__, []
            while trace is not None:
                at.append(f'{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}')
                trace = trace.tb_next
            failures[name] = f'{type(error).__name__}: {str(error)[:300]} at {at[-6:]}'
    assert not failures, f'{failures}; passed: {done}'
    return {'variants': done}


def live(config: LerfConfig, folder: Path, steps: int) -> None:
    """Leads one map through its life."""
    frames, encoder = frames_of_cubes(9), ColorEncoder()
    mapper = Mapper(config, MapDirectory(folder, True), encoder, 'map', True)
    for frame in frames:
        mapper.add_frame(frame)
    assert mapper.guard is not None and mapper.trainer is not None
    take_steps(mapper.guard, steps)
    mapper.snapshot()
    moved = frames[0].T_world_camera.copy()
    moved[:3, 3] += 0.002
    assert mapper.move_keyframes({0: moved}) == 1
    take_steps(mapper.guard, steps)
    assert mapper.guard.remember()
    mapper.checkpoint()
    before = mapper.steps
    with torch.no_grad():
        for parameter in mapper.trainer.radiance.field.parameters():
            parameter.fill_(float('nan'))
    # A captured step tells of its loss one step later.
    spoilt = next((count for count in range(1, 7) if mapper.guard.step() is None
                   and mapper.steps == before), None)
    assert spoilt, 'training did not roll back'
    take_steps(mapper.guard, steps)
    mapper.snapshot()
    again = Mapper(config, MapDirectory(folder, True), encoder, 'map', True)
    again.restore()
    while again.learn_next():
        pass
    assert again.steps == mapper.steps and again.guard is not None
    take_steps(again.guard, steps)
    query = MapQuery(folder, encoder=encoder)
    query.refresh()
    answer = query.ask(QueryRequest('red'))
    assert bool(len(answer.points_world)) == (config.index.min_accumulation < 1.0)
    # reindex() opens the encoder by its name; this one has none.
    with contextlib.suppress(KeyError):
        reindex(folder)


def take_steps(guard: StepGuard, count: int) -> None:
    for _ in range(count):
        report = guard.step()
        assert report is not None and np.isfinite(report.loss), guard.message


def map_of_a_layout(arguments: argparse.Namespace) -> dict[str, Any]:
    """Maps a simulated layout with preset `online` until it settles, and asks for its objects.

    The encoder reads labels and knows each name as a random direction: what is missed is the
    field's fault.
    """
    from oracle_encoder import OracleEncoder, OracleExtractor
    from simulated_maps import captured

    from lerf_ros.simulation.evaluation_layout import evaluation_layout

    seed, cache = 110, Path('out/bench/maps/frames')
    if arguments.capture:
        seed, cache = int(arguments.capture.stem.removeprefix('layout')), arguments.capture.parent
    capture, tabletop = captured(seed, cache), evaluation_layout(seed)
    oracle = OracleEncoder(WordSentences())
    config = preset('online', arguments, **{
        'training.settle_steps': 20 if arguments.smoke else 3000,
        'features.widths': (0.04, 0.07, 0.12, 0.2, 0.35)})
    masks = {f.stamp_ns: m for f, m in zip(capture.frames, capture.labels, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        mapper = Mapper(config, MapDirectory(folder, True), oracle, 'map', True)
        mapper.extractor = OracleExtractor(oracle, masks, capture.names)
        start = time.monotonic()
        for frame in capture.frames:
            mapper.add_frame(frame)
        fed = time.monotonic()
        curve = dict(trained(mapper, fed))
        settled = time.monotonic()
        mapper.snapshot()
        indexed = time.monotonic()
        query = MapQuery(folder, encoder=oracle)
        query.refresh()
        right = []
        for thing in tabletop.objects:
            answer = query.ask(QueryRequest(thing.query))
            low, high = np.asarray(thing.box_min) - 0.01, np.asarray(thing.box_max) + 0.01
            right.append(bool(answer.hits and ((low <= answer.hits[0].position)
                                               & (answer.hits[0].position <= high)).all()))
    return {'frames': len(capture.frames), 'features_s': round(fed - start, 1),
            'settled_s': round(settled - fed, 1), 'steps': mapper.steps,
            'snapshot_s': round(indexed - settled, 1), 'points': mapper.points,
            'psnr_dB': round(mapper.quality.psnr, 2),
            'depth_error_mm': round(1000 * mapper.quality.depth_error, 2),
            'psnr_by_seconds': curve, 'right': sum(right), 'of': len(right)}


def trained(mapper: Mapper, start: float) -> Iterator[tuple[float, float]]:
    """Trains until the map settles; yields seconds and held-out PSNR, dB, now and then."""
    yield 0.0, round(mapper.measure_quality().psnr, 2)
    while not mapper.settled:
        mapper.train_for(3.0)
        yield round(time.monotonic() - start, 1), round(mapper.measure_quality().psnr, 2)


def query_of_many_points(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times the relevancy of a phrase, and of ten, at 200,000 points; the bar is 2.6 ms."""
    points, scales, rank = 2000 if arguments.smoke else 200000, 5, 64
    rng = np.random.default_rng(0)
    codes = as_stored(torch.from_numpy(rng.standard_normal((scales, points, rank),
                                                           dtype=np.float32) / rank ** 0.5))
    phrases, negatives = (rng.standard_normal((count, rank)) / rank ** 0.5 for count in (10, 4))
    scorers = {device: Scorer(codes, 10.0, device) for device in ('cpu', 'cuda')}
    out: dict[str, Any] = {}
    for device, scorer in scorers.items():
        for count in (1, 10):
            out[f'{device} {count}'] = round(wall_ms(
                lambda s=scorer, c=count: s.each_phrase(phrases[:c], negatives)), 2)
    (a, _), (b, _) = (s.each_phrase(phrases, negatives) for s in scorers.values())
    # Codes drawn by chance often fit as well at two scales; there, rounding moves the peak.
    out['difference of 999 in 1000'] = float(np.quantile(np.abs(a - b), 0.999))
    assert out['difference of 999 in 1000'] < 1e-2, out
    return out


def wall_ms(call: Any) -> float:
    """Returns the median milliseconds of a call that ends on the CPU."""
    times = []
    for _ in range(12):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:])) * 1e3


def encoders_are_fast(arguments: argparse.Namespace) -> dict[str, Any]:
    """Counts crops a second of a ViT-B-16, and times DINO, with random weights."""
    import open_clip

    create = open_clip.create_model_and_transforms
    openclip.check_model_name = lambda *_: None  # type: ignore[assignment]
    openclip.hub_or_cache = contextlib.nullcontext  # type: ignore[assignment]
    open_clip.create_model_and_transforms = lambda m, pretrained=None, **k: create(
        m, pretrained=None, **k)
    out: dict[str, Any] = {}
    try:
        encoder = openclip.OpenClipEncoder('ViT-B-32' if arguments.smoke else 'ViT-B-16', 'none',
                                           device='cuda', batch=128)
        for side in (90, 360):
            count = 2 if arguments.smoke else 512
            crops = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), np.uint8)
            encoder.encode_squares(crops)
            out[f'crops a second, side {side}'] = round(
                count / wall_ms(lambda c=crops: encoder.encode_squares(c)) * 1e3)
    finally:
        open_clip.create_model_and_transforms = create
    dino = DinoFeatures(replace(FeatureConfig(), dense_short_side=64 if arguments.smoke else 500),
                        'cuda', pretrained=False)
    image = keyframe(0, arguments.smoke).frame.image
    out['dino ms'] = round(wall_ms(lambda: dino.features(image)), 1)
    return out


def many_keyframes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Takes 500 keyframes of 1280 x 720 with their features, and a few steps on them."""
    torch.cuda.reset_peak_memory_stats()
    count = 6 if arguments.smoke else 500
    trainer = trainer_of(preset('online', arguments, **{'keyframes.max_count': 600}), 2,
                         arguments.smoke)
    seen, start = features(arguments.smoke), time.monotonic()
    frames = [keyframe(number, arguments.smoke).frame for number in range(4)]
    for number in range(2, count):
        trainer.add(replace(keyframe(0, True), index=number, frame=frames[number % 4]), seen)
    torch.cuda.synchronize()
    took = time.monotonic() - start
    take_steps(StepGuard(trainer), 10)
    gib = 2**30
    return {'s': round(took, 1),
            'pixels_GiB': round(trainer.radiance.store.bytes_used() / gib, 2),
            'embeddings_GiB': round(trainer.language.targets.bytes_used() / gib, 2),
            'allocated_GiB': round(torch.cuda.memory_allocated() / gib, 2),
            'peak_GiB': round(torch.cuda.max_memory_allocated() / gib, 2),
            'reserved_GiB': round(torch.cuda.memory_reserved() / gib, 2)}


def memory_runs_out(arguments: argparse.Namespace) -> dict[str, Any]:
    """Leaves half a GiB to a map, and expects smaller steps and forgotten keyframes, named."""
    guard = StepGuard(trainer_of(preset('online', arguments), 6, arguments.smoke))
    take_steps(guard, 8)
    rays, out = guard.trainer.radiance.rays, {}
    guard.captured.clear()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_allocated() + 2**29) / total)
    try:
        steps = [guard.step() for _ in range(12)]
        out['steps'] = f'{sum(s is not None for s in steps)} of {len(steps)} taken'
        out['rays'] = f'{rays} -> {guard.trainer.radiance.rays}'
        out['message'] = guard.message
        assert steps[-1] is not None and (arguments.smoke or guard.message)
        out['keyframes'] = keyframes_without_memory(arguments)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return out


class SameFeatures:
    """Stands in for FeatureExtractor: one pyramid for all images."""

    def __init__(self, smoke: bool) -> None:
        self._features = features(smoke)

    def extract(self, *_: object) -> KeyframeFeatures:
        """Returns the features, whatever is given."""
        return replace(self._features, levels=tuple(
            replace(level, vocabulary=level.vocabulary.copy()) for level in self._features.levels))


def keyframes_without_memory(arguments: argparse.Namespace) -> str:
    """Maps until keyframes take the place of others; returns what the map says of it."""
    config = tiny_config().override({'training.device': 'cuda', 'keyframes.holdout_every': 0,
                                     'keyframes.memory_megabytes': 10**6})
    with tempfile.TemporaryDirectory() as folder:
        mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
        mapper.extractor = SameFeatures(arguments.smoke)  # type: ignore[assignment]
        count = 0
        while not mapper.learned.memory_fault and count < (8 if arguments.smoke else 200):
            mapper.add_frame(keyframe(count, arguments.smoke).frame)
            count += 1
        for extra in range(2):
            mapper.add_frame(keyframe(count + extra, arguments.smoke).frame)
        assert mapper.guard is not None and mapper.stored == count + 2
        steps = [mapper.guard.step() for _ in range(12)]
        assert steps[-1] is not None and (arguments.smoke or mapper.learned.memory_fault)
        return mapper.learned.memory_fault
