# SPDX-License-Identifier: Apache-2.0
"""A map of one scene frame, as the main loop and its schedule see it (mapping/map_maker.py)."""

from __future__ import annotations

import math
from pathlib import Path

from lerf_ros.mapper import Mapper
from lerf_ros.mapping.loading import load_into
from lerf_ros.mapping.map_maker import Written
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.saved_maps import SavedMaps


class SingleMap(Mapper):
    """A mapper with what its main loop asks beside mapping."""

    hurried = False     # it puts nothing off in any case

    @property
    def path(self) -> Path:
        """The folder of the map."""
        return self.directory.path

    @property
    def written(self) -> Written:
        """What the newest snapshot is of."""
        return written_in(self.directory)

    @property
    def first_keyframes(self) -> int:
        """Keyframes with which training begins."""
        return self.config.scene.keyframes

    def stamps(self, most: int) -> set[int]:
        """Returns the stamps (ns) of the newest `most` keyframes on the disk."""
        files = self.directory.keyframes
        return {files.record(i)['frame']['stamp_ns'] for i in files.indices()[-most:]
                if i in files}

    def share_out(self, steps: int) -> None:
        """Does nothing: all steps are of the one frame."""

    def drop_checkpoints(self) -> None:
        """Deletes checkpoints, which a snapshot has replaced."""
        self.directory.checkpoints.clear()

    def clear(self) -> None:
        """Replaces the map on the disk by an empty one."""
        self.directory.clear(self.meta(None))

    def healthy(self) -> bool:
        """Whether the fields may be written. Raises TrainingFailedError where they never will."""
        return self.guard is None or self.guard.remember()

    def seconds_to_settle(self) -> float:
        """Estimates how long training goes on if no keyframe comes; inf where it has no end."""
        if self.trainer is None or not self.rays_per_second:
            return math.inf
        return self.steps_to_settle() * self.trainer.radiance.rays / self.rays_per_second

    def save(self, root: str, name: str, overwrite: bool) -> Path:
        """Copies the map with its newest snapshot; returns the path. Raises as SavedMaps.save."""
        return SavedMaps(root).save(self.directory, name, overwrite)

    def load(self, root: str, name: str) -> int:
        """Replaces the map by a saved one; returns its keyframes. Raises as SavedMaps.load."""
        return load_into(self.directory.path, self.meta(None), self.config, root, name)

    def words(self) -> list[str]:
        """Returns what was refused, lies outside, was shrunk or went wrong, each if there is any.
        """
        return [text for text in (
            self.moves.message, self.outside.message, self.extractor.limits.message,
            self.learned.memory_fault, self.guard.message if self.guard else '') if text]


def written_in(directory: MapDirectory) -> Written:
    """Returns what the newest snapshot in a map directory is of."""
    newest = directory.newest() if directory.exists() else None
    if newest is None:
        return Written()
    info = newest.info
    return Written(newest.number, info['stamp_ns'], info['keyframes'], info['steps'],
                   info.get('learned_until', 0))
