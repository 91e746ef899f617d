# SPDX-License-Identifier: Apache-2.0
"""READ FIRST. The whole method on one page: keyframe -> features -> training -> snapshot."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from lerf_ros.camera import PinholeCamera, transform_points
from lerf_ros.config import LerfConfig
from lerf_ros.features.encoders import ImageTextEncoder
from lerf_ros.features.extractor import FeatureExtractor
from lerf_ros.field.scene_frame import SceneFrame, measure_from_focus, measure_from_points
from lerf_ros.keyframes.frame import Frame, Keyframe
from lerf_ros.map_directory import MapDirectory
from lerf_ros.query.language_index import LanguageIndex, build_index
from lerf_ros.query.surface import find_surface, view_grid
from lerf_ros.settings import to_dict
from lerf_ros.training.checkpoint import field_arrays
from lerf_ros.training.ray_batches import KeyframeStore
from lerf_ros.training.trainer import Trainer

QUALITY_RAYS = 4096   # rays of held-out keyframes that measure PSNR and depth error


@dataclass(frozen=True)
class Quality:
    """Held-out quality: PSNR in dB and median depth error in world units; NaN where unknown."""

    psnr: float = math.nan
    depth_error: float = math.nan


@dataclass(frozen=True)
class MappedView:
    """Where a keyframe was taken from, and which of its pixels count."""

    camera: PinholeCamera
    T_world_camera: np.ndarray
    valid: np.ndarray | None


class Mapper:
    """Turns posed images into a map directory. One owner; not thread-safe."""

    def __init__(self, config: LerfConfig, directory: MapDirectory, encoder: ImageTextEncoder,
                 frame_id: str, metric: bool) -> None:
        self.config, self.directory, self.encoder = config, directory, encoder
        self.frame_id, self.metric = frame_id, metric
        self.device = choose_device(config.training.device)
        self.extractor = FeatureExtractor(encoder, config.features)
        self.trainer: Trainer | None = None
        self.held_out: KeyframeStore | None = None
        self.views: list[MappedView] = []
        self.quality = Quality()
        self.snapshot_stamp_ns = 0
        self.loss = self.color_error = math.nan
        self.rays_per_second = 0.0
        self.steps_at_newest = 0
        self._waiting: list[Keyframe] = []

    def add_frame(self, frame: Frame) -> None:
        """Takes a frame as the next keyframe; the first few decide where the scene is."""
        keyframe = Keyframe(len(self.views), frame)
        self.views.append(MappedView(frame.camera, frame.T_world_camera, frame.valid))
        self.directory.add_keyframe(keyframe)
        self._waiting.append(keyframe)
        if self.trainer is None and len(self._waiting) < self.config.scene.keyframes:
            return
        trainer = self.trainer or self._start()
        for waiting in self._waiting:
            self._learn(trainer, waiting)
        self._waiting.clear()
        self.steps_at_newest = trainer.steps

    def _start(self) -> Trainer:
        scene = measure_scene([k.frame for k in self._waiting], self.config)
        self.trainer = Trainer(self.config, scene, self.device)
        self.held_out = KeyframeStore(scene, self.device)
        self.directory.create({
            'frame_id': self.frame_id, 'metric': self.metric,
            'scene': {'center': list(scene.center), 'radius': scene.radius},
            'encoder': self.encoder.identity(), 'config': to_dict(self.config)})
        return self.trainer

    def _learn(self, trainer: Trainer, keyframe: Keyframe) -> None:
        every = self.config.keyframes.holdout_every
        if every and keyframe.index % every == every - 1:
            assert self.held_out is not None
            self.held_out.add(keyframe)
            return
        scene, frame = trainer.scene, keyframe.frame
        widths = [width * scene.radius for width in self.config.features.widths]
        features = self.extractor.extract(frame, widths, viewing_depth(frame, scene))
        trainer.add(keyframe, features)

    @property
    def ready(self) -> bool:
        """Whether there is something to train on."""
        return self.trainer is not None and len(self.trainer.store) > 0

    @property
    def steps(self) -> int:
        return self.trainer.steps if self.trainer else 0

    @property
    def settled(self) -> bool:
        """Whether the newest keyframe has been trained on for long enough."""
        limit = self.config.training.settle_steps
        return bool(limit) and self.steps - self.steps_at_newest >= limit

    def train_for(self, seconds: float) -> None:
        """Takes optimisation steps until the time is over or training has settled."""
        assert self.trainer is not None
        start, rays = time.monotonic(), 0
        while time.monotonic() - start < seconds and not self.settled:
            report = self.trainer.step()
            rays += report.rays
            # Running means over about the last 50 steps.
            self.loss = _running(self.loss, report.loss)
            self.color_error = _running(self.color_error, report.color_error)
        self.rays_per_second = rays / max(time.monotonic() - start, 1e-6)

    def snapshot(self) -> int:
        """Measures quality, builds the language index and writes both fields; returns its number.

        Before the first training step there is nothing to write: returns 0.
        """
        trainer = self.trainer
        if trainer is None or trainer.language is None or not trainer.steps:
            return 0
        self.quality, self.snapshot_stamp_ns = self.measure_quality(), time.time_ns()
        index = self.build_index()
        info = {'stamp_ns': self.snapshot_stamp_ns, 'steps': trainer.steps,
                'keyframes': len(self.views), 'points': len(index.points_world),
                'psnr': _json(self.quality.psnr), 'depth_error': _json(self.quality.depth_error)}
        return self.directory.write_snapshot(
            {'field': field_arrays(trainer.radiance, trainer.language), 'index': index.arrays()},
            info, self.config.map.keep_snapshots)

    def build_index(self) -> LanguageIndex:
        """Surface points of the field from all keyframes' views, with the language there."""
        trainer, c = self.trainer, self.config
        assert trainer is not None and trainer.language is not None
        pixels = sum(v.camera.width * v.camera.height for v in self.views)
        step = max(1, math.ceil(math.sqrt(pixels / c.index.rays)))
        views = []
        for view in self.views:
            T = view.T_world_camera.copy()
            T[:3, 3] = trainer.scene.to_scene(T[:3, 3])
            views.append(view_grid(view.camera, T, step, view.valid, self.device))
        surface = find_surface(trainer.radiance, views, c.index, c.field.language_samples)
        return build_index(surface, trainer.language, trainer.scene, c.index.scales, c.index.rank)

    @torch.no_grad()
    def measure_quality(self) -> Quality:
        """PSNR and depth error over a grid of pixels of the held-out keyframes."""
        if self.trainer is None or not self.held_out or not len(self.held_out):
            return Quality()
        store, color, depth = self.held_out, [], []
        each = max(QUALITY_RAYS // len(store), 64)
        for row in range(len(store)):
            batch = store.grid_of(row, each)
            out = self.trainer.radiance(batch.rays)
            color.append((out.color - batch.colors).square().mean(-1))
            assert batch.rays.depth is not None
            depth.append((out.distance - batch.rays.depth).abs())
        error = torch.cat(depth)
        error = error[torch.isfinite(error)]
        return Quality(
            -10 * math.log10(max(float(torch.cat(color).mean()), 1e-10)),
            float(error.median()) * self.trainer.scene.radius if len(error) else math.nan)


def measure_scene(frames: list[Frame], config: LerfConfig) -> SceneFrame:
    """The frame as configured, or from the depth of the frames, or from their optical axes."""
    points = [p for p in (depth_points(frame) for frame in frames) if len(p)]
    if points:
        cameras = np.stack([f.T_world_camera[:3, 3] for f in frames])
        scene = measure_from_points(np.concatenate(points), cameras)
    else:
        scene = measure_from_focus([f.T_world_camera for f in frames])
    x, y, z = config.scene.center or scene.center
    return SceneFrame((x, y, z), config.scene.radius or scene.radius)


def depth_points(frame: Frame, step: int = 16) -> np.ndarray:
    """World points (N, 3) of every step-th pixel with known depth."""
    if frame.depth_m is None:
        return np.zeros((0, 3))
    pixels = frame.camera.pixel_grid()[::step, ::step].reshape(-1, 2)
    z = frame.depth_m[::step, ::step].reshape(-1)
    known = np.isfinite(z) & (z > 0)
    if frame.valid is not None:
        known &= frame.valid[::step, ::step].reshape(-1)
    directions = frame.camera.directions(pixels[known])
    points_camera = directions * (z[known] / directions[:, 2])[:, None]
    return transform_points(frame.T_world_camera, points_camera)


def viewing_depth(frame: Frame, scene: SceneFrame) -> float:
    """Typical z-depth of what the frame shows, world units: measured, or to the scene's centre."""
    if frame.depth_m is not None:
        known = frame.depth_m[np.isfinite(frame.depth_m) & (frame.depth_m > 0)]
        if len(known):
            return float(np.median(known))
    return float(np.linalg.norm(frame.T_world_camera[:3, 3] - np.asarray(scene.center)))


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where torch has one."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    return torch.device(name)


def _running(mean: float, value: float) -> float:
    return value if math.isnan(mean) else mean + 0.02 * (value - mean)


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
