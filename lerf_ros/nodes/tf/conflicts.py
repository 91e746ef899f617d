# SPDX-License-Identifier: Apache-2.0
"""Detects when two nodes publish the same frame and contradict each other.

The frame then alternates between two poses that hardly change, or between two parents, or its
stamps go back and forth. No single source does that.
"""

from __future__ import annotations

import bisect
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from geometry_msgs.msg import TransformStamped

from lerf_ros.frames.selection import motion
from lerf_ros.nodes.common.conversions import stamp_to_ns, transform_to_matrix
from lerf_ros.nodes.tf.jumps import JUMP_DEG, JUMP_M

RECENT_S = 10.0     # a fault is reported for so long
MIN_LEAPS = 3       # within that time; a single one may be an accident
STEADY = 0.3        # fraction of a leap by which either pose may change meanwhile
HISTORY = 40        # poses that are kept, because lost messages are repeated seconds later


@dataclass
class Track:
    """The last poses of a frame in its parent by their stamps (ns), and when it alternated."""

    stamps_ns: list[int] = field(default_factory=list)
    poses: list[tuple[str, np.ndarray]] = field(default_factory=list)   # parent, (4, 4)
    leaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    fault: str = ''

    def insert(self, stamp_ns: int, parent: str, T: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Adds a pose; returns it with the three before it."""
        i = bisect.bisect_right(self.stamps_ns, stamp_ns)
        self.stamps_ns.insert(i, stamp_ns)
        self.poses.insert(i, (parent, T))
        last = self.poses[max(i - 3, 0):i + 1]
        del self.stamps_ns[:-HISTORY], self.poses[:-HISTORY]
        return last


class ConflictDetector:
    """Compares the moving transforms of every frame with those before."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """clock_s: seconds of any origin."""
        self._clock_s = clock_s
        self._tracks: dict[str, Track] = {}
        self._parents: dict[str, str] = {}

    def add(self, msg: TransformStamped) -> None:
        """Takes a valid transform of /tf."""
        parent, child = msg.header.frame_id.lstrip('/'), msg.child_frame_id.lstrip('/')
        track = self._tracks.setdefault(child, Track())
        poses = track.insert(stamp_to_ns(msg.header.stamp), parent,
                             transform_to_matrix(msg.transform))
        self._parents[child] = parent
        if fault := alternation(child, poses):
            self._count(track, fault)

    def add_static(self, parent: str, child: str) -> None:
        """Takes the frames of a static transform, for the path to the root."""
        self._parents[child.lstrip('/')] = parent.lstrip('/')

    def time_went_back(self, child: str) -> None:
        """Notes that the stamps of a frame went back, as those of a bag that starts again do."""
        track = self._tracks.setdefault(child.lstrip('/'), Track())
        track.stamps_ns, track.poses = [], []
        self._count(track, f'the time of {child!r} goes back and forth by more than 5 s')

    def fault(self, frame: str) -> str:
        """Returns what is wrong with a frame or one between it and the root; '' if nothing is."""
        seen, frame = set(), frame.lstrip('/')
        while frame and frame not in seen:
            seen.add(frame)
            track = self._tracks.get(frame)
            if track is not None and self._is_contested(track):
                return track.fault
            frame = self._parents.get(frame, '')
        return ''

    def faults(self) -> list[str]:
        """Returns what is wrong with any frame, in words."""
        return [track.fault for track in self._tracks.values() if self._is_contested(track)]

    def _count(self, track: Track, fault: str) -> None:
        track.fault = fault
        track.leaps_s.append(self._clock_s())

    def _is_contested(self, track: Track) -> bool:
        since = self._clock_s() - RECENT_S
        return sum(at > since for at in track.leaps_s) >= MIN_LEAPS


def alternation(child: str, poses: list[tuple[str, np.ndarray]]) -> str:
    """Returns in words how the last poses of a frame alternate; '' when they do not.

    poses: parent and T_parent_child (4, 4), the newest last.
    """
    if len(poses) < 3:
        return ''
    (parent_2, T_2), (parent_1, T_1), (parent, T) = poses[-3:]
    if parent == parent_2 != parent_1:
        return f'{child!r} has two parents by turns, {parent!r} and {parent_1!r}'
    if len(poses) < 4 or len({p for p, _ in poses}) > 1:
        return ''
    T_3 = poses[0][1]
    size = min(jump_size(T_2, T_1), jump_size(T_1, T))
    back = jump_size(T_2, T) < STEADY * size
    # The other node published once between two poses of the first, or they take turns.
    steady = min(jump_size(T_3, T_2), jump_size(T_3, T_1)) < STEADY * size
    if size < 1 or not back or not steady:
        return ''
    metres, degrees = motion(T_1, T)
    return (f'{child!r} leaps to and fro in {parent!r} by {metres:.2f} m and {degrees:.1f} '
            'degrees')


def jump_size(a: np.ndarray, b: np.ndarray) -> float:
    """Returns how far two poses (4, 4) are apart; 1 is the least that counts as a jump."""
    distance, angle = motion(a, b)
    return max(distance / JUMP_M, angle / JUMP_DEG)
