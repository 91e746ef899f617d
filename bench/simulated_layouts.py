# SPDX-License-Identifier: Apache-2.0
"""Maps simulated layouts without ROS, and checks the answers as the demo does over ROS.

    python bench/simulated_layouts.py --seeds 0 1 --steps 2000 --set query.threshold=0.6

For each layout: held-out PSNR, depth error, each query's relevancy and distance, and how high
absent phrases come. Rendered frames are kept in out/bench/frames, so that a second run with other
settings starts at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np

from lerf_ros.commands.options import overrides
from lerf_ros.config import LerfConfig, load_preset
from lerf_ros.encoders.image_text import load_encoder
from lerf_ros.evaluation.demo_results import TruthBox, check_answer
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.selection import KeyframeSelector
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.settings import to_dict
from lerf_ros.show.pictures import contact_sheet, map_views, write_image
from lerf_ros.simulation.objects import draw_absent
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.trajectory import hand_held_path
from lerf_ros.storage.map_directory import MapDirectory

CAMERA = PinholeCamera(640, 480, 550.0, 550.0, 320.0, 240.0)


def frames(scene: TabletopScene, seed: int, duration_s: float, rate: float,
           cache: Path, camera: PinholeCamera = CAMERA) -> list[Frame]:
    """Returns all frames of the simulated capture, rendered or from the cache."""
    # Frames from another version of the simulation must not be reused.
    boxes = np.concatenate([np.concatenate([t.box_min, t.box_max]) for t in scene.objects])
    key = hashlib.sha256(boxes.tobytes() + repr([t.name for t in scene.objects]).encode())
    key.update(repr(camera).encode())
    file = cache / f'seed{seed}_{duration_s:.0f}s_{rate:g}Hz_{key.hexdigest()[:8]}.npz'
    path = hand_held_path(seed, scene, duration_s)
    times = np.arange(0, duration_s, 1 / rate)
    if not file.exists():
        renderer = SceneRenderer(scene)
        views = [renderer.render(camera, path(float(t))) for t in times]
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, image=np.stack([v.image for v in views]),
                 depth_m=np.stack([v.depth_m for v in views]))
    stored = np.load(file)
    return [Frame(int(t * 1e9), image, camera, path(float(t)), depth)
            for t, image, depth in zip(times, stored['image'], stored['depth_m'], strict=True)]


def map_layout(seed: int, arguments: argparse.Namespace, config: LerfConfig) -> dict:
    """Maps one layout, asks for everything, prints and returns what was measured."""
    scene = TabletopScene.generate(seed)
    captured = frames(scene, seed, arguments.duration, arguments.rate, arguments.out / 'frames')
    target = arguments.out / f'map{seed}'
    shutil.rmtree(target, ignore_errors=True)
    mapper = Mapper(config, MapDirectory(target, True), load_encoder(config.features), 'map', True)
    selector, start = KeyframeSelector(config.keyframes), time.monotonic()
    for frame in captured:
        if selector.consider(frame).accepted:
            mapper.add_frame(frame)
    fed = time.monotonic()
    while mapper.steps < arguments.steps:
        mapper.train_for(1.0)
    trained = time.monotonic()
    mapper.snapshot()
    print(f'seed {seed}: {len(mapper.learned)} keyframes, features {fed - start:.0f} s, '
          f'{mapper.steps} steps {trained - fed:.0f} s, snapshot {time.monotonic() - trained:.0f} s'
          f', PSNR {mapper.quality.psnr:.2f} dB, depth error {mapper.quality.depth_error:.4f} m')
    return ask(seed, scene, target, config, arguments)


def ask(seed: int, scene: TabletopScene, target: Path, config: LerfConfig,
        arguments: argparse.Namespace) -> dict:
    """Asks for every object and for absent phrases; writes the contact sheet."""
    query = MapQuery(target, {'query.' + name: value
                              for name, value in to_dict(config.query).items()})
    query.refresh()
    rows, answers = [], []
    for thing in scene.objects:
        start = time.monotonic()
        answer = query.answer(thing.query)
        row = check_answer(answer, time.monotonic() - start,
                           [TruthBox(thing.box_min, thing.box_max)])
        rows.append(row)
        answers.append(answer)
        print(f'  {row.query:18} found {row.found!s:5} in box {row.inside_box!s:5} distance '
              f'{-1 if row.distance_m is None else row.distance_m:.3f} relevancy '
              f'{row.relevancy:.3f} {row.latency_s * 1000:.0f} ms, {len(answer.hits)} hits')
    absent = {text: max([h.relevancy for h in query.answer(text, threshold=1e-6).hits], default=0.0)
              for text in draw_absent(seed, 50, scene)}
    high = sorted(absent.items(), key=lambda item: -item[1])[:6]
    threshold = query.text_query.config.threshold
    print(f'  right {sum(r.inside_box for r in rows)} of {len(rows)}; absent found '
          f'{sum(v >= threshold for v in absent.values())} of {len(absent)}; highest '
          + ', '.join(f'{text} {value:.3f}' for text, value in high), flush=True)
    write_image(arguments.out / f'sheet{seed}.png',
                contact_sheet(map_views(target), answers, f'seed {seed}'))
    return {'seed': seed, 'present': {r.query: [r.inside_box, r.relevancy] for r in rows},
            'absent': absent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--duration', type=float, default=60.0)
    parser.add_argument('--rate', type=float, default=2.0)
    parser.add_argument('--preset', default='')
    parser.add_argument('--set', nargs='*', default=[])
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    arguments = parser.parse_args()
    config = load_preset(arguments.preset) if arguments.preset else LerfConfig()
    config = config.override({'training.settle_steps': 0, **overrides(arguments.set)})
    results = [map_layout(seed, arguments, config) for seed in arguments.seeds]
    (arguments.out / 'layouts.json').write_text(json.dumps(results, indent=1, default=float))


if __name__ == '__main__':
    run_quietly(main)
