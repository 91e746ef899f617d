# SPDX-License-Identifier: Apache-2.0
"""What RViz's orbit view shows, for tests without RViz."""

import math

import numpy as np

from lerf_ros.show.rviz_view import FIELD_OF_VIEW_DEG


def seen(view, points):
    """Which points (N, 3) are in a square window of RViz's orbit view."""
    ahead = np.array(view.focus) - view.eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    along = (points - view.eye) @ np.stack([right, np.cross(right, ahead), ahead], 1)
    half = math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
    return (along[:, 2] > 0) & (np.abs(along[:, :2]) <= half * along[:, 2:]).all(1)
