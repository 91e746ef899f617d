# SPDX-License-Identifier: Apache-2.0
"""Which way is up in a map, from how the cameras were held.

A robot's map frame has z up (REP-103). The poses of structure from motion stand anyhow, but people
hold a camera level: its right axis stays near the horizon, and its image stands upright.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Z_UP = np.array([0.0, 0.0, 1.0])
LEVEL_DEG = 20.0        # within it the cameras do not contradict z
LEAST_AGREEMENT = 0.3   # length of the mean of the images' unit up axes; looking down it is near 0
HORIZON_GAP = 0.5       # the right axes span a plane where they vary so much less across it,
LEAST_SPREAD = 0.2      # and so much along it: cameras that all face one way span none
MOST_APART_DEG = 45.0   # between the normal of that plane and the mean up axis


@dataclass(frozen=True)
class UpDirection:
    """Unit vector (3,) that points up, and in words where that is from."""

    direction: np.ndarray
    words: str

    @property
    def is_z(self) -> bool:
        """Whether that is the z axis of the map."""
        return bool((self.direction == Z_UP).all())


def up_of_cameras(T_world_cameras: np.ndarray) -> UpDirection:
    """Returns which way is up for cameras (M, 4, 4), whose axes are OpenCV's: y down.

    That is z where the cameras agree with it within LEVEL_DEG, or do not tell: the up axes of
    cameras that all face one way, such as down from a robot's arm, say nothing of up.
    """
    if not len(T_world_cameras):
        return UpDirection(Z_UP, 'z of the map')
    mean = -T_world_cameras[:, :3, 1].mean(0)
    agreement = float(np.linalg.norm(mean))
    up = None if agreement < LEAST_AGREEMENT else _horizon_normal(
        T_world_cameras[:, :3, 0], mean / agreement)
    if up is None:
        return UpDirection(Z_UP, 'z of the map, as the cameras do not tell')
    tilt = float(np.degrees(np.arccos(np.clip(up @ Z_UP, -1.0, 1.0))))
    if tilt <= LEVEL_DEG:
        return UpDirection(Z_UP, 'z of the map')
    return UpDirection(up, f'from the cameras, {tilt:.0f} degrees off z of the map')


def _horizon_normal(right: np.ndarray, mean_up: np.ndarray) -> np.ndarray | None:
    """Returns the normal of the plane that right axes (M, 3) span; None where they span none.

    Cameras that look up and down tilt their up axes but not their right axes. mean_up (3,): of the
    up axes, unit, which must agree.
    """
    _, extents, axes = np.linalg.svd(right, full_matrices=False)
    if len(extents) < 3 or extents[2] > HORIZON_GAP * extents[1] \
            or extents[1] < LEAST_SPREAD * extents[0]:
        return None
    normal = axes[2] * np.sign(axes[2] @ mean_up or 1.0)
    return normal if normal @ mean_up >= np.cos(np.radians(MOST_APART_DEG)) else None


def rotation_to(up: np.ndarray) -> np.ndarray:
    """Returns the rotation (3, 3) by the shortest way that turns z to a unit vector (3,)."""
    axis, cosine = np.cross(Z_UP, up), float(up @ Z_UP)
    if cosine < -1 + 1e-9:      # every axis across z is as short
        return np.diag([1.0, -1.0, -1.0])
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)
