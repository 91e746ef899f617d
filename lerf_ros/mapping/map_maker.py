# SPDX-License-Identifier: Apache-2.0
"""What the main loop and its schedule need of whatever makes a map.

That is one scene frame (mapping/single_map.py), or a folder of submaps (submap_mapper.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.pose_jump import StampedPose
from lerf_ros.training.quality import Quality


class Written(NamedTuple):
    """What the newest snapshot is of. until: the first keyframe, by index, that is not in it."""

    number: int = 0
    stamp_ns: int = 0
    keyframes: int = 0
    steps: int = 0
    until: int = 0


class Waiting(Protocol):
    """Keyframes that wait to be learned; their number is the length."""

    @property
    def next_index(self) -> int:
        """The index of the next keyframe."""

    @property
    def fault(self) -> str:
        """Why keyframes cannot be stored; empty when they can."""

    @property
    def learned_until(self) -> int:
        """The index of the first keyframe that is not learned yet, there or still to come."""

    def __len__(self) -> int: ...

    def store_again(self) -> bool:
        """Stores what the disk did not take before; returns whether all is stored now."""

    def placed(self) -> list[StampedPose]:
        """Returns where and when those that wait were taken."""


class Learned(Protocol):
    """Keyframes that are learned; their number is the length."""

    @property
    def forgotten(self) -> int:
        """Keyframes that had to go for others."""

    def __len__(self) -> int: ...

    def placed(self) -> list[StampedPose]:
        """Returns where and when the keyframes were taken."""


class MapMaker(Protocol):
    """Turns posed images into a map on the disk, one slice of work at a time."""

    config: LerfConfig
    now_ns: Callable[[], int]
    hurried: bool       # whether so many keyframes wait that what can be done later has to wait

    @property
    def path(self) -> Path:
        """The folder of the map."""

    @property
    def encoder(self) -> ImageTextEncoder:
        """What encodes images and phrases."""

    @property
    def device(self) -> torch.device:
        """Where the fields are trained."""

    @property
    def waiting(self) -> Waiting:
        """The keyframes that wait to be learned."""

    @property
    def learned(self) -> Learned:
        """The keyframes that are learned."""

    @property
    def ready(self) -> bool:
        """Whether there are keyframes to train on."""

    @property
    def restoring(self) -> bool:
        """Whether keyframes of an earlier run are learned again before its training resumes."""

    @property
    def settled(self) -> bool:
        """Whether the newest keyframe has been trained on for long enough."""

    @property
    def stored(self) -> int:
        """Keyframes on the disk."""

    @property
    def steps(self) -> int:
        """Training steps so far."""

    @property
    def loss(self) -> float:
        """Running mean of the loss; NaN before the first step."""

    @property
    def color_error(self) -> float:
        """Running mean of the squared error of colours; NaN before the first step."""

    @property
    def rays_per_second(self) -> float:
        """Rays trained on a second in the newest slice."""

    @property
    def quality(self) -> Quality:
        """PSNR and depth error on held-out keyframes, as of the newest snapshot."""

    @property
    def weak_areas(self) -> np.ndarray:
        """Centres (K, 3), world, of surfaces that too few keyframes saw, as of that snapshot."""

    @property
    def points(self) -> int:
        """Points of the index in the newest snapshot."""

    @property
    def written(self) -> Written:
        """What the newest snapshot is of."""

    @property
    def first_keyframes(self) -> int:
        """Keyframes with which training begins."""

    def restore(self) -> None:
        """Resumes the map that is on the disk."""

    def clear(self) -> None:
        """Replaces the map on the disk by an empty one; this object must not be used any more."""

    def store(self, frame: Frame) -> bool:
        """Takes a frame as the next keyframe, to be learned later; returns whether it is stored."""

    def stamps(self, most: int) -> set[int]:
        """Returns the stamps (ns) of stored keyframes that must not be stored again."""

    def learn_next(self) -> bool:
        """Learns a waiting keyframe; returns False where there is nothing to learn."""

    def share_out(self, steps: int) -> None:
        """Prepares for so many training steps in all, where parts of the map take them in turn."""

    def train_for(self, seconds: float, last_step: float = ...) -> None:
        """Trains until the time is over, training has settled or `last_step` is reached."""

    def seconds_to_settle(self) -> float:
        """Estimates how long training goes on if no keyframe comes; inf where it has no end."""

    def healthy(self) -> bool:
        """Whether the fields may be written. Raises TrainingFailedError where they never will."""

    def snapshot(self) -> int:
        """Writes a snapshot; returns its number, 0 before the first step. Raises StorageError."""

    def checkpoint(self) -> None:
        """Writes only what resuming the training needs. Raises StorageError."""

    def drop_checkpoints(self) -> None:
        """Deletes checkpoints, which a snapshot has replaced."""

    def move_keyframes(self, poses: Mapping[int, np.ndarray]) -> int:
        """Takes better poses (4, 4) by index; returns how many moved."""

    def undo_move(self) -> int:
        """Moves keyframes back to before their newest move. Raises NothingToUndoError."""

    def save(self, root: str, name: str, overwrite: bool) -> Path:
        """Copies the map below `root` under a name; returns the path of the copy."""

    def load(self, root: str, name: str) -> int:
        """Replaces the map by a saved one; returns its keyframes. Not to be used afterwards."""

    def words(self) -> list[str]:
        """Returns what somebody should know of the work, such as memory that ran out."""
