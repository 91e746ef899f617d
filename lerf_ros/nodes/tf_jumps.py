# SPDX-License-Identifier: Apache-2.0
"""Notices when a localisation corrects itself at once: odom jumps in map (REP-105)."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import TransformStamped

from lerf_ros.camera import invert_pose
from lerf_ros.keyframes.pose_jump import PoseJump
from lerf_ros.keyframes.selection import motion
from lerf_ros.nodes.conversions import stamp_to_ns, transform_to_matrix

# From one transform to the next; what a localisation corrects while it follows is less.
JUMP_M, JUMP_DEG = 0.1, 2.0
# Transforms are lost on a busy machine: so much odometry may drift in a second of such a gap.
DRIFT_M, DRIFT_DEG = 0.1, 3.0


class JumpWatch:
    """Compares each transform from odom to map with the one before."""

    def __init__(self, map_frame: str, odom_frame: str, spread: bool) -> None:
        self._edge, self._spread = (map_frame.lstrip('/'), odom_frame.lstrip('/')), spread
        self._newest: tuple[int, np.ndarray] | None = None
        self._since_ns = 0
        self.size = 0.0, 0.0    # of the newest jump, metres and degrees

    def look(self, msg: TransformStamped) -> PoseJump | None:
        """The jump that a transform tells of, if it is that edge and does."""
        if (msg.header.frame_id.lstrip('/'), msg.child_frame_id.lstrip('/')) != self._edge:
            return None
        stamp_ns, T_map_odom = stamp_to_ns(msg.header.stamp), transform_to_matrix(msg.transform)
        before = self._newest
        if before is not None and stamp_ns <= before[0]:
            return None
        self._newest = stamp_ns, T_map_odom
        if before is None:
            return None
        distance, angle = motion(before[1], T_map_odom)
        gap_s = (stamp_ns - before[0]) * 1e-9
        if distance < JUMP_M + gap_s * DRIFT_M and angle < JUMP_DEG + gap_s * DRIFT_DEG:
            return None
        self.size = distance, angle
        jump = PoseJump(T_map_odom @ invert_pose(before[1]), self._since_ns, before[0],
                        self._spread)
        self._since_ns = before[0]
        return jump

    def restart(self) -> None:
        """Time has gone back: what was before says nothing of what comes."""
        self._newest, self._since_ns = None, 0
