# SPDX-License-Identifier: Apache-2.0
"""Maps simulated evaluation layouts with the product's mapper, for benches that ask such maps.

    python bench/simulated_maps.py --encoder oracle --seeds 100 101 --jobs 2 --out out/bench/maps

    python bench/simulated_maps.py --encoder conse --seeds 100 --views 6 --out out/bench/views6
    python bench/simulated_maps.py --encoder conse --seeds 100 --noise 10:2 --out out/bench/noise

OUT/ENCODER/SEED is the map directory of `evaluation_layout(SEED)`; one with a complete snapshot is
left as it is. Rendered frames are kept in OUT/frames. --views takes so many of a layout's images,
evenly spread; --noise (millimetres:degrees, root mean square) disturbs their poses. `open_query`
opens such a map, those of the oracle (oracle_encoder.py) as well.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from evaluate import SETTINGS as ORACLE_SETTINGS
from oracle_encoder import OracleEncoder, OracleExtractor, crop_encoder, no_label
from pose_noise import disturbed

from lerf_ros.commands.options import overrides
from lerf_ros.config import GraspConfig, LerfConfig
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.encoders.sentence import SentenceEncoder
from lerf_ros.evaluation.command import EFFORTS
from lerf_ros.evaluation.scenes import simulated_scene
from lerf_ros.frames.frame import Frame
from lerf_ros.index.second_look import SecondLooker
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.settings import to_dict
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.scene import label_names
from lerf_ros.simulation.sensor import sensor_camera
from lerf_ros.simulation.trajectory import PATH_S, hand_held_path
from lerf_ros.storage.map_directory import MapDirectory

OUT = Path('out/bench/maps')
EFFORT = EFFORTS['cpu']
# The effort `cpu` of the evaluation, with as many points as the product keeps.
STEPS = EFFORT.radiance_steps
SETTINGS = {'training.language_rays': EFFORT.settings['training.language_rays'],
            'training.settle_steps': 0, 'map.training_state': False}


@dataclass(frozen=True)
class Capture:
    """Posed frames of a layout, their label masks (H, W), and the names of the labels."""

    frames: tuple[Frame, ...]
    labels: tuple[np.ndarray, ...]
    names: tuple[str, ...]


def captured(seed: int, cache: Path) -> Capture:
    """Returns what the simulated camera sees of the layout, rendered or from `cache`."""
    file = cache / f'layout{seed}.npz'
    tabletop = evaluation_layout(seed)
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        scene = simulated_scene(seed)
        partial = file.with_name(f'.partial{seed}.npz')
        np.savez(partial, images=np.stack([f.image for f in scene.frames]),
                 depths_m=np.stack([f.depth_m for f in scene.frames]),
                 labels=np.stack(scene.labels).astype(np.uint8))
        partial.replace(file)
    with np.load(file) as stored:
        images, depths, labels = (stored[name] for name in ('images', 'depths_m', 'labels'))
    path, step_s = hand_held_path(seed, tabletop, PATH_S), PATH_S / len(images)
    camera = sensor_camera(images.shape[2], images.shape[1])
    frames = tuple(Frame(int(k * step_s * 1e9), image, camera, path(k * step_s), depth)
                   for k, (image, depth) in enumerate(zip(images, depths, strict=True)))
    return Capture(frames, tuple(mask.astype(np.int32) for mask in labels), label_names(tabletop))


def open_query(path: Path, encoder: str, grasp: GraspConfig | None = None) -> MapQuery:
    """Opens a map of this bench, made with the oracle or an encoder of the product.

    grasp: another gripper than the one in the map's settings.
    """
    oracle = OracleEncoder(SentenceEncoder()) if encoder == 'oracle' else None
    settings = {f'grasp.{name}': value for name, value in to_dict(grasp).items()} if grasp else {}
    query = MapQuery(path, settings, encoder=oracle)
    query.refresh()
    return query


def make_mapper(encoder: str, capture: Capture, target: Path, config: LerfConfig) -> Mapper:
    """Returns the product's mapper; for the oracle with the extractor that reads masks."""
    directory = MapDirectory(target, True)
    if encoder != 'oracle':
        config = config.override({'features.encoder': encoder})
        return Mapper(config, directory, load_encoder(config.features), 'map', True)
    oracle = OracleEncoder(SentenceEncoder())
    mapper = Mapper(config.override(ORACLE_SETTINGS), directory, oracle, 'map', True)
    masks = {f.stamp_ns: m for f, m in zip(capture.frames, capture.labels, strict=True)}
    mapper.extractor = OracleExtractor(oracle, masks, capture.names)
    # All frames become keyframes, in their order.
    mapper.looks.looker = SecondLooker(crop_encoder(oracle, capture.names),
                                       lambda index: (capture.labels[index], None), config.index,
                                       no_label)
    return mapper


