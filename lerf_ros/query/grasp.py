# SPDX-License-Identifier: Apache-2.0
"""Where an arm should reach for a hit."""

from __future__ import annotations

import numpy as np

from lerf_ros.query.answer import Hit


def target_pose(hit: Hit) -> np.ndarray:
    """T_world_target (4, 4): at the centre of the hit's box, approached from above.

    +z is the approach direction, straight down in a map whose z is up (REP-103); +y, along which
    a parallel gripper closes, is the shorter horizontal side of the box.
    """
    horizontal = hit.rotation[:, :2]                 # axes-aligned boxes: x and y of the world
    closing = horizontal[:, int(hit.size[1] < hit.size[0])]
    approach = np.array([0.0, 0.0, -1.0])
    T = np.eye(4)
    T[:3, :3] = np.stack([np.cross(closing, approach), closing, approach], 1)
    T[:3, 3] = hit.position
    return T
