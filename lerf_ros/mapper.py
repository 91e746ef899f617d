# SPDX-License-Identifier: Apache-2.0
"""READ FIRST. The whole method on one page: keyframe -> features -> training -> snapshot."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lerf_ros.camera import PinholeCamera
from lerf_ros.config import LerfConfig
from lerf_ros.errors import ConfigError, NoSnapshotError
from lerf_ros.features.cache import FeatureCache
from lerf_ros.features.encoders import ImageTextEncoder
from lerf_ros.features.extractor import FeatureExtractor
from lerf_ros.keyframes.frame import Frame, Keyframe
from lerf_ros.keyframes.selection import is_held_out
from lerf_ros.map_directory import MapDirectory
from lerf_ros.query.surface import PosedCamera
from lerf_ros.query.survey import take_survey
from lerf_ros.settings import to_dict
from lerf_ros.training.checkpoint import field_arrays, load_training, training_arrays
from lerf_ros.training.device import choose_device
from lerf_ros.training.quality import Quality, measure_quality
from lerf_ros.training.ray_batches import KeyframeStore
from lerf_ros.training.scene_measurement import measure_scene, viewing_depth
from lerf_ros.training.trainer import Trainer

# Settings that may change between two runs of one training.
FREE = {('training', 'device'), ('training', 'threads'), ('features', 'cache_megabytes'),
        ('features', 'batch')}


@dataclass(frozen=True)
class MappedView:
    """Where a keyframe was taken from, which of its pixels count, and its row in training.

    row: -1 where the keyframe is held out.
    """

    camera: PinholeCamera
    T_world_camera: np.ndarray
    valid: np.ndarray | None
    row: int


class Mapper:
    """Turns posed images into a map directory. One owner; not thread-safe."""

    def __init__(self, config: LerfConfig, directory: MapDirectory, encoder: ImageTextEncoder,
                 frame_id: str, metric: bool, cache: FeatureCache | None = None) -> None:
        """cache: of features, where the same images may come again; a robot's never do."""
        self.config, self.directory, self.encoder = config, directory, encoder
        self.frame_id, self.metric = frame_id, metric
        self.device = choose_device(config.training.device)
        self.extractor = FeatureExtractor(encoder, config.features, cache)
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
        row = -1 if self._is_held_out(keyframe) else sum(v.row >= 0 for v in self.views)
        self.views.append(MappedView(frame.camera, frame.T_world_camera, frame.valid, row))
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
        if self._is_held_out(keyframe):
            assert self.held_out is not None
            self.held_out.add(keyframe)
            return
        scene, frame = trainer.scene, keyframe.frame
        widths = [width * scene.radius for width in self.config.features.widths]
        features = self.extractor.extract(frame, widths, viewing_depth(frame, scene))
        trainer.add(keyframe, features)

    def _is_held_out(self, keyframe: Keyframe) -> bool:
        return is_held_out(keyframe.index, self.config.keyframes.holdout_every)

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

    def train_for(self, seconds: float, last_step: float = math.inf) -> None:
        """Takes optimisation steps until the time is over, training has settled or last_step."""
        assert self.trainer is not None
        start, rays = time.monotonic(), 0
        while (time.monotonic() - start < seconds and not self.settled
               and self.steps < last_step):
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
        survey = take_survey(trainer.radiance, trainer.language, self.cameras(), trainer.scene,
                             trainer.trained_scales(), self.config)
        info = {'stamp_ns': self.snapshot_stamp_ns, 'steps': trainer.steps,
                'keyframes': len(self.views), 'points': len(survey.index.points_world),
                'trained_scales': list(trainer.trained_scales()),
                'encoder': self.encoder.identity(), 'config': to_dict(self.config),
                'psnr': _json(self.quality.psnr), 'depth_error': _json(self.quality.depth_error)}
        parts = {'field': field_arrays(trainer.radiance, trainer.language),
                 **survey.arrays()}
        if self.config.map.training_state:
            parts['training'] = training_arrays(trainer)
        return self.directory.write_snapshot(parts, info, self.config.map.keep_snapshots)

    def resume(self) -> None:
        """Goes on where the newest snapshot stopped, after the same keyframes were added again.

        Raises NoSnapshotError, ConfigError when training had other settings, and
        MapUnreadableError when the stored training does not fit.
        """
        snapshot = self.directory.newest()
        if snapshot is None or 'training.safetensors' not in snapshot.info['files']:
            raise NoSnapshotError(f'{self.directory.path} holds no training to go on with')
        check_same_training(snapshot.info['config'], self.config)
        assert self.trainer is not None
        load_training(self.trainer, snapshot.arrays('field'), snapshot.arrays('training'))

    def measure_quality(self) -> Quality:
        """PSNR and depth error of the held-out keyframes."""
        if self.trainer is None or self.held_out is None:
            return Quality()
        return measure_quality(self.trainer.radiance, self.held_out, self.trainer.scene.radius)

    def cameras(self) -> list[PosedCamera]:
        """Where all keyframes were taken from, with their refined poses, in the scene frame."""
        trainer = self.trainer
        assert trainer is not None
        return [PosedCamera(view.camera, trainer.radiance_learner.refined(
            view.row, trainer.scene.pose_to_scene(view.T_world_camera)), view.valid)
            for view in self.views]


def check_same_training(stored: dict[str, Any], config: LerfConfig) -> None:
    """ConfigError, naming the settings, when a map was trained with others."""
    sections = ('keyframes', 'scene', 'features', 'field', 'language', 'poses', 'training')
    # As they are stored: lists for tuples.
    now = json.loads(json.dumps(to_dict(config)))
    changed = sorted(f'{part}.{name}' for part in sections for name in now[part]
                     if stored[part].get(name) != now[part][name]
                     and (part, name) not in FREE)
    if changed:
        raise ConfigError(f'the map was trained with other settings ({", ".join(changed)}): '
                          'resume with the same ones, or train into another map directory')


def _running(mean: float, value: float) -> float:
    return value if math.isnan(mean) else mean + 0.02 * (value - mean)


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
