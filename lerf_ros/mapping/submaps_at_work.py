# SPDX-License-Identifier: Apache-2.0
"""The submaps of a folder at work: which are in memory, which still want training, where they are.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.errors import ConfigError, NothingToUndoError, StorageError
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.pose_jump import StampedPose
from lerf_ros.geometry.submap_lattice import Cell, SubmapLattice
from lerf_ros.mapping.cube_map import cube_map
from lerf_ros.mapping.loading import cube_config, require_own
from lerf_ros.mapping.map_maker import Written
from lerf_ros.mapping.single_map import SingleMap, written_in
from lerf_ros.mapping.submap_state import (
    LearnedEverywhere,
    WaitingEverywhere,
    learn_all,
    newest_stamps,
    points_of,
    rigid_move,
    unfinished,
)
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet
from lerf_ros.training.devices import choose_device

# Keyframes from which a submap wants as much training as any other: what takes the time is to learn
# what things are, and that does not grow with the views of them.
PLENTY = 8
log = logging.getLogger(__name__)


class SubmapsAtWork:
    """Brings submaps into memory and back to the disk, and moves them. One owner."""

    def __init__(self, config: LerfConfig, path: str | Path, encoder: ImageTextEncoder,
                 frame_id: str, metric: bool, cache: FeatureCache | None = None) -> None:
        """Opens a folder of submaps; `restore` goes on with the one that is there.

        cache: keeps features for submaps that come back from the disk. Raises ForeignFolderError,
        MapUnreadableError for a damaged folder and ConfigError for one with other cubes.
        """
        # A submap that was closed goes on training when it is opened again.
        self.config = config.override({'map.training_state': True})
        self.encoder, self.frame_id, self.metric = encoder, frame_id, metric
        self.path, self.device = Path(path), choose_device(config.training.device)
        self.folder, self.cache = SubmapFolder(path, metric), cache
        self.folder.claim()
        self.extractor = FeatureExtractor(encoder, config.features, cache)
        self.submaps: SubmapSet | None = self.folder.read()
        self.active: dict[int, SingleMap] = {}      # the least recently seen first
        self.waiting, self.learned = WaitingEverywhere(self), LearnedEverywhere(self)
        self.loss = self.color_error = math.nan
        self.rays_per_second = 0.0
        self.now_ns, self.hurried = time.time_ns, False
        self.before: dict[int, int] = {}           # index by stamp, of an earlier process
        self._closed: dict[int, MapDirectory] = {}  # of submaps that are not in memory
        self._written: dict[int, tuple[int, Written]] = {}      # and when that folder changed last
        self._indices: dict[int, frozenset[int]] = {}   # of the keyframes of those not in memory
        self.goals: dict[int, int] = {}            # steps that submaps are to take at most
        self.unfinished: list[int] = []                # closed before they had settled
        if self.submaps:
            require_own(self.submaps, self.path)
        lattice, c = self.submaps.lattice if self.count and self.submaps else None, config.submaps
        if lattice and (lattice.radius, lattice.overlap) != (c.radius, c.overlap):
            raise ConfigError(
                f'{path} holds submaps of radius {lattice.radius:g} and overlap '
                f'{lattice.overlap:g}: go on with these (submaps.radius, submaps.overlap), or '
                'choose another folder')

    def directory(self, number: int) -> MapDirectory:
        """Returns the map directory of a submap."""
        if number in self.active:
            return self.active[number].directory
        if number not in self._closed:
            self._closed[number] = self.folder.directory(number)
        return self._closed[number]

    def indices_of(self, number: int) -> frozenset[int]:
        """Returns the keyframes of a submap that are on the disk, by index."""
        if number in self.active:
            return frozenset(self.directory(number).keyframes.indices())
        if number not in self._indices:
            self._indices[number] = frozenset(self.directory(number).keyframes.indices())
        return self._indices[number]

    @property
    def count(self) -> int:
        """The number of submaps."""
        return len(self.submaps.places) if self.submaps else 0

    def restore(self) -> None:
        """Brings back submaps with keyframes that no snapshot has, as after a kill."""
        self.folder.remove_strays(self.count)
        directories = [self.directory(number) for number in range(self.count)]
        self.waiting.next_index = max((directory.keyframes.free_index()
                                       for directory in directories), default=0)
        self.before = {stamp: index for directory in directories
                        for stamp, index in newest_stamps(directory.keyframes)}
        self.unfinished = [number for number, directory in enumerate(directories)
                            if unfinished(directory, self.config)]
        for number in self.unfinished[-self.config.submaps.most_active:]:
            self.opened(number)

    def clear(self) -> None:
        """Deletes all submaps; this object must not be used any more."""
        self.active.clear()
        self.folder.clear()

    def begin(self, frame: Frame) -> SubmapSet:
        """Begins a set of submaps whose first cube is around what a frame looks at."""
        x, y, z = (float(value) for value in np.median(points_of(frame)[0], axis=0))
        c = self.config.submaps
        lattice = SubmapLattice((x, y, z), c.radius, c.overlap)
        return replace(self.submaps, lattice=lattice) if self.submaps else SubmapSet.begin(lattice)

    def open_new(self, submaps: SubmapSet, cell: Cell) -> int:
        """Adds a submap to the folder, before its map directory begins; returns its number."""
        number = len(submaps.places)
        self.submaps = submaps.with_cell(cell)
        self.folder.write(self.submaps)
        return number

    def opened(self, number: int) -> SingleMap:
        """Returns the mapper of a submap: in memory, brought back from the disk, or a new one."""
        if number in self.active:
            return self.active[number]
        assert self.submaps is not None
        scene = self.submaps.lattice.scene(self.submaps.places[number].cell)
        config = cube_config(self.config).override({'scene.center': scene.center,
                                                    'scene.radius': scene.radius})
        directory = self._closed.pop(number, None) or self.folder.directory(number)
        mapper = cube_map(config)(config, directory, self.encoder, self.frame_id, self.metric,
                                  self.cache)
        mapper.learn_from(self.extractor)
        mapper.now_ns = lambda: self.now_ns()
        mapper.restore()
        if not directory.exists():
            directory.create(mapper.meta(None))
        self.active[number] = mapper
        self._indices.pop(number, None)
        self.unfinished = [other for other in self.unfinished if other != number]
        log.info('submap %04d is in memory, with %d keyframes', number, len(mapper.waiting))
        return mapper

    def make_room(self, count: int) -> bool:
        """Closes submaps until at most `count` are in memory; returns whether that was possible.

        One that the disk does not take stays in memory.
        """
        while len(self.active) > count:
            number = next(iter(self.active))
            try:
                self.close(number)
            except StorageError as error:
                log.warning('submap %04d stays in memory: %s', number, error)
                return False
        return True

    def close(self, number: int) -> None:
        """Writes a snapshot of a submap and frees its memory; its training can be resumed.

        Where keyframes come faster than that, one without a field is left as its keyframes on the
        disk until there is time. Raises StorageError; then it stays in memory.
        """
        mapper = self.active[number]
        if self.hurried and not self.trains and mapper.waiting.store_again():
            self._closed[number] = mapper.directory
            del self.active[number]
            self.unfinished.append(number)
            return
        learn_all(mapper)
        if mapper.steps > mapper.written.steps and mapper.healthy():
            mapper.snapshot()
        self._closed[number] = mapper.directory
        del self.active[number]
        if self._wants_more(number, mapper):
            self.unfinished.append(number)

    def _wants_more(self, number: int, mapper: SingleMap) -> bool:
        """Returns whether a submap that is closed should come back once there is time for it.

        One with a field wants training; one without has looks that no snapshot had time for.
        """
        if not self.trains:
            return mapper.steps > mapper.written.steps
        return not self.done(number, mapper) and bool(
            self.config.training.settle_steps or number in self.goals)

    @property
    def trains(self) -> bool:
        """Whether there are fields to be trained (training.field)."""
        return self.config.training.field == 'lerf'

    @property
    def settled(self) -> bool:
        """Whether all submaps, on the disk as well, were trained on for long enough."""
        return (self.count > 0 and not self.unfinished
                and all(self.done(*pair) for pair in self.active.items()))

    def done(self, number: int, mapper: SingleMap) -> bool:
        """Returns whether a submap in memory has been trained on for long enough."""
        return mapper.settled or mapper.steps >= self.goals.get(number, math.inf)

    def share_out(self, steps: int) -> None:
        """Lets each submap take its part of so many training steps, by its keyframes."""
        counts = [min(len(self.directory(n).keyframes.indices()), PLENTY)
                  for n in range(self.count)]
        self.goals = {n: math.ceil(steps * count / sum(counts)) for n, count in enumerate(counts)}
        self.unfinished = [n for n, goal in self.goals.items()
                            if n not in self.active and self.written_of(n).steps < goal]

    @property
    def written(self) -> Written:
        """What the newest snapshots are of; their numbers are added up."""
        found = [info for number in range(self.count) if (info := self.written_of(number)).number]
        if not found:
            return Written()
        return Written(sum(w.number for w in found), max(w.stamp_ns for w in found),
                       sum(w.keyframes for w in found), sum(w.steps for w in found),
                       max(w.until for w in found))

    def written_of(self, number: int) -> Written:
        """What the newest snapshot of a submap is of, read again only where one has changed."""
        directory = self.directory(number)
        try:
            changed = directory.snapshots.path.stat().st_mtime_ns
        except FileNotFoundError:
            return Written()
        known = self._written.get(number)
        if known is None or known[0] != changed:
            known = self._written[number] = changed, written_in(directory)
        return known[1]

    def placed(self) -> list[StampedPose]:
        """Returns where in the map, and when, all keyframes were taken, those on disk as well."""
        out: dict[int, StampedPose] = {}
        for number in range(self.count):
            for pose in self._placed(number):
                out.setdefault(pose.index, pose)
        return [out[index] for index in sorted(out)]

    def _placed(self, number: int) -> list[StampedPose]:
        assert self.submaps is not None
        T = self.submaps.places[number].T_map_submap
        if number in self.active:
            mapper = self.active[number]
            poses = [*mapper.learned.placed(), *mapper.waiting.placed()]
        else:
            files = self.directory(number).keyframes
            poses = [StampedPose(i, *files.pose(i)) for i in files.indices() if i in files]
        return [StampedPose(p.index, p.stamp_ns, T @ p.T_world_camera) for p in poses]

    def move_keyframes(self, poses: Mapping[int, np.ndarray]) -> int:
        """Moves submaps so that their keyframes have better poses (4, 4), by index.

        Each moves as a whole, without any training. Returns how many keyframes moved with them.
        """
        if self.submaps is None:
            return 0
        transforms, moved = [], set[int]()
        for number, place in enumerate(self.submaps.places):
            before = {p.index: p.T_world_camera for p in self._placed(number)}
            T_move = rigid_move(before, poses, self.submaps.middle(number))
            moved |= set() if T_move is None else set(before)
            transforms.append(place.T_map_submap if T_move is None
                              else T_move @ place.T_map_submap)
        if moved:
            self.submaps = self.submaps.moved(transforms)
            self.folder.write(self.submaps)
        return len(moved)

    def undo_move(self) -> int:
        """Moves submaps back to before their newest move; returns how many keyframes they have.

        Raises NothingToUndoError.
        """
        if self.submaps is None or not self.submaps.earlier:
            raise NothingToUndoError('no submap of this map has moved, or all moves are undone')
        self.submaps = self.submaps.undone()
        self.folder.write(self.submaps)
        return len(self.placed())
