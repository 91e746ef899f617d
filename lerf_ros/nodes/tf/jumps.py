# SPDX-License-Identifier: Apache-2.0
"""Detects when a localisation corrects itself: the odom frame jumps in the map frame (REP-105).

A jump counts only within one run of the localisation. After a pause or a restart the odom frame may
be anywhere, because the robot has not been localised yet; that says nothing about earlier poses. A
jump that is reversed at once is a fault, or two nodes that contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import TransformStamped

from lerf_ros.frames.pose_jump import PoseJump
from lerf_ros.frames.selection import motion
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.nodes.common.conversions import stamp_to_ns, transform_to_matrix

# Between two transforms; the usual corrections of a localisation are smaller.
JUMP_M, JUMP_DEG = 0.1, 2.0
# What odometry may drift in a second without transforms, which a busy machine loses.
DRIFT_M, DRIFT_DEG = 0.1, 3.0
# After a longer gap the localisation has stopped; what follows is another run.
GAP_NS = 10 * 10**9
# A jump is confirmed when so many later transforms agree with it, or after this time.
CONFIRMATIONS, CONFIRMED_NS = 2, 10**9


@dataclass
class UnconfirmedJump:
    """A jump that may yet be reversed: poses (4, 4) of odom in map before and after; stamps in ns.
    """

    before_ns: int
    T_before: np.ndarray
    T_after: np.ndarray
    seen_ns: int
    confirmations: int = 0


class JumpDetector:
    """Compares each transform of the odom frame in the map frame with the one before."""

    def __init__(self, map_frame: str, odom_frame: str, spread: bool) -> None:
        """spread: as in the PoseJump that `confirmed` returns."""
        self._edge, self._spread = (map_frame.lstrip('/'), odom_frame.lstrip('/')), spread
        self._newest: tuple[int, np.ndarray] | None = None
        self._since_ns = 0
        self._jump: UnconfirmedJump | None = None
        self.sessions = 0       # runs of the localisation that have begun
        self.size = 0.0, 0.0    # of the newest jump, metres and degrees

    def add(self, msg: TransformStamped) -> UnconfirmedJump | None:
        """Takes a transform; returns the jump that it shows, None for any other transform."""
        if (msg.header.frame_id.lstrip('/'), msg.child_frame_id.lstrip('/')) != self._edge:
            return None
        stamp_ns, T_map_odom = stamp_to_ns(msg.header.stamp), transform_to_matrix(msg.transform)
        before = self._newest
        if before is not None and stamp_ns <= before[0]:
            return None
        self._newest = stamp_ns, T_map_odom
        if before is None or stamp_ns - before[0] > GAP_NS:
            # Earlier poses belong to another run of the localisation.
            self._since_ns, self._jump = stamp_ns - 1, None
            self.sessions += 1
            return None
        jump = self._jump
        if jump is not None and not jumped(jump.before_ns, jump.T_before, stamp_ns, T_map_odom):
            self._jump = None       # it was reversed
        elif jumped(*before, stamp_ns, T_map_odom):
            origin = before if jump is None else (jump.before_ns, jump.T_before)
            self._jump = UnconfirmedJump(*origin, T_map_odom, stamp_ns)
            self.size = motion(origin[1], T_map_odom)
            return self._jump
        elif jump is not None:
            jump.confirmations += 1
        return None

    def confirmed(self, now_ns: int) -> PoseJump | None:
        """Returns a jump once, when it is confirmed; None otherwise.

        now_ns: the newest stamp of any transform.
        """
        jump = self._jump
        if jump is None or (jump.confirmations < CONFIRMATIONS
                            and now_ns - jump.seen_ns < CONFIRMED_NS):
            return None
        confirmed = PoseJump(jump.T_after @ invert_pose(jump.T_before), self._since_ns,
                         jump.before_ns, self._spread)
        self._since_ns, self._jump = jump.before_ns, None
        return confirmed

    def restart(self) -> None:
        """Forgets everything, because time went back or the localisation was restarted."""
        self._newest, self._since_ns, self._jump = None, 0, None


def jumped(before_ns: int, T_before: np.ndarray, stamp_ns: int, T: np.ndarray) -> bool:
    """Returns whether a frame moved further between two stamps than it may drift in that time."""
    distance, angle = motion(T_before, T)
    gap_s = (stamp_ns - before_ns) * 1e-9
    return distance >= JUMP_M + gap_s * DRIFT_M or angle >= JUMP_DEG + gap_s * DRIFT_DEG
