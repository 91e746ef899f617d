# SPDX-License-Identifier: Apache-2.0
"""A room of 5 m made by hand: a floor, a table of 0.8 m with a mug, and what was seen of it."""

from __future__ import annotations

import numpy as np
from hand_made_map import axis, plain_index

from lerf_ros.config import QueryConfig
from lerf_ros.config.robot import RobotConfig
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.index.coverage import Coverage, voxel_centers
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import Hit
from lerf_ros.robot.known_space import KnownSpace

CELLS, RADIUS = 24, 2.0
MUG = ((0.1, 0.0, 0.8), 0.1)                  # middle and edge, metres
CORNER = ((2.2, 0.0, 0.05), 0.1)
CAMERA = PinholeCamera(64, 48, 40.0, 40.0, 32.0, 24.0)


def box(center, size, step=0.04):
    """Points on a grid in a box."""
    axes = [np.linspace(-0.5, 0.5, max(int(edge / step) + 1, 2)) * edge for edge in size]
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, 3) + center


def known_space(extra=None, metric=True, with_floor=True, seen=True, unseen_side=False,
                **settings) -> KnownSpace:
    """Cameras went round the table and saw through everything but what is solid."""
    floor = box((0.0, 0.0, 0.0), (5.0, 5.0, 0.0), 0.06)
    table = box((0.0, 0.0, 0.74), (0.8, 0.8, 0.0), 0.03)
    parts = [floor, table, box(*((MUG[0], (MUG[1],) * 3))), box(CORNER[0], (CORNER[1],) * 3)]
    if extra is not None:
        parts.append(extra)
    if not with_floor:
        parts[0] = floor[:0]
    config = {'base_radius': settings.pop('radius', 0.3), 'view_spacing': 0.6, **settings}
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    cameras = np.tile(np.eye(4), (12, 1, 1))
    cameras[:, :3, 3] = np.stack([1.2 * np.cos(angle), 1.2 * np.sin(angle), 1.3 + 0 * angle], 1)
    if not seen:
        cameras[:, :2, 3] *= 1.9 / 1.2      # out of the way of the ring round the mug
    index = index_of(parts)
    return KnownSpace(index, coverage(index.points_world, seen, unseen_side), None, cameras, CAMERA,
                      QueryConfig(), metric, RobotConfig(**config))


def index_of(parts) -> LanguageIndex:
    """An index whose segments are the parts, the first two being level surfaces."""
    points = np.concatenate(parts)
    segments = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    made = plain_index(points, np.tile(axis('floor'), (1, len(points), 1)), segments,
                       np.array([0.1], np.float32))
    planes = np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, -0.74]])
    return LanguageIndex(**{**{name: getattr(made, name) for name in made.__dataclass_fields__},
                            'planes': planes})


def coverage(points, seen, unseen_side) -> Coverage:
    """All voxels in the room are seen through by 9 keyframes, those with points are surfaces."""
    centers = voxel_centers(CELLS) * RADIUS
    inside = (np.abs(centers) < (2.5, 2.5, 2.5)).all(1) & (centers[:, 2] > -0.1)
    if unseen_side:
        inside &= centers[:, 0] < 1.0
    free = (9 * (inside & seen)).astype(np.uint16).reshape((CELLS,) * 3)
    empty = Coverage(free, np.zeros_like(free), np.zeros_like(free),
                     np.array([0.0, 0.0, 0.0, RADIUS]), np.array([5, 5], np.int32))
    surface = np.zeros_like(free)
    np.add.at(surface, empty._voxels(points), 9)
    return Coverage(free, np.minimum(surface, 9), empty.hidden, empty.frame, empty.needed)


def mug_hit() -> Hit:
    return Hit(np.array(MUG[0]), np.eye(3), np.full(3, MUG[1]), 0.9, 0.1, 27, 9, 'mug')


def in_corner() -> Hit:
    return Hit(np.array(CORNER[0]), np.eye(3), np.full(3, CORNER[1]), 0.9, 0.1, 27, 9, 'ball')


def wall_between(height=1.0, x=0.25):
    """A wall across the room; 0.25 m from its middle it divides the table as well."""
    return box((x, 0.0, height / 2), (0.04, 5.0, height), 0.05)


def screen():
    """Walls of 1.5 m height along the four edges of the table."""
    return np.concatenate([box((*at, 0.75), (*size, 1.5)) for at, size in (
        ((0.42, 0.0), (0.02, 0.84)), ((-0.42, 0.0), (0.02, 0.84)),
        ((0.0, 0.42), (0.84, 0.02)), ((0.0, -0.42), (0.84, 0.02)))])