@dataclass(frozen=True)
class Handicap:
    """What a capture lacks: depth, views (as many as are left, 0 for all), exact poses."""

    depth: bool = True
    views: int = 0
    noise_mm: float = 0.0
    noise_deg: float = 0.0

    def on(self, capture: Capture, seed: int) -> Capture:
        """Returns the capture with this handicap."""
        rng, count = np.random.default_rng([seed, 90]), len(capture.frames)
        kept = np.linspace(0, count, self.views or count, endpoint=False).astype(int)
        frames = [capture.frames[k] for k in kept]
        if self.noise_mm or self.noise_deg:
            frames = [disturbed(f, rng, self.noise_mm, self.noise_deg) for f in frames]
        if not self.depth:
            frames = [replace(f, depth_m=None) for f in frames]
        return Capture(tuple(frames), tuple(capture.labels[k] for k in kept), capture.names)


def map_layout(seed: int, encoder: str, out: Path, settings: dict, threads: int = 0,
               handicap: Handicap = Handicap()) -> str:
    """Maps one layout if it is missing; returns what was done."""
    target = out / encoder / str(seed)
    if target.exists() and MapDirectory(target).newest() is not None:
        return f'{target}: is there'
    if threads:
        torch.set_num_threads(threads)
    start = time.monotonic()
    capture = handicap.on(captured(seed, out / 'frames'), seed)
    shutil.rmtree(target, ignore_errors=True)
    mapper = make_mapper(encoder, capture, target, LerfConfig().override({**SETTINGS, **settings}))
    rendered = time.monotonic()
    for frame in capture.frames:
        mapper.add_frame(frame)
    fed = time.monotonic()
    while mapper.steps < STEPS:
        mapper.train_for(10.0, STEPS)
    trained = time.monotonic()
    mapper.snapshot()
    end = time.monotonic()
    return (f'{target}: rendered {rendered - start:.0f} s, features {fed - rendered:.0f} s, '
            f'{mapper.steps} steps {trained - fed:.0f} s, snapshot {end - trained:.0f} s, '
            f'PSNR {mapper.quality.psnr:.2f} dB, depth error {mapper.quality.depth_error:.4f} m')


def millimetres_degrees(text: str) -> tuple[float, float]:
    """Reads MILLIMETRES:DEGREES."""
    millimetres, degrees = (float(part) for part in text.split(':'))
    return millimetres, degrees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--encoder', default='oracle', choices=('oracle', 'conse', 'openclip'))
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--jobs', type=int, default=1, help='layouts at once, one thread each')
    parser.add_argument('--rgb', action='store_true', help='images without depth')
    parser.add_argument('--views', type=int, default=0, help='images of each; 0 for all')
    parser.add_argument('--noise', default='0:0', help='of the poses, MILLIMETRES:DEGREES')
    parser.add_argument('--set', nargs='*', default=[])
    parser.add_argument('--out', type=Path, default=OUT)
    a = parser.parse_args()
    work = functools.partial(map_layout, encoder=a.encoder, out=a.out, settings=overrides(a.set),
                             threads=1 if a.jobs > 1 else 0,
                             handicap=Handicap(not a.rgb, a.views, *millimetres_degrees(a.noise)))
    if a.jobs == 1:
        for seed in a.seeds:
            print(work(seed), flush=True)
        return
    with multiprocessing.get_context('spawn').Pool(a.jobs) as pool:
        for line in pool.imap_unordered(work, a.seeds):
            print(line, flush=True)


if __name__ == '__main__':
    run_quietly(main)
