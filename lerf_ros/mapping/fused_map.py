# SPDX-License-Identifier: Apache-2.0
"""A map without a field (`training.field: none`): measured points with the mean of what is seen.

Nothing is trained, so a map is there as soon as its keyframes are encoded; it needs depth. What it
cannot do is what a field does: render views, and fill in what depth missed. Keyframes are kept,
forgotten, moved and checked as in any map; each snapshot fuses all of them anew, so that a better
pose or a thing that has gone counts at once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import overload

import cv2
import numpy as np

from lerf_ros import lerf
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.errors import ConfigError, MapUnreadableError, StorageError
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.surface import PosedCamera
from lerf_ros.mapping.fusion import fused_survey
from lerf_ros.mapping.keyframes import LearnedKeyframe
from lerf_ros.mapping.map_looks import Stale
from lerf_ros.mapping.restart import find_earlier_run
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.settings import to_dict
from lerf_ros.storage.keyframe_files import KeyframeFiles
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training.quality import Quality
from lerf_ros.training.scene_measurement import measure_scene

REST_S = 5.0        # without a keyframe for so long the map is at rest
PAUSE_S = 0.2       # between two looks for keyframes
AROUND = 0.05       # part of an image's width, around what is stale, that is not used either
NEEDS_DEPTH = ('without a field (training.field none) a map is made of measured depth, and these '
               'images have none: give depth images, or train a field (training.field lerf)')
log = logging.getLogger(__name__)


class FusedMap(SingleMap):
    """Turns keyframes with depth into a map directory, without training; steps count changes."""

    def __init__(self, config: LerfConfig, directory: MapDirectory, encoder: ImageTextEncoder,
                 frame_id: str, metric: bool, cache: FeatureCache | None = None) -> None:
        """Keeps no keyframe out: there is no rendering whose quality could be measured."""
        super().__init__(config.override({'keyframes.holdout_every': 0}), directory, encoder,
                         frame_id, metric, cache)
        self._scene: SceneFrame | None = None
        self._features: dict[int, KeyframeFeatures] = {}     # by index of the keyframe
        self._changes, self._newest_at = 0, time.monotonic()
        self._restored = 0      # the first index that no earlier process, or opening, has stored

    def learn_next(self) -> bool:
        """Encodes the oldest waiting keyframe; returns False for none, or too few to begin.

        Raises ConfigError where the first ones have no depth.
        """
        scene = self._scene or self._begun()
        if scene is None or not len(self.waiting):
            return False
        keyframe = self.shown(self.waiting.pop())
        instead_of = self.learned.to_forget(keyframe, False, self.bytes_used())
        self._features[keyframe.index] = lerf.embed(
            keyframe.frame, scene, self.extractor, self.config.features.widths)
        if instead_of is not None:
            del self._features[instead_of]
            if self.learned.deletes:
                self.waiting.forget(instead_of)
        self.learned.add(keyframe, False, instead_of)
        self.outside.note(keyframe.index, scene)
        if self.moves.learned(keyframe.index):
            self.undo_move()
        if keyframe.index < self._restored:
            self._changes += 1
        else:
            self._changed()
        return True

    def shown(self, keyframe: Keyframe) -> Keyframe:
        """Returns a keyframe with the pixels that count for this map."""
        return keyframe

    def _begun(self) -> SceneFrame | None:
        """Measures the scene from the first keyframes; None while they are too few."""
        first = self._first_frames()
        if not first:
            return None
        if all(frame.depth_m is None for frame in first):
            raise ConfigError(NEEDS_DEPTH)
        self._scene = measure_scene(first, self.config)
        self.directory.create(self.meta(self._scene))
        return self._scene

    def _changed(self) -> None:
        self._changes, self._newest_at = self._changes + 1, time.monotonic()

    def _set_poses(self, poses: Mapping[int, np.ndarray]) -> None:
        self.learned.move(poses)
        if poses:
            self._changed()

    def bytes_used(self) -> int:
        """Returns the memory of the keyframes' features."""
        return sum(level.ids.nbytes + level.weights.nbytes for features in self._features.values()
                   for level in features.levels) + sum(
            features.dense.nbytes for features in self._features.values())

    @property
    def ready(self) -> bool:
        """Whether there are keyframes to fuse."""
        return bool(self._features)

    @property
    def steps(self) -> int:
        """Keyframes that were taken or moved so far: a snapshot of more of them is a newer one."""
        return self._changes

    @property
    def settled(self) -> bool:
        """Whether no keyframe has come for a while."""
        return not len(self.waiting) and time.monotonic() - self._newest_at > REST_S

    def train_for(self, seconds: float, last_step: float = math.inf) -> None:
        """Waits for keyframes: there is nothing to train."""
        time.sleep(min(seconds, PAUSE_S))

    def seconds_to_settle(self) -> float:
        """Returns how long it takes until the map rests if no keyframe comes."""
        return max(REST_S - (time.monotonic() - self._newest_at), 0.0)

    def healthy(self) -> bool:
        """Whether the map may be written: there are no weights that could be spoiled."""
        return True

    def measure_quality(self) -> Quality:
        """Returns that nothing is known: no view is rendered."""
        return Quality()

    def cameras(self) -> list[PosedCamera]:
        """Returns the cameras of all keyframes, in the scene frame."""
        assert self._scene is not None
        return [PosedCamera(k.camera, self._scene.pose_to_scene(k.T_world_camera), k.valid,
                            k.index) for k in self.learned]

    def snapshot(self) -> int:
        """Fuses the keyframes and writes the index; returns the snapshot's number, 0 without any.

        Raises StorageError when the disk does not take it.
        """
        scene, self.snapshot_stamp_ns = self._scene, self.now_ns()
        begun, steps = time.monotonic(), self.steps
        known = sorted(self.learned, key=lambda known: known.stamp_ns)
        frames = StoredFrames(self.directory.keyframes, known, self.learned.changes.stale_if_known)
        if scene is None or not len(frames):
            return 0
        survey = fused_survey(
            frames, frames.indices, [self._features[index] for index in frames.indices], scene,
            self.config, self.learned.changes.contradicted,
            self.looks.within(everything=self.settled))
        self.weak_areas, self.points = survey.weak_areas, len(survey.index.points)
        widths = self.config.features.widths
        info = {'steps': steps, 'keyframes': len(self.learned), 'points': self.points,
                'stamp_ns': self.snapshot_stamp_ns, 'trained_scales': [min(widths), max(widths)],
                'settled': not len(self.waiting) and not self.looks.looker.late,
                'learned_until': self.waiting.learned_until,
                'encoder': self.encoder.identity(), 'config': to_dict(self.config),
                **Quality().known()}
        try:
            self.directory.keyframes.write_transforms()
            number = self.directory.write_snapshot(
                {**survey.arrays(), **self.outside.resolution(survey)}, info,
                self.config.map.keep_snapshots)
        except OSError as error:
            raise StorageError(f'no snapshot could be written: {error}') from error
        if self.looks.looker.late:
            self._changes += 1      # the next one has more looks
        # Nothing could be taken meanwhile, so that this was no rest.
        self._newest_at += time.monotonic() - begun
        return number

    def checkpoint(self) -> None:
        """Does nothing: the keyframes on the disk are all that a restart needs."""

    def restore(self) -> None:
        """Takes the keyframes that the directory holds again. Raises as `Mapper.restore`."""
        earlier = find_earlier_run(self.directory, self.meta(None))
        if earlier is None:
            return
        self.waiting.resume(earlier.indices, earlier.next_index)
        self._scene, self._restored = earlier.scene, earlier.next_index
        self._newest_at -= REST_S       # they are no news
        # So that the next snapshot counts as newer only once there is something new, or where the
        # newest one lacks something.
        newest = self.directory.newest()
        lacking = newest is not None and not newest.info.get('settled')
        self._changes = max(self.written.steps - len(earlier.indices), 0) + lacking


