# SPDX-License-Identifier: Apache-2.0
"""An answer in the coordinates of another frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lerf_ros.camera import transform_points
from lerf_ros.query.answer import Answer, Grasp, Hit


def in_frame(answer: Answer, T_frame_world: np.ndarray, frame_id: str) -> Answer:
    """The answer with every position and pose in the frame; T_frame_world (4, 4) is rigid."""
    target = answer.T_world_target
    return replace(
        answer, frame_id=frame_id,
        hits=tuple(moved_hit(hit, T_frame_world) for hit in answer.hits),
        grasps=tuple(moved_grasp(grasp, T_frame_world) for grasp in answer.grasps),
        points_world=transform_points(T_frame_world, answer.points_world),
        T_world_target=None if target is None else T_frame_world @ target)


def moved_hit(hit: Hit, T: np.ndarray) -> Hit:
    """The hit after the rigid motion T (4, 4)."""
    return replace(hit, position=T[:3, :3] @ hit.position + T[:3, 3],
                   rotation=T[:3, :3] @ hit.rotation)


def moved_grasp(grasp: Grasp, T: np.ndarray) -> Grasp:
    """The grasp after the rigid motion T (4, 4)."""
    return replace(grasp, T_world_grasp=T @ grasp.T_world_grasp,
                   T_world_pregrasp=T @ grasp.T_world_pregrasp,
                   T_world_gripper=T @ grasp.T_world_gripper)
