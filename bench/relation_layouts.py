# SPDX-License-Identifier: Apache-2.0
"""Layouts for queries with colours and relations, and their maps.

    python bench/relation_layouts.py --seeds 0 1 --encoder oracle --out out/bench/relations

Each layout has three pairs that differ only in colour, one more object, and two that carry
another: something lies on one of them and in the other. OUT/ENCODER/SEED is the map directory; one
with a complete snapshot is left as it is. With --fused the index is made of averaged features of
the frames, without a field, which takes a few minutes less (OUT/fused/ENCODER/SEED).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from evaluate import SceneOracle

from lerf_ros.config import LerfConfig
from lerf_ros.errors import LerfError
from lerf_ros.evaluation.scene_encoders import ImageEncoder
from lerf_ros.evaluation.scenes import EvalScene, as_captured
from lerf_ros.frames.frame import Keyframe
from lerf_ros.mapping.fusion import fuse
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.settings import to_dict
from lerf_ros.simulation.evaluation_layout import TWINS, Twins, draw_twins
from lerf_ros.simulation.models import Kind, Model, pose, resized
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.room import room_parts
from lerf_ros.simulation.scene import (
    SceneObject,
    TabletopScene,
    draw_light,
    fitted,
    label_names,
    placed,
)
from lerf_ros.simulation.sensor import sensor_camera
from lerf_ros.simulation.trajectory import PATH_S, hand_held_path
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training.scene_measurement import measure_scene

sys.path.insert(0, str(Path(__file__).resolve().parent))
from simulated_maps import SETTINGS, Capture, make_mapper

OUT = Path('out/bench/relations')
PAIRS = 3
SIZES = (0.85, 1.1)
FLAT = ('drum', 'pizza', 'keyboard')            # something may lie on them,
HOLLOW = ('frying pan', 'bucket')               # or in these
SMALL = ('bagel', 'banana', 'corn', 'pretzel', 'tennis ball', 'bell pepper')
SINGLE = ('wine bottle', 'teapot', 'hourglass', 'laptop', 'pineapple', 'toilet paper',
          'piggy bank', 'table lamp', 'teddy bear')
TRIES = 20
STEPS = 600
TRAINED, FUSED = (40, (480, 360)), (24, (320, 240))     # frames and their size


@dataclass(frozen=True)
class RelationLayout:
    """A scene, and which of its objects (by index) lies on or in which other one."""

    tabletop: TabletopScene
    on: tuple[tuple[int, int], ...]
    inside: tuple[tuple[int, int], ...]


def relation_layout(seed: int) -> RelationLayout:
    """Draws the layout of this seed, the same on every machine."""
    rng = np.random.default_rng([seed, 29])
    room, light = room_parts(rng), draw_light(rng)
    kinds = {kind.query: kind for kind in CATALOGUE}
    for _ in range(TRIES):
        pairs = [TWINS[(PAIRS * seed + k) % len(TWINS)] for k in range(PAIRS)]
        flat, hollow, top, inner, single = draw_others(rng, pairs)
        models = [model for twins in pairs for model in draw_twins(rng, kinds[twins.query], twins)]
        models += [(kinds[name], kinds[name].build(rng)) for name in (flat, hollow, single)]
        sized = [(kind, resized(model, float(rng.uniform(*SIZES)))) for kind, model in models]
        try:
            objects = fitted(rng, sized)
        except LerfError:
            continue
        carriers = len(objects) - 3, len(objects) - 2
        stacked = [lying(rng, kinds[name], objects[carrier])
                   for name, carrier in zip((top, inner), carriers, strict=True)]
        tabletop = TabletopScene(seed, (*objects, *stacked), room, light)
        return RelationLayout(tabletop, ((len(objects), carriers[0]),),
                              ((len(objects) + 1, carriers[1]),))
    raise LerfError(f'layout {seed}: its objects do not fit on the table')


def draw_others(rng: np.random.Generator, pairs: list[Twins]) -> tuple[str, ...]:
    """Draws what carries, what is carried and a single object, none of them of the pairs' kinds."""
    taken = {twins.query for twins in pairs}
    free = [[name for name in names if name not in taken] for names in (FLAT, HOLLOW, SINGLE)]
    flat, hollow, single = (str(rng.choice(names)) for names in free)
    small = rng.permutation([name for name in SMALL if name not in taken])[:2]
    return flat, hollow, str(small[0]), str(small[1]), single


