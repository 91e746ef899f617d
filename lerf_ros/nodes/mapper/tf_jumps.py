# SPDX-License-Identifier: Apache-2.0
"""Notices when a localisation corrects itself at once: odom jumps in map (REP-105).

A jump counts between transforms of one running localisation alone. After a pause, or when it starts
anew, odom is somewhere else because nobody knows yet where the robot is: that says nothing of what
was before. And a leap that is taken back at once is a fault, or two nodes that contradict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import TransformStamped

from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.frames.selection import motion
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.nodes.common.conversions import stamp_to_ns, transform_to_matrix

# From one transform to the next; what a localisation corrects while it follows is less.
JUMP_M, JUMP_DEG = 0.1, 2.0
# Transforms are lost on a busy machine: so much odometry may drift in a second of such a gap.
DRIFT_M, DRIFT_DEG = 0.1, 3.0
# Without a transform for longer, the localisation has stopped; what comes then is another one.
GAP_NS = 10 * 10**9
# A jump holds when so many later transforms agree, or when this much time has passed.
AGREED, SETTLED_NS = 2, 10**9


@dataclass
class Jump:
    """One that has been seen and may yet be taken back; stamps in ns."""

    before_ns: int
    T_before: np.ndarray
    T_after: np.ndarray
    seen_ns: int
    agreed: int = 0


class JumpWatch:
    """Compares each transform from odom to map with the one before."""

    def __init__(self, map_frame: str, odom_frame: str, spread: bool) -> None:
        self._edge, self._spread = (map_frame.lstrip('/'), odom_frame.lstrip('/')), spread
        self._newest: tuple[int, np.ndarray] | None = None
        self._since_ns = 0
        self._jump: Jump | None = None
        self.sessions = 0       # localisations that have started
        self.size = 0.0, 0.0    # of the newest jump, metres and degrees

    def look(self, msg: TransformStamped) -> Jump | None:
        """The jump that a transform shows at first sight, if it is of that edge and does."""
        if (msg.header.frame_id.lstrip('/'), msg.child_frame_id.lstrip('/')) != self._edge:
            return None
        stamp_ns, T_map_odom = stamp_to_ns(msg.header.stamp), transform_to_matrix(msg.transform)
        before = self._newest
        if before is not None and stamp_ns <= before[0]:
            return None
        self._newest = stamp_ns, T_map_odom
        if before is None or stamp_ns - before[0] > GAP_NS:
            # Poses of before are those of another localisation.
            self._since_ns, self._jump = stamp_ns - 1, None
            self.sessions += 1
            return None
        jump = self._jump
        if jump is not None and not jumped(jump.before_ns, jump.T_before, stamp_ns, T_map_odom):
            self._jump = None       # it was taken back
        elif jumped(*before, stamp_ns, T_map_odom):
            origin = before if jump is None else (jump.before_ns, jump.T_before)
            self._jump = Jump(*origin, T_map_odom, stamp_ns)
            self.size = motion(origin[1], T_map_odom)
            return self._jump
        elif jump is not None:
            jump.agreed += 1
        return None

    def settled(self, now_ns: int) -> PoseJump | None:
        """The jump that was seen and holds by now, once; now_ns: the newest stamp of any transform.
        """
        jump = self._jump
        if jump is None or (jump.agreed < AGREED and now_ns - jump.seen_ns < SETTLED_NS):
            return None
        found = PoseJump(jump.T_after @ invert_pose(jump.T_before), self._since_ns,
                         jump.before_ns, self._spread)
        self._since_ns, self._jump = jump.before_ns, None
        return found

    def drop(self) -> None:
        """The jump that was seen is none: nothing follows it."""
        self._jump = None

    def restart(self) -> None:
        """Time has gone back, or the localisation was started anew."""
        self._newest, self._since_ns, self._jump = None, 0, None


def jumped(before_ns: int, T_before: np.ndarray, stamp_ns: int, T: np.ndarray) -> bool:
    """Whether a frame has moved by more than it drifts in the time between two stamps."""
    distance, angle = motion(T_before, T)
    gap_s = (stamp_ns - before_ns) * 1e-9
    return distance >= JUMP_M + gap_s * DRIFT_M or angle >= JUMP_DEG + gap_s * DRIFT_DEG
