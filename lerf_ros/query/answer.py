# SPDX-License-Identifier: Apache-2.0
"""What a query returns: frozen, in world coordinates, without ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hit:
    """One place where the phrase is.

    position: (3,) world, centre of the box. rotation: (3, 3), columns are the box axes in the
    world. size: (3,) box edge lengths, world units. relevancy: in 0..1, the hit's score.
    scale: physical width (world units) at which the phrase matched best. points: how many index
    points the hit holds. keyframes: how many keyframes saw them (median over its points).
    """

    position: np.ndarray
    rotation: np.ndarray
    size: np.ndarray
    relevancy: float
    scale: float
    points: int
    keyframes: int


@dataclass(frozen=True)
class Answer:
    """Ranked hits and the relevancy of every index point.

    found is True when the best hit reaches `threshold`. points_world: (N, 3); relevancy: (N,) in
    0..1; colors: (N, 3) uint8 of the surface; T_world_target: (4, 4) pose of the grasp target at
    the best hit (origin at the hit's centre, +z the approach direction, into the object), None
    when nothing was found. metric: True when world units are metres.
    """

    text: str
    found: bool
    threshold: float
    hits: tuple[Hit, ...]
    points_world: np.ndarray
    relevancy: np.ndarray
    colors: np.ndarray
    T_world_target: np.ndarray | None
    frame_id: str
    metric: bool
    snapshot_id: int
    snapshot_stamp_ns: int
