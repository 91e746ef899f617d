# SPDX-License-Identifier: Apache-2.0
"""Compares held-out PSNR with nerfstudio's nerfacto, for the same images, rays and steps.

    python bench/radiance_quality.py --data FOLDER --prepare
    python bench/nerfacto_curve.py out/radiance_quality      # in nerfstudio's environment
    python bench/radiance_quality.py --data FOLDER --ours --seeds 0 1 2 --report

FOLDER is in nerfstudio's layout. bench/README.md tells how to make nerfstudio's environment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import yaml
from radiance_curve import Problem, record_curve
from radiance_report import write_report

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.training.learners import RadianceLearner
from lerf_ros.training.ray_batches import KeyframeStore
from lerf_ros.training.scene_measurement import measure_scene

STEPS, RAYS = (0, 50, 100, 200, 400, 600, 800, 1000), 1024
HELD_OUT_EVERY = LerfConfig().keyframes.holdout_every
MEASURED_PART = 4    # one in so many held-out pixels, at random, at all points but the last
EVAL_RAYS = 4096


def prepare(data: Path, factor: float) -> Problem:
    """Returns the images of a folder, shrunk by `factor`, and which of them are held out."""
    largest = max(load_folder(data).frames[0].image.shape[:2])
    frames = list(load_folder(data, max_side=round(largest / factor)).frames)
    camera = frames[0].camera
    if any(frame.camera != camera for frame in frames):
        raise SystemExit('the images must come from one camera')
    held_out = np.arange(len(frames)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    total = int(held_out.sum()) * camera.width * camera.height
    pixels = np.sort(np.random.default_rng(0).permutation(total)[:total // MEASURED_PART])
    return Problem(
        np.stack([frame.image for frame in frames]),
        np.stack([frame.T_world_camera for frame in frames]),
        camera.directions(camera.pixel_grid().reshape(-1, 2)), held_out, pixels,
        np.array(STEPS), np.array(RAYS))


class Ours:
    """The radiance field without language, with all images from the first step on."""

    def __init__(self, problem: Problem, frames: list[Frame], config: LerfConfig) -> None:
        torch.manual_seed(config.training.seed)
        device = torch.device('cpu')
        # Like nerfstudio, from the poses of all images.
        scene = measure_scene(frames, config)
        self.learner = RadianceLearner(config, scene, device,
                                       torch.Generator().manual_seed(config.training.seed))
        self.held_out = KeyframeStore(scene, device)
        self.width = problem.images.shape[2]
        self.row: dict[int, int] = {}
        for i, frame in enumerate(frames):
            if problem.held_out[i]:
                self.row[i] = len(self.held_out)
                self.held_out.add(Keyframe(i, frame))
            else:
                self.learner.add(Keyframe(i, frame))

    def step(self, _: int) -> None:
        self.learner.step()

    @torch.no_grad()
    def render(self, image: int, pixels: np.ndarray) -> np.ndarray:
        """Returns colours (M, 3) of flat pixels (M,) of a held-out image."""
        column_row = torch.from_numpy(np.stack([pixels % self.width, pixels // self.width], -1))
        rows = torch.full((len(pixels),), self.row[image])
        return np.concatenate([
            self.learner.field(self.held_out.gather(row, part).rays).color.numpy()
            for row, part in zip(rows.split(EVAL_RAYS), column_row.split(EVAL_RAYS))])


def our_overrides(problem: Problem, settings: list[str]) -> dict[str, object]:
    """Returns the settings of the comparison, then those of NAME=VALUE."""
    overrides: dict[str, object] = {
        'training.rays': int(problem.rays),
        # All images are there from the start, so none of them is new.
        'scene.keyframes': len(problem.images), 'training.newest_fraction': 0.0}
    for setting in settings:
        name, _, value = setting.partition('=')
        parsed = yaml.safe_load(value)
        overrides[name] = tuple(parsed) if isinstance(parsed, list) else parsed
    return overrides


def train_ours(problem: Problem, arguments: argparse.Namespace) -> None:
    """Writes one curve for each seed, as NAME_SEED.json."""
    frames = list(load_folder(arguments.data, max_side=max(problem.images.shape[1:3])).frames)
    if not np.array_equal(np.stack([frame.image for frame in frames]), problem.images):
        raise SystemExit(f'{arguments.out} was prepared from other images than {arguments.data}')
    overrides = our_overrides(problem, arguments.set)
    config = load_preset(preset_path(arguments.preset)).override(overrides)
    for seed in arguments.seeds:
        ours = Ours(problem, frames, config.override({'training.seed': seed}))
        record_curve(problem, f'{arguments.name}, seed {seed}', ours.step, ours.render,
                     arguments.out / f'{arguments.name}_{seed}.json',
                     {'seed': seed, 'threads': arguments.threads, 'preset': arguments.preset,
                      'overrides': overrides}, arguments.last)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, help='folder with transforms.json')
    parser.add_argument('--out', type=Path, default=Path('out/radiance_quality'))
    parser.add_argument('--factor', type=float, default=4.0, help='by which images are shrunk')
    parser.add_argument('--prepare', action='store_true', help='write the images for both sides')
    parser.add_argument('--ours', action='store_true', help='train the field of this package')
    parser.add_argument('--report', action='store_true', help='write and print all results there')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--preset', default='online')
    parser.add_argument('--set', nargs='+', default=[], metavar='NAME=VALUE',
                        help='further settings of ours')
    parser.add_argument('--name', default='ours', help='of the curves that --ours writes')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--last', type=int, default=0, help='step to end at; 0: all of them')
    arguments = parser.parse_args()
    if (arguments.prepare or arguments.ours) and arguments.data is None:
        parser.error('--prepare and --ours need --data')
    torch.set_num_threads(arguments.threads)
    if arguments.prepare:
        prepare(arguments.data, arguments.factor).save(arguments.out / 'problem.npz')
    if arguments.ours:
        train_ours(Problem.load(arguments.out / 'problem.npz'), arguments)
    if arguments.report:
        print(write_report(arguments.out))


if __name__ == '__main__':
    main()
