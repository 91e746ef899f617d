# SPDX-License-Identifier: Apache-2.0
"""Trains nerfstudio's nerfacto on the images of radiance_quality.py, and writes a PSNR curve.

Runs in an environment of its own, with nerfstudio and without lerf_ros (bench/README.md):

    python bench/nerfacto_curve.py out/radiance_quality

Everything is the method's own default but what is stated in `FACTS`.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from functools import reduce
from pathlib import Path

import numpy as np
import torch
import torchmetrics.image.lpip
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.method_configs import method_configs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.engine.optimizers import Optimizers
from radiance_curve import Problem, record_curve
from torch import Tensor

FACTS = {
    'implementation': 'torch', 'pose_optimizer': 'off', 'precision': 'float32',
    'frame': 'mean camera at the origin, mean up along z, largest camera coordinate 1'}
EVAL_RAYS = 4096
OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


class Nerfacto:
    """nerfacto with its optimisers, schedulers and callbacks, on rays from arrays."""

    def __init__(self, problem: Problem, seed: int) -> None:
        torch.manual_seed(seed)
        self.generator = np.random.default_rng(seed)
        self.problem, self.rays = problem, int(problem.rays)
        self.poses = scene_poses(problem.T_world_camera)          # (N, 3, 4), OpenCV axes
        self.directions = torch.from_numpy(problem.directions).float()
        self.train_images = np.flatnonzero(~problem.held_out)
        config = deepcopy(method_configs['nerfacto'])
        model = config.pipeline.model
        model.implementation, model.camera_optimizer.mode = 'torch', 'off'
        self.model = model.setup(
            scene_box=SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3])),
            num_train_data=len(self.train_images), metadata={}, device='cpu', grad_scaler=None)
        optimizers = {k: v for k, v in config.optimizers.items() if k != 'camera_opt'}
        self.optimizers = Optimizers(optimizers, self.model.get_param_groups())
        self.callbacks: list[TrainingCallback] = self.model.get_training_callbacks(
            TrainingCallbackAttributes(optimizers=self.optimizers, grad_scaler=None,
                                       pipeline=None, trainer=None))

    def bundle(self, images: np.ndarray, pixels: np.ndarray, cameras: np.ndarray) -> RayBundle:
        """Returns rays of flat pixels (R,) of images (R,); cameras (R,) count trained images."""
        poses = self.poses[images]
        directions = (poses[:, :, :3] @ self.directions[pixels][..., None])[..., 0]
        return RayBundle(
            origins=poses[:, :, 3].clone(), directions=directions,
            pixel_area=torch.ones(len(pixels), 1),   # used only by methods with cones
            camera_indices=torch.from_numpy(cameras)[:, None])

    def step(self, number: int) -> None:
        """Runs one iteration like nerfstudio's Trainer on a CPU."""
        self.model.train()
        self._call_back(number, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        cameras = self.generator.integers(len(self.train_images), size=self.rays)
        pixels = self.generator.integers(self.problem.pixels_per_image, size=self.rays)
        images = self.train_images[cameras]
        colors = self.problem.images.reshape(len(self.poses), -1, 3)[images, pixels]
        batch = {'image': torch.from_numpy(colors).float() / 255}
        self.optimizers.zero_grad_all()
        outputs = self.model(self.bundle(images, pixels, cameras))
        losses = self.model.get_loss_dict(
            outputs, batch, self.model.get_metrics_dict(outputs, batch))
        reduce(torch.add, losses.values()).backward()
        for optimizer in self.optimizers.optimizers.values():
            optimizer.step()
        for scheduler in self.optimizers.schedulers.values():
            scheduler.step()
        self._call_back(number, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)

    def _call_back(self, number: int, location: TrainingCallbackLocation) -> None:
        for callback in self.callbacks:
            callback.run_callback_at_location(number, location=location)

    @torch.no_grad()
    def render(self, image: int, pixels: np.ndarray) -> np.ndarray:
        """Returns colours (M, 3) as in nerfstudio's evaluation: near plane 0, mean appearance."""
        self.model.eval()
        colors = []
        for start in range(0, len(pixels), EVAL_RAYS):
            part = pixels[start:start + EVAL_RAYS]
            same = np.full(len(part), image)
            colors.append(self.model(self.bundle(same, part, np.zeros_like(same)))['rgb'].numpy())
        return np.concatenate(colors)


def scene_poses(T_world_camera: np.ndarray) -> Tensor:
    """Returns the poses (N, 3, 4) of all images in nerfstudio's scene frame, with OpenCV axes."""
    opengl = torch.from_numpy(T_world_camera @ OPENCV_TO_OPENGL).float()
    poses, _ = auto_orient_and_center_poses(opengl, method='up', center_method='poses')
    poses[:, :, 3] /= poses[:, :, 3].abs().max()
    return poses @ torch.from_numpy(OPENCV_TO_OPENGL).float()


class NoPerceptualMetric(torch.nn.Module):
    """Replaces LPIPS, which would download a network and is not needed."""

    def __init__(self, **_: object) -> None:
        super().__init__()


def without_downloads() -> None:
    """Allows the model to be built offline, since its perceptual metric is not needed."""
    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = NoPerceptualMetric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='where radiance_quality.py --prepare wrote')
    parser.add_argument('--seed', type=int, default=42, help="nerfstudio's default")
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--last', type=int, default=0, help='step to end at; 0: all of them')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    without_downloads()
    problem = Problem.load(arguments.folder / 'problem.npz')
    nerfacto = Nerfacto(problem, arguments.seed)
    record_curve(problem, f'nerfacto, seed {arguments.seed}', nerfacto.step, nerfacto.render,
                 arguments.folder / f'nerfacto_{arguments.seed}.json',
                 {'seed': arguments.seed, 'threads': arguments.threads, **FACTS},
                 arguments.last)


if __name__ == '__main__':
    main()
