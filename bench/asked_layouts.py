# SPDX-License-Identifier: Apache-2.0
"""Maps evaluation layouts, whole or half, with an oracle that knows parts by name.

    python bench/asked_layouts.py --seeds 200 208 --seen whole --out out/bench/asked
    python bench/asked_layouts.py --seeds 202 205 --seen half --out out/bench/asked

OUT/SEEN/SEED is the map directory; one with a complete snapshot is left as it is. Seen half: the
camera stays on that side of the table where x is positive, and pixels that show anything on the
other side of the plane x = 0 are masked, as a robot masks its own arm. So light came from exactly
that half of the room, and what lies in the other half was not observed by construction.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from named_parts import name_parts

from lerf_ros.config import LerfConfig
from lerf_ros.evaluation.scenes import as_captured
from lerf_ros.geometry.camera import transform_points
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.room import TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.sensor import HEIGHT, WIDTH, sensor_camera
from lerf_ros.simulation.trajectory import PATH_S, hand_held_path
from lerf_ros.storage.map_directory import MapDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent))
from simulated_maps import SETTINGS, STEPS, Capture, make_mapper

OUT = Path('out/bench/asked')
FRAMES = 48
SEEN = ('whole', 'half')


def path_poses(seed: int, tabletop: TabletopScene, seen: str) -> list[np.ndarray]:
    """Returns 48 poses T_world_camera; with `half` all of them have a positive x."""
    path = hand_held_path(seed, tabletop, PATH_S)
    if seen == 'whole':
        return [path(k * PATH_S / FRAMES) for k in range(FRAMES)]
    poses = [path(float(t)) for t in np.linspace(0, PATH_S, 40 * FRAMES, endpoint=False)]
    there = [T for T in poses if T[0, 3] > 0]
    return [there[i] for i in np.linspace(0, len(there) - 1, FRAMES).astype(int)]


def capture(seed: int, seen: str) -> Capture:
    """Returns frames and their label masks, in which parts have labels of their own."""
    tabletop = evaluation_layout(seed)
    naming, poses = name_parts(tabletop), path_poses(seed, tabletop, seen)
    renderer = SceneRenderer(tabletop)
    renderer.labels = np.append(naming.labels, np.int32(naming.names.index('wall')))
    size = (WIDTH, HEIGHT)
    views = [(T, renderer.render(sensor_camera(*size), T)) for T in poses]
    frames = list(as_captured(views, seed, size, FRAMES, False))
    labels = [view.labels for _, view in views]
    if seen == 'half':
        valid = [shows_the_half(f.T_world_camera, v.depth_m) for f, (_, v) in
                 zip(frames, views, strict=True)]
        frames = [replace(f, valid=v) for f, v in zip(frames, valid, strict=True)]
        # Masked pixels must not tell the oracle anything either.
        table = naming.names.index('table')
        labels = [np.where(v, mask, np.int32(table)) for mask, v in
                  zip(labels, valid, strict=True)]
    return Capture(tuple(frames), tuple(labels), naming.names)


def shows_the_half(T_world_camera: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Returns which pixels (H, W) show only that half of the room where x is positive."""
    camera = sensor_camera(depth_m.shape[1], depth_m.shape[0])
    directions = camera.directions(camera.pixel_grid())
    points = directions / directions[..., 2:] * depth_m[..., None]
    return transform_points(T_world_camera, points)[..., 0] > 0


def half_of_table(sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns centre (3,) and size (3,), metres, of the space over one half of the table."""
    size = np.array([TABLE_SIZE[0] / 2, TABLE_SIZE[1], 0.3])
    return np.array([sign * size[0] / 2, 0, TABLE_HEIGHT + size[2] / 2]), size


def on_half(tabletop: TabletopScene, sign: float) -> list[int]:
    """Returns the objects that stand entirely on one half of the table."""
    return [k for k, o in enumerate(tabletop.objects)
            if (o.box_min[0] > 0 if sign > 0 else o.box_max[0] < 0)]


def map_layout(seed: int, seen: str, out: Path) -> Path:
    """Returns the map directory, and maps the layout if it is missing."""
    target = out / seen / str(seed)
    if target.exists() and MapDirectory(target).newest() is not None:
        return target
    start, shown = time.monotonic(), capture(seed, seen)
    shutil.rmtree(target, ignore_errors=True)
    mapper = make_mapper('oracle', shown, target, LerfConfig().override(SETTINGS))
    for frame in shown.frames:
        mapper.add_frame(frame)
    while mapper.steps < STEPS:
        mapper.train_for(10.0, STEPS)
    mapper.snapshot()
    print(f'{target}: {len(mapper.learned)} keyframes, {mapper.steps} steps, '
          f'{time.monotonic() - start:.0f} s, PSNR {mapper.quality.psnr:.2f} dB', flush=True)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--seen', choices=SEEN, default='whole')
    parser.add_argument('--out', type=Path, default=OUT)
    a = parser.parse_args()
    for seed in a.seeds:
        map_layout(seed, a.seen, a.out)


if __name__ == '__main__':
    run_quietly(main)