class StoredFrames(Sequence[Frame]):
    """The frames of learned keyframes, read from the disk each time, as the map knows them now.

    indices: of those that can be read; the others are named in warnings.
    """

    def __init__(self, files: KeyframeFiles, learned: Sequence[LearnedKeyframe],
                 stale: Stale) -> None:
        """stale: pixels (H, W) bool of a keyframe, by index, that show what has gone; or None."""
        self._files, self._stale = files, stale
        self._learned = [known for known in learned if self._readable(known.index)]
        self.indices = [known.index for known in self._learned]

    def _readable(self, index: int) -> bool:
        try:
            self._files.verify(index)
        except MapUnreadableError as error:
            log.warning('keyframe %d is left out: %s', index, error)
            return False
        return True

    def __len__(self) -> int:
        return len(self._learned)

    @overload
    def __getitem__(self, at: int) -> Frame: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Frame]: ...

    def __getitem__(self, at: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        known = self._learned[at]
        frame, stale = self._files.read(known.index).frame, self._stale(known.index)
        valid = known.valid
        if stale is not None and stale.any():
            stale = grown(stale)
            valid = ~stale if valid is None else valid & ~stale
        return replace(frame, T_world_camera=known.T_world_camera, valid=valid)

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))


def grown(stale: np.ndarray) -> np.ndarray:
    """Returns stale pixels (H, W) bool with those around them.

    The foot of a thing that has gone is so near to what it stood on that depth contradicts nothing.
    A field forgets it; here an old picture would count as much as a new one.
    """
    side = 2 * math.ceil(AROUND * stale.shape[1]) + 1
    return cv2.dilate(stale.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
