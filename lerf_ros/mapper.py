# SPDX-License-Identifier: Apache-2.0
"""Orchestrates the method (lerf_ros/lerf.py): keyframe -> features -> training -> snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lerf_ros import lerf
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.encoders.image_text import ImageTextEncoder, load_encoder
from lerf_ros.errors import (
    MapUnreadableError,
    NothingToUndoError,
    StorageError,
    TrainingFailedError,
)
from lerf_ros.field.language_field import LanguageField
from lerf_ros.frames.capture_check import tells_depth
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.frames.selection import is_held_out
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.surface import PosedCamera
from lerf_ros.index.survey import ViewCache
from lerf_ros.mapping.keyframes import KeyframeQueue, LearnedKeyframes
from lerf_ros.mapping.map_looks import MapLooks
from lerf_ros.mapping.moves import MoveCheck
from lerf_ros.mapping.outside import OutsideViews
from lerf_ros.mapping.restart import EarlierRun, find_earlier_run
from lerf_ros.settings import to_dict
from lerf_ros.storage.durable import JsonObject
from lerf_ros.storage.map_directory import MapDirectory, scene_as_json
from lerf_ros.training.annealing import steps_to_rest
from lerf_ros.training.checkpoint import field_arrays, training_arrays
from lerf_ros.training.devices import choose_device, free_megabytes, is_out_of_memory
from lerf_ros.training.learners import Trainer
from lerf_ros.training.quality import Quality, measure_quality
from lerf_ros.training.ray_batches import KeyframeStore
from lerf_ros.training.scene_measurement import measure_scene
from lerf_ros.training.step_guard import StepGuard

MOST_FIRST = 64     # keyframes that are looked at for depth, or for a camera that moved


class Mapper:
    """Turns posed images into a map directory. One owner; not thread-safe."""

    def __init__(self, config: LerfConfig, directory: MapDirectory, encoder: ImageTextEncoder,
                 frame_id: str, metric: bool, cache: FeatureCache | None = None) -> None:
        """cache: keeps features on disk for images that come again, as after a restart."""
        self.config, self.directory, self.encoder = config, directory, encoder
        self.frame_id, self.metric = frame_id, metric
        self.device = choose_device(config.training.device)
        self.extractor = FeatureExtractor(encoder, config.features, cache)
        self.trainer: Trainer | None = None
        self.guard: StepGuard | None = None
        self.held_out: KeyframeStore | None = None
        self.waiting = KeyframeQueue(directory.keyframes)
        self.learned = LearnedKeyframes(config.keyframes, free_megabytes(self.device))
        self.moves, self.outside = MoveCheck(self.learned), OutsideViews(self.learned, metric)
        self.looks = MapLooks.of(encoder, directory.keyframes, config.index, self.learned)
        self.weak_areas = np.zeros((0, 3))      # world, as of the newest snapshot
        self.quality, self.view_cache = Quality(), ViewCache()  # as of the newest snapshot
        self.loss = self.color_error = math.nan
        self.rays_per_second = 0.0
        self.steps_at_newest = self.snapshot_stamp_ns = self.points = 0     # points of the index
        self.now_ns = time.time_ns      # the clock that stamps snapshots
        self._earlier: EarlierRun | None = None     # until all of its keyframes are learned again

    @classmethod
    def open(cls, path: str | Path, config: LerfConfig | None = None, metric: bool = False,
             encoder: ImageTextEncoder | None = None) -> Mapper:
        """Begins a map in a new or an empty folder, or resumes the one that is there.

        metric: whether the poses' lengths are metres. encoder: the one that `config` names if None.
        Raises ForeignFolderError for any other folder, EncoderUnavailableError, and as `restore`.
        """
        config = config or LerfConfig()
        if config.training.field == 'none' and cls is Mapper:
            from lerf_ros.mapping.fused_map import FusedMap
            return FusedMap.open(path, config, metric, encoder)
        mapper = cls(config, MapDirectory(path, metric), encoder or load_encoder(
            config.features, str(choose_device(config.training.device))), 'map', metric)
        mapper.restore()
        while mapper.learn_next():
            pass
        return mapper

    def learn(self, frames: Iterable[Frame], steps: int) -> int:
        """Takes all frames as keyframes, trains up to `steps` and writes a snapshot.

        Returns the snapshot's number. Training ends earlier where it has settled
        (training.settle_steps). Raises StorageError and TrainingFailedError.
        """
        for frame in frames:
            self.add_frame(frame)
        while self.ready and self.steps < steps and not self.settled:
            self.train_for(1.0, steps)
        return self.snapshot()

    def add_frame(self, frame: Frame) -> None:
        """Takes a frame as the next keyframe; the first few decide where the scene is."""
        self.store(frame)
        while self.learn_next():
            pass

    def store(self, frame: Frame) -> bool:
        """Takes a frame as the next keyframe, to be learned later; returns whether it is stored."""
        if not self.waiting.next_index:
            self.directory.create(self.meta(None))
            self.waiting.next_index = self.directory.keyframes.free_index()
        return self.waiting.add(frame)

    def learn_next(self) -> bool:
        """Learns the oldest waiting keyframe; returns False for none, or too few to begin."""
        first = [] if self.trainer is not None else self._first_frames()
        if not len(self.waiting) or (self.trainer is None and not first):
            return False
        trainer = self.trainer or self._start(measure_scene(first, self.config))
        try:
            keyframe = self.waiting.pop()
        except MapUnreadableError:
            self._resume_when_complete(trainer)
            raise
        self._learn(trainer, keyframe)
        self.steps_at_newest = trainer.radiance.steps
        self._resume_when_complete(trainer)
        return True

    def _resume_when_complete(self, trainer: Trainer) -> None:
        """Resumes the earlier training once its keyframes are learned, or cannot be read."""
        if self._earlier is not None and self._earlier.complete(len(self.waiting)):
            self._earlier.resume(trainer)
            self._earlier = None
            self.steps_at_newest = trainer.radiance.newest_step

    def _first_frames(self) -> list[Frame]:
        """Returns the frames to measure the scene from; none while they are too few to tell."""
        count = self.config.scene.keyframes
        for most in (count, MOST_FIRST) if len(self.waiting) >= count else ():
            frames = [keyframe.frame for keyframe in self.waiting.first(most)]
            if tells_depth(frames):
                return frames
        return []

    def _start(self, scene: SceneFrame) -> Trainer:
        self.trainer = Trainer(self.config, scene, self.device)
        self.guard = StepGuard(self.trainer)
        self.held_out = KeyframeStore(scene, self.device)
        self.directory.create(self.meta(scene))
        return self.trainer

    def meta(self, scene: SceneFrame | None) -> JsonObject:
        """Returns the contents of meta.json; scene is None until it is measured."""
        return {'frame_id': self.frame_id, 'metric': self.metric,
                'scene': scene and scene_as_json(scene),
                'encoder': self.encoder.identity(), 'config': to_dict(self.config)}

    def _learn(self, trainer: Trainer, keyframe: Keyframe) -> None:
        held_out = is_held_out(keyframe.index, self.config.keyframes.holdout_every)
        # What training stopped with fits, and goes on with just that.
        instead_of = None if self.restoring else \
            self.learned.to_forget(keyframe, held_out, self.bytes_used())
        instead_of = self._take(trainer, keyframe, held_out, instead_of)
        if instead_of is not None and self.learned.deletes:
            self.waiting.forget(instead_of)
        self._unlearn(self.learned.add(keyframe, held_out, instead_of))
        self.outside.note(keyframe.index, trainer.scene)
        if self.moves.learned(keyframe.index):
            self.undo_move()

    def _take(self, trainer: Trainer, keyframe: Keyframe, held_out: bool,
              instead_of: int | None) -> int | None:
        """Hands a keyframe to the training, or to the measuring of quality.

        Where memory runs out it is tried again with that of the steps, and in the place of another
        keyframe. Returns whose place it took. Raises TrainingFailedError.
        """
        reason = ''
        for place in (instead_of, instead_of, self.learned.most_redundant(keyframe, held_out)):
            try:
                if held_out:
                    self._store_of(held_out).add(keyframe, place)
                else:
                    trainer.add(keyframe, lerf.embed(keyframe.frame, trainer.scene, self.extractor,
                                                     self.config.features.widths), place)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                assert self.guard is not None
                self.guard.free_memory()
                reason = str(error)
            else:
                if place != instead_of:
                    self.learned.grow_no_more(reason)
                return place
        raise TrainingFailedError(
            f'keyframe {keyframe.index} does not fit into the memory of {self.device}, even in the '
            f'place of another ({reason.partition(chr(10))[0]}): end other programs there, choose '
            'a smaller encoder (features.*), or smaller images')

    def move_keyframes(self, poses: Mapping[int, np.ndarray]) -> int:
        """Takes better poses (4, 4) by index, as after a loop closure; returns how many moved.

        That is 0 where depth speaks against them. The field follows as it trains on.
        """
        moved = self.learned.moved(poses)
        if self.moves.refused(poses):
            return 0
        before = {index: self.learned[index].T_world_camera for index in moved}
        number = self.directory.keyframes.before_newest_move()[0] + 1
        self._set_poses(moved)
        waiting = self.waiting.move(poses, moved, number)
        if moved:
            self.moves.made(before)
        return len(moved) + waiting

    def undo_move(self) -> int:
        """Moves keyframes back to before their newest move; returns how many.

        Raises NothingToUndoError.
        """
        _, poses = self.directory.keyframes.before_newest_move()
        if not poses:
            raise NothingToUndoError('no keyframe of this map has moved, or all moves are undone')
        self._set_poses(self.learned.moved(poses))
        self.waiting.undo_move(poses)
        self.moves.undone()
        return len(poses)

    def _set_poses(self, poses: Mapping[int, np.ndarray]) -> None:
        """Gives learned keyframes poses (4, 4) by index."""
        for index, T_world_camera in poses.items():
            if self.learned[index].held_out:
                self._store_of(True).set_pose(index, T_world_camera)
            else:
                assert self.trainer is not None
                self.trainer.radiance.move(index, T_world_camera)
        self._unlearn(self.learned.move(poses))
        if poses:
            self.steps_at_newest = self.steps

    def _unlearn(self, stale: Mapping[int, np.ndarray]) -> None:
        """Stops learning from stale pixels (H, W) bool by index, which show what has gone."""
        for index, pixels in stale.items():
            known = self.learned[index]
            usable = ~pixels if known.valid is None else known.valid & ~pixels
            self._store_of(known.held_out).set_usable(index, usable)

    def _store_of(self, held_out: bool) -> KeyframeStore:
        assert self.trainer is not None and self.held_out is not None
        return self.held_out if held_out else self.trainer.radiance.store

    def bytes_used(self) -> int:
        """Returns the memory of the keyframes' pixels and features."""
        if self.trainer is None or self.held_out is None:
            return 0
        return (self.trainer.radiance.store.bytes_used() + self.held_out.bytes_used()
                + self.trainer.language.targets.bytes_used())

    @property
    def ready(self) -> bool:
        """Whether there are keyframes to train on."""
        return (self.trainer is not None and len(self.trainer.radiance.store) > 0
                and self._earlier is None)

    @property
    def restoring(self) -> bool:
        """Whether keyframes of an earlier run are learned again before its training resumes."""
        return self._earlier is not None

    @property
    def stored(self) -> int:
        """Keyframes on the disk."""
        return self.directory.keyframes.count

    @property
    def steps(self) -> int:
        """Training steps so far, also while those of an earlier process are not resumed yet."""
        if self._earlier is not None:
            return self._earlier.steps
        return self.trainer.radiance.steps if self.trainer else 0

    @property
    def settled(self) -> bool:
        """Whether the newest keyframe has been trained on for long enough."""
        return not len(self.waiting) and not self.steps_to_settle()

    def steps_to_settle(self) -> float:
        """Returns how many steps are left until training rests, inf where it never does."""
        return steps_to_rest(self.config.training, self.steps_at_newest, self.steps)

    def train_for(self, seconds: float, last_step: float = math.inf) -> None:
        """Takes optimisation steps until the time is over, training has settled or last_step.

        Raises TrainingFailedError when it cannot go on, whatever is tried.
        """
        assert self.guard is not None
        start, rays = time.monotonic(), 0
        while (time.monotonic() - start < seconds and not self.settled
               and self.steps < last_step):
            if (report := self.guard.step()) is None:
                continue
            rays += report.rays
            self.loss = _running(self.loss, report.loss)
            self.color_error = _running(self.color_error, report.color_error)
        self.rays_per_second = rays / max(time.monotonic() - start, 1e-6)

    def snapshot(self) -> int:
        """Measures quality, builds the language index and writes both with the fields.

        Returns the snapshot's number, 0 before the first training step. Raises StorageError when
        the disk does not take it.
        """
        trainer, language = self.trainer, self._mean_language()
        if trainer is None or language is None or not trainer.radiance.steps:
            return 0
        self.quality, self.snapshot_stamp_ns = self.measure_quality(), self.now_ns()
        trained_scales = trainer.language.trained_scales()
        final = self.settled or not self.config.training.settle_steps   # or there is no end
        survey = lerf.index(
            trainer.radiance.field, language, self.cameras(), trainer.scene, trained_scales,
            self.config, self.learned.changes.contradicted,
            None if self.settled else self.view_cache, self.looks.within(everything=final))
        self.weak_areas, self.points = survey.weak_areas, len(survey.index.points)
        info = {**self.info(trainer), 'stamp_ns': self.snapshot_stamp_ns, 'points': self.points,
                'trained_scales': list(trained_scales), 'settled': final,
                'learned_until': self.waiting.learned_until, **self.quality.known()}
        parts: dict[str, Mapping[str, np.ndarray]] = {
            'field': field_arrays(trainer.radiance.field, language), **survey.arrays(),
            **self.outside.resolution(survey)}
        if self.config.map.training_state:
            parts['training'] = training_arrays(trainer)
        try:
            self.directory.keyframes.write_transforms()
            return self.directory.write_snapshot(parts, info, self.config.map.keep_snapshots)
        except OSError as error:
            raise StorageError(f'no snapshot could be written: {error}') from error

    def checkpoint(self) -> None:
        """Writes only what resuming the training needs. Raises StorageError."""
        trainer, language = self.trainer, self._mean_language()
        if trainer is None or language is None:
            return
        try:
            self.directory.write_checkpoint(
                {'field': field_arrays(trainer.radiance.field, language),
                 'training': training_arrays(trainer)}, self.info(trainer))
        except OSError as error:
            raise StorageError(f'no checkpoint could be written: {error}') from error

    def _mean_language(self) -> LanguageField | None:
        """The language field that is written; None while there is nothing to train on."""
        return self.trainer.language.mean_field if self.trainer and self.ready else None

    def info(self, trainer: Trainer) -> JsonObject:
        """Returns what a manifest says of the training; rows: indices in the order of the rows."""
        return {'steps': trainer.radiance.steps, 'keyframes': len(self.learned),
                'rows': trainer.radiance.store.indices(),
                'held_out': self._store_of(True).indices(),
                'encoder': self.encoder.identity(), 'config': to_dict(self.config)}

    def restore(self) -> None:
        """Resumes the map that the directory holds: its keyframes wait to be learned again.

        When those of the newest training state are learned, training resumes from it; keyframes
        that came later follow. Reads no image yet. Raises MapUnreadableError,
        EncoderMismatchError and ConfigError for a map that this mapper cannot go on with.
        """
        earlier = find_earlier_run(self.directory, self.meta(None))
        if earlier is None:
            return
        self.waiting.resume(earlier.indices, earlier.next_index)
        if earlier.scene is not None:
            self._start(earlier.scene)
            self._earlier = earlier if earlier.state is not None else None

    def measure_quality(self) -> Quality:
        """Measures PSNR and depth error on the held-out keyframes."""
        if self.trainer is None or self.held_out is None:
            return Quality()
        return measure_quality(self.trainer.radiance.field, self.held_out,
                               self.trainer.scene.radius)

    def cameras(self) -> list[PosedCamera]:
        """Returns the cameras of all keyframes with their refined poses, in the scene frame."""
        assert self.trainer is not None
        return [PosedCamera(k.camera, self.trainer.radiance.refined(
            k.index, self.trainer.scene.pose_to_scene(k.T_world_camera)), k.valid, k.index)
            for k in self.learned]


def _running(mean: float, value: float) -> float:
    return value if math.isnan(mean) else mean + 0.02 * (value - mean)     # of about 50 steps