def lying(rng: np.random.Generator, kind: Kind, carrier: SceneObject) -> SceneObject:
    """Returns an object of the kind that lies on, or in, the middle of the carrier."""
    model: Model = resized(kind.build(rng), 0.8)
    vertices = np.concatenate([part.world_vertices() for part in carrier.parts])
    # What the carrier has below the small thing: nothing of a handle or rim beside its middle.
    body = carrier.parts[0].world_vertices()
    middle = (body.min(0) + body.max(0)) / 2
    near = np.linalg.norm(vertices[:, :2] - middle[:2], axis=1) < 0.02
    under = vertices[near & (vertices[:, 2] < body[:, 2].max() + 0.01)]
    height = float(under[:, 2].max())
    return placed(kind, model, pose(middle[0], middle[1], height))


def capture(seed: int, frames: int, size: tuple[int, int]) -> Capture:
    """Returns frames of the layout, and their label masks."""
    tabletop = relation_layout(seed).tabletop
    renderer, path = SceneRenderer(tabletop), hand_held_path(seed, tabletop, PATH_S)
    camera = sensor_camera(*size)
    poses = [path(k * PATH_S / frames) for k in range(frames)]
    views = [(T, renderer.render(camera, T)) for T in poses]
    shown = as_captured(views, seed, size, frames, False)
    return Capture(shown, tuple(view.labels.astype(np.int32) for _, view in views),
                   label_names(tabletop))


def map_layout(seed: int, encoder: str, out: Path, fused: bool) -> str:
    """Maps one layout if it is missing; returns what was done, in words."""
    target = out / ('fused' if fused else '') / encoder / str(seed)
    if target.exists() and MapDirectory(target).newest() is not None:
        return f'{target}: is there'
    start, shown = time.monotonic(), capture(seed, *(FUSED if fused else TRAINED))
    shutil.rmtree(target, ignore_errors=True)
    if fused:
        write_fused(shown, encoder, target)
        return f'{target}: {time.monotonic() - start:.0f} s'
    mapper = make_mapper(encoder, shown, target, LerfConfig().override(SETTINGS))
    for frame in shown.frames:
        mapper.add_frame(frame)
    while mapper.steps < STEPS:
        mapper.train_for(10.0, STEPS)
    mapper.snapshot()
    return (f'{target}: {mapper.steps} steps, {time.monotonic() - start:.0f} s, '
            f'PSNR {mapper.quality.psnr:.2f} dB')


def write_fused(shown: Capture, encoder: str, target: Path) -> None:
    """Writes a map whose index was fused from the frames, without a field."""
    config = LerfConfig().override(SETTINGS)
    coder = SceneOracle() if encoder == 'oracle' else ImageEncoder(encoder, config)
    config = coder.settings(config)
    scene = measure_scene(list(shown.frames), config)
    known = EvalScene(target.name, shown.frames, shown.labels, shown.names, (), True)
    features = coder.features(known, scene, config)
    index = fuse(shown.frames, features, scene, config)
    directory, identity = MapDirectory(target, True), coder.texts.identity()
    directory.create({'frame_id': 'map', 'metric': True, 'encoder': identity,
                      'scene': {'center': list(scene.center), 'radius': scene.radius},
                      'config': to_dict(config)})
    for number, frame in enumerate(shown.frames):
        directory.keyframes.add(Keyframe(number, frame))
    directory.write_snapshot({'index': index.arrays()},
                             {'stamp_ns': shown.frames[-1].stamp_ns, 'encoder': identity}, keep=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--encoder', default='oracle', choices=('oracle', 'conse', 'openclip'))
    parser.add_argument('--fused', action='store_true')
    parser.add_argument('--out', type=Path, default=OUT)
    a = parser.parse_args()
    for seed in a.seeds:
        print(map_layout(seed, a.encoder, a.out, a.fused), flush=True)


if __name__ == '__main__':
    run_quietly(main)
