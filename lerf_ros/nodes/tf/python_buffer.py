# SPDX-License-Identifier: Apache-2.0
"""The part of tf2_ros.Buffer that lerf_ros uses, in Python, for machines without tf2_ros.

It behaves as tf2: a moving transform is interpolated between the two stamps around the requested
one and never extrapolated; a static transform holds at all times. It is not thread-safe.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import numpy as np
import yaml
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from scipy.spatial.transform import Rotation

from lerf_ros.geometry.camera import invert_pose
from lerf_ros.nodes.common.conversions import matrix_to_transform, stamp_to_ns, transform_to_matrix


class TransformException(Exception):
    """The transform is unknown at the requested time; the text says why."""


@dataclass
class Edge:
    """Transforms (4, 4) of a frame in its parent frame, by ascending stamp."""

    parent: str
    static: bool
    stamps_ns: list[int] = field(default_factory=list)
    transforms: list[np.ndarray] = field(default_factory=list)

    def insert(self, stamp_ns: int, T: np.ndarray, keep_ns: int) -> None:
        """Adds a transform and drops those that are more than keep_ns older than the newest."""
        i = bisect.bisect_left(self.stamps_ns, stamp_ns)
        if i < len(self.stamps_ns) and self.stamps_ns[i] == stamp_ns:
            self.transforms[i] = T
        else:
            self.stamps_ns.insert(i, stamp_ns)
            self.transforms.insert(i, T)
        old = bisect.bisect_left(self.stamps_ns, self.stamps_ns[-1] - keep_ns)
        del self.stamps_ns[:old], self.transforms[:old]

    def at(self, child: str, stamp_ns: int) -> np.ndarray:
        """Returns T_parent_child (4, 4) at a stamp; raises TransformException outside the range.
        """
        if self.static:
            return self.transforms[-1]
        i = bisect.bisect_left(self.stamps_ns, stamp_ns)
        if i < len(self.stamps_ns) and self.stamps_ns[i] == stamp_ns:
            return self.transforms[i]
        if i in (0, len(self.stamps_ns)):
            raise TransformException(
                f'Lookup would require extrapolation into the {"future" if i else "past"}: '
                f'{child!r} is known from {self.stamps_ns[0] / 1e9:.3f} s to '
                f'{self.stamps_ns[-1] / 1e9:.3f} s, asked for {stamp_ns / 1e9:.3f} s')
        before, after = self.stamps_ns[i - 1:i + 1]
        return interpolate(self.transforms[i - 1], self.transforms[i],
                           (stamp_ns - before) / (after - before))


class Buffer:
    """Keeps the tree of frames over the last seconds."""

    def __init__(self, cache_time: Duration | None = None) -> None:
        self._keep_ns = (cache_time or Duration(seconds=10.0)).nanoseconds
        self._edges: dict[str, Edge] = {}   # child frame -> its edge to the parent

    def set_transform(self, msg: TransformStamped, authority: str) -> None:
        """Adds a moving transform; another parent replaces the old one with all its transforms.

        Raises FrameError for a quaternion of length 0 and leaves the tree as it was.
        """
        self._add(msg, static=False)

    def set_transform_static(self, msg: TransformStamped, authority: str) -> None:
        """Adds a transform that holds at all times; raises FrameError as set_transform."""
        self._add(msg, static=True)

    def lookup_transform(self, target_frame: str, source_frame: str,
                         time: Time) -> TransformStamped:
        """Returns the transform from coordinates of the source frame to those of the target frame.

        Time 0 means the newest. Raises TransformException when a frame is unknown, the frames are
        not connected or the time is outside the received range.
        """
        T = self._lookup(target_frame.lstrip('/'), source_frame.lstrip('/'), time.nanoseconds)
        msg = TransformStamped(child_frame_id=source_frame, transform=matrix_to_transform(T))
        msg.header.frame_id = target_frame
        msg.header.stamp = time.to_msg()
        return msg

    def all_frames_as_yaml(self) -> str:
        """Returns the parent of every frame in the format of tf2, without its statistics."""
        return yaml.safe_dump({child: {'parent': edge.parent}
                               for child, edge in self._edges.items()})

    def _add(self, msg: TransformStamped, static: bool) -> None:
        T = transform_to_matrix(msg.transform)    # raises before the tree changes
        parent, child = msg.header.frame_id.lstrip('/'), msg.child_frame_id.lstrip('/')
        edge = self._edges.get(child)
        if static or edge is None or edge.static or edge.parent != parent:
            edge = self._edges[child] = Edge(parent, static)
        edge.insert(stamp_to_ns(msg.header.stamp), T, self._keep_ns)

    def _lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        up, down = self._chain(source), self._chain(target)
        common = next((f for f in up if f in down), None)
        if common is None:
            known = set(self._edges) | {edge.parent for edge in self._edges.values()}
            missing = [f for f in (target, source) if f not in known]
            raise TransformException(
                f'{" and ".join(map(repr, missing))} does not exist' if missing else
                f'{target!r} and {source!r} are not connected')
        up, down = up[:up.index(common)], down[:down.index(common)]
        if stamp_ns == 0:   # as tf2: the newest time at which every edge on the way is known
            edges = [self._edges[child] for child in (*up, *down)]
            stamp_ns = min((e.stamps_ns[-1] for e in edges if not e.static), default=0)
        T_common_source = self._product(up, stamp_ns)
        T_common_target = self._product(down, stamp_ns)
        return invert_pose(T_common_target) @ T_common_source

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._edges:
            chain.append(self._edges[chain[-1]].parent)
            if chain[-1] in chain[:-1]:
                raise TransformException(f'the frame tree has a loop at {chain[-1]!r}')
        return chain

    def _product(self, chain: list[str], stamp_ns: int) -> np.ndarray:
        T = np.eye(4)
        for child in chain:
            T = self._edges[child].at(child, stamp_ns) @ T
        return T


def interpolate(a: np.ndarray, b: np.ndarray, fraction: float) -> np.ndarray:
    """Returns the rigid (4, 4) at a fraction of the way from a to b.

    Interpolates positions linearly and rotations along the shortest arc.
    """
    T = np.eye(4)
    turn = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).as_rotvec()
    T[:3, :3] = a[:3, :3] @ Rotation.from_rotvec(fraction * turn).as_matrix()
    T[:3, 3] = (1 - fraction) * a[:3, 3] + fraction * b[:3, 3]
    return T
