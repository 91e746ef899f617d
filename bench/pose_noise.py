# SPDX-License-Identifier: Apache-2.0
"""Measures what poses.refine does to noisy poses, and to true ones, on simulated layouts.

    python bench/pose_noise.py --seeds 0 1 2 --noise 0:0 2.5:0.5 10:2

For each layout and noise (millimetres:degrees, root mean square) a radiance field is trained twice,
with and without refinement. Printed, and written to out/bench/pose_noise.json: the root mean square
error of the keyframes' poses before and after, without their common shift in `_apart`, and PSNR and
depth error on held-out keyframes whose poses are true.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from simulated_layouts import frames

from lerf_ros.commands.options import overrides
from lerf_ros.config import LerfConfig
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.training.learners import RadianceLearner
from lerf_ros.training.pose_refinement import rotation_matrix
from lerf_ros.training.quality import measure_quality
from lerf_ros.training.ray_batches import KeyframeStore
from lerf_ros.training.scene_measurement import measure_scene

CAMERA = PinholeCamera(320, 240, 275.0, 275.0, 160.0, 120.0)
HELD_OUT_EVERY = 8


def disturbed(frame: Frame, rng: np.random.Generator, noise_mm: float, noise_deg: float) -> Frame:
    """Returns the frame with a random error of its pose, turned about the camera itself."""
    T = frame.T_world_camera.copy()
    turn = torch.from_numpy(rng.standard_normal(3) * np.radians(noise_deg) / 3 ** 0.5)
    T[:3, :3] = rotation_matrix(turn[None])[0].numpy() @ T[:3, :3]
    T[:3, 3] += rng.standard_normal(3) * noise_mm / 1000 / 3 ** 0.5
    return replace(frame, T_world_camera=T)


def pose_errors(poses: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns root mean square errors of poses (K, 4, 4): mm, also without the mean, and degrees.
    """
    shift = 1000 * (poses[:, :3, 3] - truth[:, :3, 3])
    cosine = (np.einsum('kij,kij->k', poses[:, :3, :3], truth[:, :3, :3]) - 1) / 2
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    apart = shift - shift.mean(0)
    return {'mm': rms(np.linalg.norm(shift, axis=1)),
            'mm_apart': rms(np.linalg.norm(apart, axis=1)),
            'degrees': rms(angle)}


def rms(values: np.ndarray) -> float:
    return round(float(np.sqrt(np.square(values).mean())), 2)


def trained(captured: list[Frame], given: list[Frame], scene: SceneFrame, config: LerfConfig,
            steps: int) -> dict[str, float]:
    """Trains on the poses of `given`; returns quality, and the errors of the refined poses."""
    torch.manual_seed(config.training.seed)
    device = torch.device('cpu')
    learner = RadianceLearner(config, scene, device,
                              torch.Generator().manual_seed(config.training.seed))
    held_out, learned = KeyframeStore(scene, device), []
    for i, frame in enumerate(given):
        if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1:
            held_out.add(Keyframe(i, captured[i]))
        else:
            learner.add(Keyframe(i, frame))
            learned.append(i)
    while learner.steps < steps:
        learner.step()
    poses = np.stack([to_world(scene, learner.refined(
        i, scene.pose_to_scene(given[i].T_world_camera))) for i in learned])
    quality = measure_quality(learner.field, held_out, scene.radius)
    return {**pose_errors(poses, np.stack([captured[i].T_world_camera for i in learned])),
            'psnr_dB': round(quality.psnr, 2),
            'depth_error_mm': round(1000 * quality.depth_error, 2)}


def to_world(scene: SceneFrame, T_scene_camera: np.ndarray) -> np.ndarray:
    T = T_scene_camera.copy()
    T[:3, 3] = scene.to_world(T[None, :3, 3])[0]
    return T


def measure(arguments: argparse.Namespace, config: LerfConfig) -> list[dict]:
    """Prints and returns a row for each layout, noise, and refinement off and on."""
    rows = []
    for seed in arguments.seeds:
        captured = frames(TabletopScene.generate(seed), seed, 30.0, 1.0, arguments.out, CAMERA)
        if arguments.no_depth:
            captured = [replace(frame, depth_m=None) for frame in captured]
        scene = measure_scene(captured, config)
        for noise in arguments.noise:
            noise_mm, noise_deg = (float(value) for value in noise.split(':'))
            rng = np.random.default_rng([seed, 77])
            given = [disturbed(frame, rng, noise_mm, noise_deg) for frame in captured]
            for refine in (False, True)[arguments.refined_only:]:
                rows.append({'seed': seed, 'noise': noise, 'refine': refine, **trained(
                    captured, given, scene, config.override({'poses.refine': refine}),
                    arguments.steps)})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--noise', nargs='+', default=['0:0', '2.5:0.5', '10:2'])
    parser.add_argument('--steps', type=int, default=1000)
    parser.add_argument('--no-depth', action='store_true', help='images alone')
    parser.add_argument('--refined-only', action='store_true', help='not without refinement')
    parser.add_argument('--set', nargs='+', default=[], metavar='NAME=VALUE')
    parser.add_argument('--out', type=Path, default=Path('out/bench/frames'))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = measure(arguments, LerfConfig().override(overrides(arguments.set)))
    (arguments.out.parent / 'pose_noise.json').write_text(json.dumps(rows, indent=1))


if __name__ == '__main__':
    run_quietly(main)
