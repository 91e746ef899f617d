# SPDX-License-Identifier: Apache-2.0
"""Keyframes that look at what lies outside of the scene frame, where the map is coarse."""

from __future__ import annotations

import numpy as np

from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.resolution import PART, measure_resolution, nearer_half
from lerf_ros.index.survey import Survey
from lerf_ros.mapping.keyframes import LearnedKeyframes
from lerf_ros.mapping.world_changes import DepthGrid

# Scene radii, along the axis that is farthest: contraction has made cells four times as wide there.
RESOLVED = 2.0
LOOKS_OUT = 0.5         # part of what a keyframe looks at that lies beyond
FEWEST, LEAST_SHARE = 3, 0.1    # keyframes from which it is worth a word, and part of all
EVERY = 4               # one of so many measured points tells


class OutsideViews:
    """Notes which learned keyframes look out of the scene frame; those without depth do not tell.
    """

    def __init__(self, learned: LearnedKeyframes, metric: bool) -> None:
        self._learned, self._metric = learned, metric
        self._scene = SceneFrame((0.0, 0.0, 0.0), 1.0)
        self._middle: dict[int, np.ndarray] = {}    # of what they look at, world, by index

    def note(self, index: int, scene: SceneFrame) -> None:
        """Looks where a newly learned keyframe looks."""
        self._scene, grid = scene, self._learned.changes.grids.get(index)
        points = np.zeros((0, 3)) if grid is None else looked_at(grid)
        beyond = np.abs(scene.to_scene(points)).max(1, initial=0.0) > RESOLVED
        if len(points) and beyond.mean() > LOOKS_OUT:
            self._middle[index] = np.median(points, axis=0)

    def resolution(self, survey: Survey) -> dict[str, dict[str, np.ndarray]]:
        """Measures how fine an index is where keyframes look, as a part of a snapshot.

        Without depth that is not known, and there is no such part.
        """
        views = [looked_at(grid) for grid in self._learned.changes.grids.values()]
        needed = int(survey.coverage.needed[0])
        return {PART: measure_resolution(views, needed, survey.index, self._scene.radius)
                .arrays()} if views else {}

    @property
    def message(self) -> str:
        """Says how many keyframes look out, where to, and what to do; empty for few."""
        middles = [at for index, at in self._middle.items() if index in self._learned]
        if len(middles) < max(FEWEST, LEAST_SHARE * len(self._learned)):
            return ''
        scene, unit = self._scene, 'm' if self._metric else 'map units'
        far = max(middles, key=lambda at: float(np.abs(scene.to_scene(at)).max()))
        return (f'{len(middles)} of {len(self._learned)} keyframes look out of the part of space '
                f'that this map resolves, {RESOLVED * scene.radius:.1f} {unit} around '
                f'{text_of(np.asarray(scene.center))}, the farthest at {text_of(far)}: things '
                'there may be missed, and answers say that this is not known. Map such a place '
                'into another map_directory, or set scene.radius and scene.center for all of it')


def looked_at(grid: DepthGrid) -> np.ndarray:
    """Returns points (N, 3), world, of the nearer half of what a keyframe measured."""
    return nearer_half(grid.points_world()[::EVERY], grid.points_camera[::EVERY, 2])


def text_of(point: np.ndarray) -> str:
    """Returns a point (3,) in words."""
    return f'({", ".join(f"{value:.1f}" for value in point)})'
