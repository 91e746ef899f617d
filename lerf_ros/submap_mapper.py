# SPDX-License-Identifier: Apache-2.0
"""Maps more space than one scene frame resolves: small overlapping maps, opened where one looks.

Each submap is a map directory of its own, made by a mapper of its own. A keyframe goes to all
submaps that it looks into. Only a few are in memory; the others wait on the disk, and go on from
there as after a restart. It is used from Python; no node or command makes submaps yet.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.config.submaps import SubmapConfig
from lerf_ros.encoders.cache import FeatureCache
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.errors import ConfigError
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import depth_to_points, transform_points
from lerf_ros.geometry.submap_lattice import Cell, SubmapLattice
from lerf_ros.index.resolution import nearer_half
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.submaps import SubmapFolder

EVERY = 8       # pixels from one to the next that tell what a keyframe looks at
TURN = 10       # training steps of one submap before another has its turn
log = logging.getLogger(__name__)


class SubmapMapper:
    """Turns posed RGB-D images into a folder of submaps. One owner; not thread-safe."""

    def __init__(self, config: LerfConfig, submaps: SubmapConfig, path: str | Path,
                 encoder: ImageTextEncoder, metric: bool,
                 cache: FeatureCache | None = None) -> None:
        """Begins a folder of submaps, or goes on with the one that is there.

        cache: keeps features for submaps that come back from the disk. Raises MapUnreadableError
        for a damaged folder and ConfigError for one with cubes of another size.
        """
        # A submap that was closed goes on training when it is opened again.
        self.config = config.override({'map.training_state': True})
        self.submaps, self.encoder, self.metric = submaps, encoder, metric
        self.folder, self.cache = SubmapFolder(path), cache
        self.extractor = FeatureExtractor(encoder, config.features, cache)
        self.lattice: SubmapLattice | None = None
        self.cells: list[Cell] = []
        if stored := self.folder.read():
            self.lattice, self.cells = stored
        self.active: dict[Cell, Mapper] = {}        # the least recently seen first
        self._steps: dict[Cell, int] = {}           # of those that this process has closed
        lattice = self.lattice
        if lattice and (lattice.radius, lattice.overlap) != (submaps.radius, submaps.overlap):
            raise ConfigError(f'{path} holds submaps of radius {lattice.radius:g} and overlap '
                              f'{lattice.overlap:g}: go on with these, or choose another folder')

    def add_frame(self, frame: Frame) -> None:
        """Takes a frame as the next keyframe of all submaps that it looks into.

        It is on the disk when this returns. Raises ConfigError for a frame without depth, which
        does not tell what it looks at, and as Mapper.add_frame.
        """
        points = looked_at(frame)
        if not len(points):
            raise ConfigError('submaps need depth: an image without it does not tell what it shows')
        if self.lattice is None:
            x, y, z = (float(value) for value in np.median(points_of(frame)[0], axis=0))
            self.lattice = SubmapLattice((x, y, z), self.submaps.radius, self.submaps.overlap)
        for cell in self._learning(self.lattice, points):
            mapper = self._opened(self.lattice, cell)
            self.active[cell] = self.active.pop(cell)
            mapper.add_frame(frame)
        while len(self.active) > self.submaps.most_active:
            self.close(next(iter(self.active)))

    def _learning(self, lattice: SubmapLattice, points: np.ndarray) -> list[Cell]:
        """Returns the submaps that learn a keyframe which looks at points (N, 3).

        The last one shows most of it, and comes back into memory for it.
        """
        new = lattice.next_cell(self.cells, points, self.submaps.opens_at)
        cells = [*self.cells, *([new] if new else [])]
        shares = lattice.inside(cells, points).mean(1)
        main = new or cells[int(shares.argmax())]
        return [*(cell for cell, share in zip(cells, shares, strict=True) if cell != main
                  and cell in self.active and share >= self.submaps.joins_at), main]

    def _opened(self, lattice: SubmapLattice, cell: Cell) -> Mapper:
        """Returns the mapper of a submap: in memory, brought back from the disk, or a new one."""
        if cell in self.active:
            return self.active[cell]
        if cell not in self.cells:
            self.folder.write(lattice, [*self.cells, cell])
            self.cells.append(cell)
        scene = lattice.scene(cell)
        config = self.config.override({'scene.center': scene.center, 'scene.radius': scene.radius,
                                       'scene.keyframes': 1})
        path = self.folder.path_of(self.cells.index(cell))
        mapper = Mapper(config, MapDirectory(path, self.metric), self.encoder, 'map', self.metric,
                        self.cache)
        mapper.extractor = self.extractor
        mapper.restore()
        while mapper.learn_next():
            pass
        self.active[cell] = mapper
        log.info('submap %s is in memory, with %d keyframes', path.name, len(mapper.learned))
        return mapper

    def close(self, cell: Cell) -> None:
        """Writes a snapshot of a submap and frees its memory; its training can be resumed."""
        mapper = self.active[cell]
        mapper.snapshot()
        self._steps[cell] = mapper.steps
        del self.active[cell]

    @property
    def ready(self) -> bool:
        """Whether there is something in memory to train on."""
        return any(mapper.ready for mapper in self.active.values())

    @property
    def steps(self) -> int:
        """Training steps of all submaps that this process has had in memory."""
        return sum({**self._steps, **{cell: mapper.steps for cell, mapper
                                      in self.active.items()}}.values())

    def train_for(self, seconds: float, last_step: float = math.inf) -> None:
        """Trains what is in memory, until the time is over or all together have taken `last_step`.

        It is always the turn of the submap with the fewest steps for its keyframes, so that none
        is worse than another. Raises TrainingFailedError.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and (most := last_step - self.steps) > 0:
            ready = [mapper for mapper in self.active.values()
                     if mapper.ready and not mapper.settled]
            if not ready:
                return
            mapper = min(ready, key=lambda m: m.steps / max(len(m.learned), 1))
            mapper.train_for(left, mapper.steps + min(TURN, most))

    def snapshot(self) -> None:
        """Writes a snapshot of each submap in memory. Raises StorageError."""
        for mapper in self.active.values():
            mapper.snapshot()

    def learn(self, frames: Iterable[Frame], steps: int) -> None:
        """Takes all frames as keyframes, with `steps` training steps after each, and writes all."""
        for frame in frames:
            self.add_frame(frame)
            self.train_for(math.inf, self.steps + steps)
        self.snapshot()


def looked_at(frame: Frame) -> np.ndarray:
    """Returns points (N, 3), world, of the nearer half of what a frame measured."""
    return nearer_half(*points_of(frame))


def points_of(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (N, 3), world, that a frame measured, and their z-depths (N,)."""
    if frame.depth_m is None:
        return np.zeros((0, 3)), np.zeros(0)
    points_camera = depth_to_points(frame.camera, frame.depth_m, frame.valid, EVERY)
    return transform_points(frame.T_world_camera, points_camera), points_camera[:, 2]
