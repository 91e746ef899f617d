# SPDX-License-Identifier: Apache-2.0
"""Turns captures upright whose poses stand anyhow, as those of structure from motion may.

Boxes, supporting planes and grasps need to know where up is, and a map has z up (REP-103). Poses
that agree with that are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.posed_folder import LazyFrames, PosedFolder
from lerf_ros.geometry.up_direction import Z_UP, UpDirection, rotation_to, up_of_cameras

AXES = {sign + name: (1.0 if sign != '-' else -1.0) * np.eye(3)[i]
        for i, name in enumerate('xyz') for sign in ('', '+', '-')}


@dataclass(frozen=True)
class UprightCapture:
    """A capture with z up; T_map_capture (4, 4) turns its former coordinates to these."""

    folder: PosedFolder
    up: UpDirection     # in the capture
    T_map_capture: np.ndarray

    @property
    def turned(self) -> bool:
        """Whether the poses are not those of the capture any more."""
        return not self.up.is_z

    def line(self) -> str:
        """Returns in words where up is, and what was done."""
        x, y, z = self.up.direction
        done = (f' ({x:.2f}, {y:.2f}, {z:.2f}): the map is turned so that z is up, with the '
                'rotation in its meta.json; --up z keeps the coordinates of the capture'
                if self.turned else '')
        return f'up is {self.up.words}{done}'


def stand_upright(folder: PosedFolder, up: str = 'auto') -> UprightCapture:
    """Returns the capture, turned where z is not up.

    up: auto takes it from how the cameras were held; or an axis such as z or -y, or X,Y,Z. Raises
    DatasetError for anything else.
    """
    frames = folder.frames
    if not isinstance(frames, LazyFrames):
        raise DatasetError('only captures whose images are read on access can be turned')
    poses = np.stack([entry.T_world_camera for entry in frames.entries])
    found = up_of_cameras(poses) if up == 'auto' else given_up(up)
    T = np.eye(4)
    if found.is_z:
        return UprightCapture(folder, found, T)
    T[:3, :3] = rotation_to(found.direction).T
    entries = [replace(entry, T_world_camera=T @ entry.T_world_camera) for entry in frames.entries]
    return UprightCapture(replace(folder, frames=LazyFrames(entries, frames.max_side)), found, T)


def given_up(text: str) -> UpDirection:
    """Reads an up direction; raises DatasetError for one that is none."""
    if text in AXES:
        return UpDirection(AXES[text], f'{text} of the capture, as given')
    try:
        vector = np.array([float(part) for part in text.split(',')])
    except ValueError:
        vector = np.zeros(0)
    if vector.shape != (3,) or not np.isfinite(vector).all() or not vector.any():
        raise DatasetError(f'--up {text}: give auto, an axis such as z or -y, or X,Y,Z')
    unit = vector / np.linalg.norm(vector)
    return UpDirection(Z_UP if np.allclose(unit, Z_UP) else unit, 'as given')
