# SPDX-License-Identifier: Apache-2.0
"""From where a camera shows most of what a map has not seen, or not seen well.

What is missing is what keeps an answer from being ABSENT: voxels that may hold a thing and that too
few keyframes saw (index/coverage.py), and surfaces that are mapped too coarsely for a small thing
(index/resolution.py). The best view of all is named first; each next one counts what is left then.
Unseen space hides nothing: nobody knows what is there, so a view may show less than it promises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lerf_ros.config.robot import RobotConfig
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.region import Region
from lerf_ros.index.coverage import SeenSpace
from lerf_ros.index.resolution import Resolution
from lerf_ros.robot.floor import FloorMap
from lerf_ros.robot.sight import SightLines
from lerf_ros.robot.stand_off import START_REACH

SIGHT_EDGE = 0.08       # metres: cubes that hide what is behind them
MARGIN = 0.15           # metres around eye and target in which nothing hides
NEAREST = 0.3           # metres: what is nearer to a camera is not in its picture
CLOSE = 0.4             # part of the range of a look that shows what was mapped too coarsely
MOST_TARGETS = 1500     # of what is missing, drawn evenly
MOST_PLACES = 150       # from which looks are tried
TURNS = 12              # directions around the vertical
PITCHES = (0.0, -20.0, -40.0)   # degrees above the horizon
NOTHING_MISSING = 'all of it was seen, and finely enough'
NO_COVERAGE = 'the map does not tell what was seen: map it anew with this version'
NO_PLACE = 'no place is known to be free from which what is missing could be seen'


@dataclass(frozen=True)
class NextView:
    """A pose of the camera that shows a part of what is missing.

    T_world_camera (4, 4): OpenCV axes. gain: the part of all that is missing that it shows and the
    views before it do not, 0..1. target (3,): the middle of that, world. reachable: whether a base
    has room there and, where its place is known, a free way; None where the map shows no floor.
    """

    T_world_camera: np.ndarray
    gain: float
    target: np.ndarray
    reachable: bool | None


@dataclass(frozen=True)
class NextViews:
    """Views, those that can be reached first and best first; without any the reason, in words.

    missing: how many voxels and places were missed.
    """

    views: tuple[NextView, ...]
    missing: int = 0
    reason: str = ''


@dataclass(frozen=True)
class Missing:
    """points (M, 3), world; reach (M,): from how far away a look shows each well, metres."""

    points: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, coverage: SeenSpace, resolution: Resolution | None, region: Region | None,
           thing_size: float, min_points: int, view_range: float) -> Missing:
        """Collects what keeps the map from saying that a thing of this size is absent."""
        unseen = coverage.unseen(region)
        coarse = np.zeros((0, 3)) if resolution is None else resolution.coarse(
            thing_size, min_points, region)
        return cls(np.concatenate([unseen, coarse]), np.repeat(
            [view_range, CLOSE * view_range], [len(unseen), len(coarse)]))

    def sample(self) -> Missing:
        """Returns MOST_TARGETS of it at most."""
        if len(self.points) <= MOST_TARGETS:
            return self
        kept = np.random.default_rng(0).permutation(len(self.points))[:MOST_TARGETS]
        return Missing(self.points[kept], self.reach[kept])


@dataclass(frozen=True)
class Places:
    """Where a camera could be: points (P, 3), world, and whether each can be reached (P,) bool.

    known: whether it is known at all what can be reached.
    """

    points: np.ndarray
    reachable: np.ndarray
    known: bool


def next_views(missing: Missing, places: Places, sight: SightLines, camera: PinholeCamera,
               config: RobotConfig) -> NextViews:
    """Returns the views of a camera that show most of what is missing.

    sight: made of the points of the map with SIGHT_EDGE.
    """
    if not len(missing.points):
        return NextViews((), reason=NOTHING_MISSING)
    if not len(places.points):
        return NextViews((), len(missing.points), NO_PLACE)
    some = missing.sample()
    shown = np.concatenate([_shown(place, some, sight, camera) for place in places.points])
    looks = TURNS * len(PITCHES)
    views: list[NextView] = []
    for reachable in (True, False):     # whatever cannot be reached comes after all that can
        rows = np.flatnonzero(np.repeat(places.reachable == reachable, looks))
        while len(rows) and len(views) < config.views:
            gains = shown[rows].mean(1)
            best = rows[int(gains.argmax())]
            if gains.max() < config.view_gain:
                break
            seen = shown[best].copy()
            views.append(NextView(
                _pose(places.points[best // looks], best % looks), float(seen.mean()),
                some.points[seen].mean(0), reachable if places.known else None))
            shown &= ~seen
    reason = '' if views else (f'{NO_PLACE}: no look shows {config.view_gain:.0%} of it')
    return NextViews(tuple(views), len(missing.points), reason)


def camera_places(floor: FloorMap | None, coverage: SeenSpace, T_world_cameras: np.ndarray,
                  config: RobotConfig, T_world_base: np.ndarray | None = None) -> Places:
    """Returns where a camera could be: above free floor, or else in space that was seen through.

    T_world_cameras (K, 4, 4): of the keyframes. T_world_base (4, 4): where the robot is, if known.
    """
    if floor is not None:
        fits = floor.fits(config.base_radius + config.clearance)
        ways = None if T_world_base is None else floor.ways(fits, T_world_base[:2, 3], START_REACH)
        at = np.argwhere(fits)
        step = max(1, round(config.view_spacing / floor.cell))
        at = thinned(at[(at % step == 0).all(1)] if len(at) else at)
        if len(at):
            ground = floor.centers()[tuple(at.T)]
            points = np.column_stack([ground, np.full(
                len(at), floor.height + config.camera_height)])
            reached = np.ones(len(at), bool) if ways is None else np.isfinite(ways[tuple(at.T)])
            return Places(points, reached, True)
    eyes = T_world_cameras[:, :3, 3]
    low, high = eyes.min(0) - config.view_spacing, eyes.max(0) + config.view_spacing
    axes = [np.arange(a, b + 1e-9, config.view_spacing) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 3)
    free = thinned(grid[coverage.seen_through(grid)])
    return Places(free, np.ones(len(free), bool), False)


def thinned(rows: np.ndarray) -> np.ndarray:
    """Returns MOST_PLACES of the rows (N, k) at most, drawn evenly."""
    if len(rows) <= MOST_PLACES:
        return rows
    return rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_PLACES])]


def _shown(eye: np.ndarray, missing: Missing, sight: SightLines,
           camera: PinholeCamera) -> np.ndarray:
    """Returns which of M missing points each look from an eye (3,) shows, (L, M) bool.

    The picture is taken for a rectangle in azimuth and elevation.
    """
    out = np.zeros((TURNS * len(PITCHES), len(missing.points)), bool)
    way = missing.points - eye
    distance = np.linalg.norm(way, axis=1)
    near = np.flatnonzero((distance > NEAREST) & (distance <= missing.reach))
    near = near[sight.visible(eye, missing.points[near], MARGIN)]
    azimuth = np.arctan2(way[near, 1], way[near, 0])
    elevation = np.arcsin(np.clip(way[near, 2] / distance[near], -1, 1))
    half_x, half_y = half_angles(camera)
    for look in range(len(out)):
        turn, pitch = look_angles(look)
        across = np.abs((azimuth - turn + np.pi) % (2 * np.pi) - np.pi)
        out[look, near] = (across <= half_x) & (np.abs(elevation - pitch) <= half_y)
    return out


def half_angles(camera: PinholeCamera) -> tuple[float, float]:
    """Returns half of the angles that a camera sees across and along its image, radians."""
    middle_x, middle_y = camera.width / 2, camera.height / 2
    rim = camera.directions(np.array([[0, middle_y], [camera.width, middle_y], [middle_x, 0],
                                      [middle_x, camera.height]]))
    left, right, top, bottom = rim
    across, along = (math.acos(np.clip(a @ b, -1, 1)) for a, b in ((left, right), (top, bottom)))
    return across / 2, along / 2


def look_angles(look: int) -> tuple[float, float]:
    """Returns azimuth and elevation, radians, of a look by its number."""
    return 2 * np.pi * (look % TURNS) / TURNS, math.radians(PITCHES[look // TURNS])


def _pose(eye: np.ndarray, look: int) -> np.ndarray:
    """Returns T_world_camera (4, 4) of a look from an eye (3,), its horizon level."""
    turn, pitch = look_angles(look)
    T = np.eye(4)
    T[:3, 2] = [math.cos(pitch) * math.cos(turn), math.cos(pitch) * math.sin(turn),
                math.sin(pitch)]
    T[:3, 0] = [math.sin(turn), -math.cos(turn), 0.0]
    T[:3, 1] = np.cross(T[:3, 2], T[:3, 0])
    T[:3, 3] = eye
    return T
