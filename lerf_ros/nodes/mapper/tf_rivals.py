# SPDX-License-Identifier: Apache-2.0
"""Notices when two nodes publish the same frame and contradict each other.

The frame then leaps to and fro between two places that hardly change themselves, or has two parents
by turns, or the times of its stamps go back and forth. Nothing that moves does so.
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
from lerf_ros.nodes.mapper.tf_jumps import JUMP_DEG, JUMP_M

RECENT_S = 10.0     # a fault of so long ago is still the present state
FEWEST = 3          # leaps within that time; one may be a slip
STEADY = 0.3        # part of the leap by which either place may change meanwhile
LENGTH = 40         # places that are kept: what was lost comes up to seconds late


@dataclass
class Track:
    """The last places of a frame by their stamps (ns), and when it leapt to and fro."""

    stamps_ns: list[int] = field(default_factory=list)
    places: list[tuple[str, np.ndarray]] = field(default_factory=list)
    leaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    text: str = ''

    def insert(self, stamp_ns: int, parent: str, T: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Takes a place; returns it with the three before it."""
        i = bisect.bisect_right(self.stamps_ns, stamp_ns)
        self.stamps_ns.insert(i, stamp_ns)
        self.places.insert(i, (parent, T))
        found = self.places[max(i - 3, 0):i + 1]
        del self.stamps_ns[:-LENGTH], self.places[:-LENGTH]
        return found


class RivalWatch:
    """Looks at all moving transforms."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._tracks: dict[str, Track] = {}
        self._parents: dict[str, str] = {}

    def look(self, msg: TransformStamped) -> None:
        """Takes a valid transform of /tf."""
        parent, child = msg.header.frame_id.lstrip('/'), msg.child_frame_id.lstrip('/')
        track = self._tracks.setdefault(child, Track())
        places = track.insert(stamp_to_ns(msg.header.stamp), parent,
                              transform_to_matrix(msg.transform))
        self._parents[child] = parent
        if text := leap(child, places):
            self._count(track, text)

    def hold(self, parent: str, child: str) -> None:
        """A static transform: only where the frame hangs is of interest."""
        self._parents[child.lstrip('/')] = parent.lstrip('/')

    def time_went_back(self, child: str) -> None:
        """The stamps of a frame have gone back by a lot; a bag that starts again does so too."""
        track = self._tracks.setdefault(child.lstrip('/'), Track())
        track.stamps_ns, track.places = [], []
        self._count(track, f'the time of {child!r} goes back and forth by more than 5 s')

    def fault(self, frame: str) -> str:
        """What is wrong with the frames from this one up to the root, in words; empty if nothing.
        """
        seen, frame = set(), frame.lstrip('/')
        while frame and frame not in seen:
            seen.add(frame)
            track = self._tracks.get(frame)
            if track is not None and self._is_contested(track):
                return track.text
            frame = self._parents.get(frame, '')
        return ''

    def faults(self) -> list[str]:
        """What is wrong with any frame."""
        return [track.text for track in self._tracks.values() if self._is_contested(track)]

    def _count(self, track: Track, text: str) -> None:
        track.text = text
        track.leaps_s.append(self._clock_s())

    def _is_contested(self, track: Track) -> bool:
        since = self._clock_s() - RECENT_S
        return sum(at > since for at in track.leaps_s) >= FEWEST


def leap(child: str, places: list[tuple[str, np.ndarray]]) -> str:
    """Whether the last places of a frame, each with its parent, are those of two: in words."""
    if len(places) < 3:
        return ''
    (parent_2, T_2), (parent_1, T_1), (parent, T) = places[-3:]
    if parent == parent_2 != parent_1:
        return f'{child!r} has two parents by turns, {parent!r} and {parent_1!r}'
    if len(places) < 4 or len({p for p, _ in places}) > 1:
        return ''
    T_3 = places[0][1]
    size = min(span(T_2, T_1), span(T_1, T))
    back = span(T_2, T) < STEADY * size
    # Either the other one came once between two of the first, or they come by turns.
    steady = min(span(T_3, T_2), span(T_3, T_1)) < STEADY * size
    if size < 1 or not back or not steady:
        return ''
    metres, degrees = motion(T_1, T)
    return (f'{child!r} leaps to and fro in {parent!r} by {metres:.2f} m and {degrees:.1f} '
            'degrees')


def span(a: np.ndarray, b: np.ndarray) -> float:
    """How far two poses (4, 4) are apart, 1 for what counts as a jump."""
    distance, angle = motion(a, b)
    return max(distance / JUMP_M, angle / JUMP_DEG)
