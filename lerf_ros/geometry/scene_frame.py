# SPDX-License-Identifier: Apache-2.0
"""The scene frame of the fields, and the contraction of unbounded space into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lerf_ros.geometry.camera import nearest_to_axes

PARALLEL = 1e4      # condition number from which optical axes count as parallel


@dataclass(frozen=True)
class SceneFrame:
    """The frame p_scene = (p_world - center) / radius, with center and radius in world units.

    skipped: the part of the way from a camera to the cube around it on which nothing is assumed to
    stand. It is measured once and stored with the map; it never changes.
    """

    center: tuple[float, float, float]
    radius: float
    skipped: float = 0.0

    def to_scene(self, points_world: np.ndarray) -> np.ndarray:
        """Converts points (..., 3) from the world to the scene frame."""
        return (points_world - np.asarray(self.center)) / self.radius

    def pose_to_scene(self, T_world_camera: np.ndarray) -> np.ndarray:
        """Returns a pose (4, 4) with its translation in the scene frame."""
        T_scene_camera = np.array(T_world_camera)
        T_scene_camera[:3, 3] = self.to_scene(T_scene_camera[:3, 3])
        return T_scene_camera

    def to_world(self, points_scene: np.ndarray) -> np.ndarray:
        """Converts points (..., 3) from the scene frame to the world."""
        return points_scene * self.radius + np.asarray(self.center)


def measure_from_points(points_world: np.ndarray, cameras_world: np.ndarray) -> SceneFrame:
    """Measures the frame from surface points (N, 3) seen from cameras (M, 3), world units.

    The radius covers the nearer half of the points and of the cameras, so that the resolution goes
    to what the robot sees from close by rather than to distant walls.
    """
    center = np.median(points_world, axis=0)
    distance = np.linalg.norm(points_world - center, axis=1)
    reach = np.median(np.linalg.norm(cameras_world - center, axis=1))
    return _frame(center, max(float(np.median(distance)), float(reach)))


def measure_from_focus(T_world_cameras: Sequence[np.ndarray], diagonal: float) -> SceneFrame:
    """Measures the frame from camera poses (4, 4) alone: centred where their axes meet.

    diagonal: what an image shows at distance 1, from corner to corner. The radius is what images
    show so at the centre, and no more than the cameras' distance from it: that of a long lens is
    less. If the axes are nearly parallel, the centre lies ahead of the cameras by their own spread.
    """
    poses = np.stack(T_world_cameras)
    origins, axes = poses[:, :3, 3], poses[:, :3, 2]
    center, condition = nearest_to_axes(poses)
    spread = max(float(np.linalg.norm(origins - origins.mean(0), axis=1).max()), 1e-3)
    if not condition < PARALLEL:
        center = origins.mean(0) + spread * axes.mean(0)
    ahead = ((center - origins) * axes).sum(1)
    if np.median(ahead) <= 0:   # the axes meet behind the cameras, which look outwards
        center = origins.mean(0)
        return _frame(center, 2 * spread)
    distance = float(np.median(np.linalg.norm(center - origins, axis=1)))
    return _frame(center, distance * min(diagonal, 1.0))


def measure_from_cameras(cameras_world: np.ndarray) -> SceneFrame:
    """Measures nerfstudio's frame: centred on the cameras (M, 3), all in a cube of edge 2."""
    center = cameras_world.mean(0)
    return _frame(center, max(float(np.abs(cameras_world - center).max()), 1e-6))


def _frame(center: np.ndarray, radius: float) -> SceneFrame:
    x, y, z = (float(v) for v in center)
    return SceneFrame((x, y, z), float(radius))


def contract(positions: Tensor, norm: str = 'max') -> Tensor:
    """Contracts scene positions (..., 3) of all space to [0, 1] (mip-NeRF 360, equation 10).

    norm: `max` (nerfacto's fields; infinity maps to the faces of the cube) or `euclidean` (LERF's
    language field; infinity maps to a sphere). Positions with a norm below 1 are only scaled.
    """
    if norm == 'max':
        length = positions.abs().amax(-1, keepdim=True).clamp_min(1e-6)
    else:
        length = positions.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    outside = (2 - 1 / length) * positions / length
    return (torch.where(length <= 1, positions, outside) + 2) / 4


def uncontract(unit: Tensor) -> Tensor:
    """Inverts `contract` with the norm `max`: maps (..., 3) in (0, 1) to scene positions."""
    folded = unit * 4 - 2
    length = folded.abs().amax(-1, keepdim=True)
    return torch.where(length <= 1, folded,
                       folded / (length * (2 - length)).clamp_min(1e-6))
