# SPDX-License-Identifier: Apache-2.0
"""What a robot is judged by: is the best hit at the object, are the returned points the object's?

Boxes are axis-aligned in the world frame, given by their corners `low` and `high` (3,), in world
units (metres for a metric map). Points on a face are inside.
"""

from __future__ import annotations

import numpy as np

# A hit's position comes from points on the surface, which are as exact as the depth: a gripper's
# tolerance around the object's box.
HIT_MARGIN_M = 0.03


def inside_box(position: np.ndarray, low: np.ndarray, high: np.ndarray,
               margin: float = HIT_MARGIN_M) -> bool:
    """True when the position (3,) lies in the box grown by `margin` on every side."""
    return bool(points_in_box(np.asarray(position)[None], low, high, margin)[0])


def points_in_box(points: np.ndarray, low: np.ndarray, high: np.ndarray,
                  margin: float = 0.0) -> np.ndarray:
    """Which points (N, 3) lie in the box grown by `margin` on every side, (N,) bool."""
    points = np.asarray(points, np.float64)
    above = points >= np.asarray(low) - margin
    below = points <= np.asarray(high) + margin
    return np.all(above & below, axis=-1)


def point_iou(returned: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two choices (N,) bool among the same points.

    0 where both are empty: an object without points cannot be found.
    """
    returned, truth = np.asarray(returned, bool), np.asarray(truth, bool)
    union = np.count_nonzero(returned | truth)
    return np.count_nonzero(returned & truth) / union if union else 0.0


def box_iou(low_a: np.ndarray, high_a: np.ndarray, low_b: np.ndarray,
            high_b: np.ndarray) -> float:
    """Intersection over union of the volumes of two boxes; 0 where neither has a volume."""
    low_a, high_a, low_b, high_b = (np.asarray(corner, np.float64)
                                    for corner in (low_a, high_a, low_b, high_b))
    shared = float(np.prod(np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None)))
    union = float(np.prod(high_a - low_a) + np.prod(high_b - low_b)) - shared
    return shared / union if union > 0 else 0.0
