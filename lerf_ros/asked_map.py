# SPDX-License-Identifier: Apache-2.0
"""What nodes and commands need of a map that answers, whether it is one frame or many submaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lerf_ros.query.answer import Answer
from lerf_ros.query.inventory import Item
from lerf_ros.query.mapped_space import MappedSpace
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextQuery

if TYPE_CHECKING:
    from lerf_ros.loaded_snapshot import LoadedSnapshot


class AskedMap(Protocol):
    """Answers requests from the newest snapshot of a map; one thread may ask at a time."""

    @property
    def path(self) -> Path:
        """The folder of the map."""

    @property
    def ready(self) -> bool:
        """Whether a snapshot is loaded."""

    @property
    def snapshot_id(self) -> int:
        """The number of the loaded snapshot, 0 before the first."""

    @property
    def snapshot_stamp_ns(self) -> int:
        """When the loaded snapshot was taken, ns; 0 before the first."""

    @property
    def frame_id(self) -> str:
        """The name of the map frame, empty before the first snapshot."""

    @property
    def metric(self) -> bool:
        """Whether lengths are metres."""

    @property
    def map_id(self) -> str:
        """Which map the loaded snapshot belongs to; empty before the first."""

    @property
    def info(self) -> Mapping[str, Any]:
        """The manifest of the loaded snapshot, empty before the first."""

    @property
    def snapshot(self) -> LoadedSnapshot | None:
        """The loaded snapshot of a map of one frame; None for submaps, and before the first."""

    @property
    def text_query(self) -> TextQuery:
        """The index of a map of one frame; raises NoSnapshotError without one, and for submaps."""

    def refresh(self) -> bool:
        """Loads what is newer; returns whether there was something. Raises LerfError."""

    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns points (N, 3), world, and colours (N, 3) uint8 of the loaded snapshot."""

    def inventory(self, names: Sequence[str]) -> tuple[Item, ...]:
        """Returns the things of the map with the names that fit best. Raises LerfError."""

    def mapped_space(self, around: np.ndarray | None = None) -> MappedSpace:
        """Returns what is known of the space around a robot, of submaps those near a place (3,).

        None is the middle of the map. The same object comes back while nothing has changed. Raises
        NoSnapshotError without a snapshot, and MapUnreadableError for a damaged keyframe.
        """

    def settings(self) -> dict[str, object]:
        """Returns query and grasp settings in force, by dotted name; empty before a snapshot."""

    def change(self, settings: Mapping[str, object]) -> None:
        """Changes these settings from the next answer on. Raises ConfigError."""

    def ask(self, request: QueryRequest) -> Answer:
        """Answers a request, in world coordinates. Raises LerfError."""
