# SPDX-License-Identifier: Apache-2.0
"""Where a map is weak: surfaces of the mapped region that too few keyframes have seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lerf_ros.config import IndexConfig
from lerf_ros.query.surface import Surface, View, count_views, one_per_voxel

# All lengths in scene radii.
REACH = 1.2         # of the mapped region around the centre; what is beyond is background
VOXEL = 0.1         # one point of each is looked at
AREA = 0.4          # edge of the cubes that are reported
SMALLEST = 3        # points of an area
SHARE = 0.5         # part of a cube's points that must be weak
# A keyframe has looked at a place even where the field does not agree with it to the last.
TOLERANCE = 0.1
MOST_AREAS = 10


def weak_areas(views: Sequence[View], surfaces: Sequence[Surface], depths: Sequence[np.ndarray],
               config: IndexConfig) -> np.ndarray:
    """Centres (K, 3) of weak areas, scene frame, the least seen first.

    surfaces and depths (rows, columns) are what the views rendered. An area is weak where fewer
    than config.min_keyframes keyframes saw most of its surface.
    """
    points = torch.cat([surface.points for surface in surfaces])
    points = points[points.norm(dim=-1) <= REACH]
    at = points[one_per_voxel(points, VOXEL, seed=0)].cpu().numpy()
    seen = count_views(at, views, depths, max(config.depth_tolerance, TOLERANCE))
    cubes = np.unique(np.floor(at / AREA), axis=0, return_inverse=True)[1].reshape(-1)
    areas = []
    for cube in range(cubes.max(initial=-1) + 1):
        members = cubes == cube
        weak = members & (seen < config.min_keyframes)
        if weak.sum() >= max(SMALLEST, SHARE * members.sum()):
            areas.append((float(seen[weak].mean()), -int(weak.sum()), at[weak].mean(0)))
    areas.sort(key=lambda area: area[:2])
    return np.array([center for _, _, center in areas[:MOST_AREAS]]).reshape(-1, 3)
