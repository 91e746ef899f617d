# SPDX-License-Identifier: Apache-2.0
"""Outlines of boxes, grippers and cameras, as line segments in the world."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lerf_ros.config import GraspConfig
from lerf_ros.geometry.camera import PinholeCamera, transform_points
from lerf_ros.query.answer import Answer, Hit

# The length of a drawn keyframe, as a fraction of the extent of all of them.
FRUSTUM_PART = 0.05
# Pairs of corners of a box that an edge joins: they differ along one axis.
BOX_EDGES = tuple((a, b) for a, b in itertools.combinations(range(8), 2)
                  if (a ^ b).bit_count() == 1)


def box_outline(hit: Hit) -> np.ndarray:
    """Returns the twelve edges of the box of a hit, segments (12, 2, 3) in the world."""
    return hit.corners()[np.array(BOX_EDGES)]


def gripper_outline(T_world_grasp: np.ndarray, opening_width: float,
                    finger_depth: float) -> np.ndarray:
    """Returns fingers, palm and wrist of a parallel gripper, segments (4, 2, 3) in the world.

    T_world_grasp: (4, 4), origin between the fingertips, +z approach, +y closing. opening_width:
    between the fingers; finger_depth: from their tips to the hand; both metres.
    """
    half, back = opening_width / 2, -finger_depth
    segments = np.array([[[0, -half, 0], [0, -half, back]], [[0, half, 0], [0, half, back]],
                         [[0, -half, back], [0, half, back]], [[0, 0, back], [0, 0, 2 * back]]])
    return transform_points(T_world_grasp, segments.reshape(-1, 3)).reshape(-1, 2, 3)


def axes_outline(T: np.ndarray, length: float) -> np.ndarray:
    """Returns the axes x, y and z of a pose (4, 4), segments (3, 2, 3) in the world."""
    ends = np.stack([np.zeros((3, 3)), length * np.eye(3)], 1)
    return transform_points(T, ends.reshape(-1, 3)).reshape(-1, 2, 3)


def target_outline(answer: Answer) -> np.ndarray:
    """Returns the gripper at the target of an answer, segments (S, 2, 3); none without a target."""
    if answer.T_world_target is None:
        return np.zeros((0, 2, 3))
    width = answer.grasps[0].opening_width if answer.grasps else GraspConfig().max_opening
    return gripper_outline(answer.T_world_target, width, answer.finger_depth)


def frustum_outline(camera: PinholeCamera, T_world_camera: np.ndarray,
                    depth: float) -> np.ndarray:
    """Returns a camera as a pyramid, segments (8, 2, 3) in the world.

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
    """Returns all N keyframes as pyramids, segments (8 N, 2, 3) in the world.

    cameras: camera and T_world_camera (4, 4) of each. Their size depends on how far apart they are.
    """
    if not cameras:
        return np.zeros((0, 2, 3))
    depth = frustum_depth(np.stack([T[:3, 3] for _, T in cameras]))
    return np.concatenate([frustum_outline(camera, T, depth) for camera, T in cameras])


def frustum_depth(centers: np.ndarray) -> float:
    """Returns the length at which to draw cameras at these centers (N, 3), world units."""
    extent = float(np.linalg.norm(np.ptp(centers, axis=0)))
    return FRUSTUM_PART * (extent or 1.0)
