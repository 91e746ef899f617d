# SPDX-License-Identifier: Apache-2.0
"""Maps more space than one scene frame resolves: small overlapping maps, opened where one looks.

Each submap is a map directory of its own, made by a mapper of its own. A keyframe goes to all
submaps that it looks into, under the same index in each. Only a few are in memory; the others wait
on the disk, and go on from there as after a restart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lerf_ros.errors import ConfigError, StorageError
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.mapping.loading import load_into
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.mapping.submap_state import learn_all, looked_at, mean_quality
from lerf_ros.mapping.submaps_at_work import PLENTY, SubmapsAtWork
from lerf_ros.storage.durable import JsonObject
from lerf_ros.storage.saved_maps import SavedMaps
from lerf_ros.storage.submaps import SubmapSet
from lerf_ros.training.quality import Quality

TURN = 10       # training steps of one submap before another has its turn
PAUSE_S = 0.2   # between two looks for keyframes, where there is nothing to train


class SubmapMapper(SubmapsAtWork):
    """Turns posed RGB-D images into a folder of submaps. One owner; not thread-safe."""

    def add_frame(self, frame: Frame) -> None:
        """Takes a frame as the next keyframe, and learns it. Raises as `store`."""
        self.store(frame)
        while self.learn_next():
            pass

    def store(self, frame: Frame) -> bool:
        """Takes a frame as the next keyframe of all submaps that it looks into.

        Returns whether it is on the disk; one that is there already is not stored again. Raises
        ConfigError for a frame without depth, which does not tell what it looks at.
        """
        points = looked_at(frame)
        if not len(points):
            raise ConfigError('submaps need depth, since an image without it does not tell what it '
                              'shows: set depth_topic, or map with submaps.use off')
        if self.submaps is None or not self.submaps.places:
            self.submaps = self.begin(frame)
        learning = self._learning(self.submaps, points)
        mappers = [self.opened(number) for number in learning]
        # The process before may have stored a frame in some submaps, and died before it said so.
        index = self.before.get(frame.stamp_ns, self.waiting.next_index)
        stored = all([self._store(number, mapper, frame, index)
                      for number, mapper in zip(learning, mappers, strict=True)])
        self.waiting.next_index = max(self.waiting.next_index, index + 1)
        self.make_room(self.config.submaps.most_active)
        return stored

    def _store(self, number: int, mapper: SingleMap, frame: Frame, index: int) -> bool:
        self.active[number] = self.active.pop(number)
        assert self.submaps is not None
        if frame.stamp_ns in self.before and index in mapper.directory.keyframes:
            return True
        place, mapper.waiting.next_index = self.submaps.places[number], index
        return mapper.store(Frame(
            frame.stamp_ns, frame.image, frame.camera,
            invert_pose(place.T_map_submap) @ frame.T_world_camera, frame.depth_m, frame.valid))

    def _learning(self, submaps: SubmapSet, points: np.ndarray) -> list[int]:
        """Returns the submaps that learn a keyframe which looks at points (N, 3); may open one.

        The last one shows most of it, and comes back into memory for it.
        """
        c, inside = self.config.submaps, submaps.depths(points) <= 1.0
        left = points[~inside.any(0)]
        main = -1
        if len(left) >= c.opens_at * len(points):
            main = self.open_new(submaps, submaps.lattice.cell_of_most(left))
        shares = inside.mean(1)
        if main < 0:
            main = int(shares.argmax())
        return [*(number for number, share in enumerate(shares) if number != main
                  and number in self.active and share >= c.joins_at), main]

    def learn_next(self) -> bool:
        """Learns the oldest waiting keyframe of a submap in memory; returns False for none.

        So all submaps that see a keyframe learn it one after the other, and it is encoded once.
        """
        waiting = [mapper for mapper in self.active.values() if len(mapper.waiting)]
        return bool(waiting) and min(
            waiting, key=lambda mapper: mapper.waiting.learned_until).learn_next()

    def stamps(self, most: int) -> set[int]:
        """Returns no stamp: `store` knows by itself what each submap has already."""
        return set()

    @property
    def ready(self) -> bool:
        """Whether there is something to train on."""
        return bool(self.unfinished) or any(mapper.ready for mapper in self.active.values())

    @property
    def restoring(self) -> bool:
        """Whether a submap in memory learns its keyframes again before its training resumes."""
        return any(mapper.restoring for mapper in self.active.values())

    @property
    def steps(self) -> int:
        """Training steps of all submaps."""
        return sum(mapper.steps for mapper in self.active.values()) + sum(
            self.written_of(number).steps for number in range(self.count)
            if number not in self.active)

    def train_for(self, seconds: float, last_step: float = math.inf) -> None:
        """Trains until the time is over, all has settled or all together have taken `last_step`.

        It is always the turn of the submap with the fewest steps for its keyframes, so that none
        is worse than another; once those in memory have settled, it is that of the closed ones.
        Raises TrainingFailedError.
        """
        if not self.trains:
            if not self.unfinished or self.restoring or not all(
                    mapper.settled for mapper in self.active.values()) or not self._swap_in():
                time.sleep(min(seconds, PAUSE_S))
            return
        end, done = time.monotonic() + seconds, self.steps
        while (left := end - time.monotonic()) > 0 and (most := last_step - done) > 0:
            ready = [(number, mapper) for number, mapper in self.active.items()
                     if mapper.ready and not self.done(number, mapper)]
            if not ready:
                if not self.unfinished or self.restoring or not self._swap_in():
                    return
                continue
            number, mapper = min(ready, key=lambda r: r[1].steps / turns(r[1]))
            before = mapper.steps
            mapper.train_for(left, min(before + min(TURN, most),
                                       self.goals.get(number, math.inf)))
            done += mapper.steps - before
            self.loss, self.color_error = mapper.loss, mapper.color_error
            self.rays_per_second = mapper.rays_per_second

    def _swap_in(self) -> bool:
        """Brings a closed submap that has not settled back, in the place of one that has.

        Returns False where the disk takes none of those in memory.
        """
        number = self.unfinished[0]
        if not self.make_room(self.config.submaps.most_active - 1):
            return False
        learn_all(self.opened(number))
        return True

    def seconds_to_settle(self) -> float:
        """Returns inf: a snapshot never waits for the end, which closed submaps put off."""
        return math.inf

    def learn(self, frames: Iterable[Frame], steps: int) -> None:
        """Takes all frames as keyframes, with `steps` training steps after each, and writes all."""
        for frame in frames:
            self.add_frame(frame)
            self.train_for(math.inf, self.steps + steps)
        self.snapshot()

    def healthy(self) -> bool:
        """Whether the fields may be written. Raises TrainingFailedError where they never will."""
        return all([mapper.healthy() for mapper in self.active.values()])

    def snapshot(self) -> int:
        """Writes a snapshot of each submap in memory that has trained since; returns their sum.

        Raises StorageError.
        """
        for mapper in self._changed():
            mapper.snapshot()
        try:
            self.folder.write_transforms()
        except OSError as error:
            raise StorageError(f'transforms.json could not be written: {error}') from error
        return self.written.number

    def checkpoint(self) -> None:
        """Writes what resuming the training of submaps in memory needs. Raises StorageError."""
        for mapper in self._changed():
            mapper.checkpoint()

    def drop_checkpoints(self) -> None:
        """Deletes checkpoints, which snapshots have replaced."""
        for number in range(self.count):
            self.directory(number).checkpoints.clear()

    def _changed(self) -> Iterator[SingleMap]:
        yield from (mapper for mapper in self.active.values()
                    if mapper.steps > mapper.written.steps)

    def save(self, root: str, name: str, overwrite: bool) -> Path:
        """Copies the map with its newest snapshots; returns the path. Raises as SavedMaps.save."""
        return SavedMaps(root).save(self.folder, name, overwrite)

    def load(self, root: str, name: str) -> int:
        """Replaces the map by a saved one; returns its keyframes. Raises as SavedMaps.load."""
        return load_into(self.folder.path, self.meta(), self.config, root, name)

    def meta(self) -> JsonObject:
        """Returns what the meta.json of each submap says, but for scene and settings."""
        return {'frame_id': self.frame_id, 'metric': self.metric,
                'encoder': self.encoder.identity()}

    @property
    def stored(self) -> int:
        """Keyframes on the disk, each counted once."""
        return len(frozenset().union(*map(self.indices_of, range(self.count))))

    @property
    def points(self) -> int:
        """Points of the indexes in the newest snapshots."""
        newest = [self.directory(number).newest() for number in range(self.count)]
        return sum(int(snapshot.info['points']) for snapshot in newest if snapshot)

    @property
    def quality(self) -> Quality:
        """Mean PSNR and depth error of the submaps in memory, as of their newest snapshots."""
        return mean_quality([mapper.quality for mapper in self.active.values()])

    @property
    def weak_areas(self) -> np.ndarray:
        """Centres (K, 3), map frame, of weak areas of the submaps in memory."""
        places = self.submaps.places if self.submaps else ()
        return np.concatenate([np.zeros((0, 3)), *(
            transform_points(places[number].T_map_submap, mapper.weak_areas)
            for number, mapper in self.active.items())])

    @property
    def first_keyframes(self) -> int:
        """Keyframes with which training begins: one, since a cube is given."""
        return 1

    def words(self) -> list[str]:
        """Returns what somebody should know of the work in the submaps in memory."""
        # A keyframe looks out of one submap into another, which is no fault.
        said = [self.extractor.limits.message, self._put_off(), *(
            word for mapper in self.active.values() for word in
            (mapper.learned.memory_fault, mapper.guard.message if mapper.guard else ''))]
        return list(dict.fromkeys(filter(None, said)))

    def _put_off(self) -> str:
        """Says how much of a map without a field waits for a rest; empty for nothing."""
        count = len(self.unfinished)
        if self.trains or not count:
            return ''
        which = 'submap is' if count == 1 else 'submaps are'
        return f'{count} {which} finished once no keyframes come'


def turns(mapper: SingleMap) -> int:
    """Returns how many turns a submap has while one with a single keyframe has one."""
    return min(max(len(mapper.learned), 1), PLENTY)
