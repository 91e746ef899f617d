# SPDX-License-Identifier: Apache-2.0
"""Line drawings of what an answer means: boxes, grippers and cameras, as segments in the world."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lerf_ros.config import GraspConfig
from lerf_ros.geometry.camera import PinholeCamera, transform_points
from lerf_ros.query.answer import Answer, Hit

# A keyframe is drawn so long: this part of the extent of all of them.
FRUSTUM_PART = 0.05
# Pairs of corners of `box_corners` that an edge joins: they differ along one axis.
BOX_EDGES = tuple((a, b) for a, b in itertools.combinations(range(8), 2)
                  if (a ^ b).bit_count() == 1)


def box_corners(hit: Hit) -> np.ndarray:
    """The corners (8, 3) of the hit's box in the world; bit 0 of the index is the end in z."""
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    return hit.position + (signs * hit.size) @ np.asarray(hit.rotation).T


def box_outline(hit: Hit) -> np.ndarray:
    """The twelve edges of the hit's box, segments (12, 2, 3) in the world."""
    return box_corners(hit)[np.array(BOX_EDGES)]


def gripper_outline(T_world_grasp: np.ndarray, opening_width: float,
                    finger_depth: float) -> np.ndarray:
    """Two fingers, palm and wrist of a parallel gripper, segments (4, 2, 3) in the world.

    T_world_grasp (4, 4): origin between the fingertips, +z approach, +y closing. opening_width:
    of the fingers, finger_depth: from their tips to the hand, metres.
    """
    half, back = opening_width / 2, -finger_depth
    segments = np.array([[[0, -half, 0], [0, -half, back]], [[0, half, 0], [0, half, back]],
                         [[0, -half, back], [0, half, back]], [[0, 0, back], [0, 0, 2 * back]]])
    return transform_points(T_world_grasp, segments.reshape(-1, 3)).reshape(-1, 2, 3)


def target_outline(answer: Answer) -> np.ndarray:
    """The gripper at the answer's target, segments (S, 2, 3) in the world; none without target."""
    if answer.T_world_target is None:
        return np.zeros((0, 2, 3))
    width = answer.grasps[0].opening_width if answer.grasps else GraspConfig().max_opening
    return gripper_outline(answer.T_world_target, width, answer.finger_depth)


def frustum_outline(camera: PinholeCamera, T_world_camera: np.ndarray,
                    depth: float) -> np.ndarray:
    """A camera as a pyramid, segments (8, 2, 3) in the world: apex to corners, and the image.

    depth: from the apex to the image, world units.
    """
    w, h = camera.width, camera.height
    corners = camera.directions(np.array([[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]]))
    corners = corners / corners[:, 2:] * depth
    apex = np.zeros(3)
    segments = [(apex, corner) for corner in corners]
    segments += [(corners[i], corners[(i + 1) % 4]) for i in range(4)]
    return transform_points(T_world_camera, np.reshape(segments, (-1, 3))).reshape(-1, 2, 3)


def keyframe_outlines(cameras: Sequence[tuple[PinholeCamera, np.ndarray]]) -> np.ndarray:
    """All keyframes, as camera and T_world_camera (4, 4) each: segments (8 N, 2, 3) in the world.

    Their length follows from how far apart they were taken.
    """
    if not cameras:
        return np.zeros((0, 2, 3))
    depth = frustum_depth(np.stack([T[:3, 3] for _, T in cameras]))
    return np.concatenate([frustum_outline(camera, T, depth) for camera, T in cameras])


def frustum_depth(centers: np.ndarray) -> float:
    """How long to draw cameras at these places (N, 3), world units."""
    extent = float(np.linalg.norm(np.ptp(centers, axis=0)))
    return FRUSTUM_PART * (extent or 1.0)
