# SPDX-License-Identifier: Apache-2.0
"""Where a base stands to reach a hit: free of obstacles, in space that was seen, looking at it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from lerf_ros.config.robot import RobotConfig
from lerf_ros.query.answer import Hit
from lerf_ros.robot.floor import FloorMap
from lerf_ros.robot.sight import SightLines

NOT_METRIC = 'map not metric: a base has a size in metres'     # set by the caller
NO_FLOOR = ('the map shows no floor under its cameras: let the camera look at the ground on its '
            'way as well')
UNSURE_WAY = 'the map knows no free way from the place of the robot to there'
UNSURE_START = 'the map does not know whether the place of the robot is free'
SIGHT_EDGE = 0.05       # metres: cubes that hide what is behind them
OWN_MARGIN = 0.1        # metres around a thing within which points belong to it or carry it
MOST_LOOKS = 400        # places from which it is tried whether the thing can be seen
DETOUR = 3.0            # metres driven that one metre nearer to the wanted distance is worth
START_REACH = 0.6       # metres from the place of the robot to cells where it has room


@dataclass(frozen=True)
class StandOff:
    """Where a base stands before a hit, world frame, metres.

    T_world_base (4, 4): on the floor, x axis towards the hit, z up; None where there is no such
    place, and reason says why. distance: from the outline of the hit's box to the middle of the
    base. way: that the base has to drive; NaN where its place or the way is not known. doubt: what
    the map does not know about the way; empty without doubt.
    """

    T_world_base: np.ndarray | None
    distance: float = math.nan
    way: float = math.nan
    reason: str = ''
    doubt: str = ''


def stand_off(hit: Hit, floor: FloorMap | None, sight: SightLines, config: RobotConfig,
              T_world_base: np.ndarray | None = None) -> StandOff:
    """Returns where a base stands before a hit of a metric map.

    A short way counts, and a distance near to the wanted one, DETOUR times as much. T_world_base
    (4, 4): where the robot is now; without it the wanted distance alone decides. sight: made of the
    points of the map with SIGHT_EDGE.
    """
    if floor is None:
        return StandOff(None, reason=NO_FLOOR)
    centers = floor.centers()
    distance = outline_distance(centers.reshape(-1, 2), box_outline(hit)).reshape(floor.free.shape)
    within = (distance >= least_distance(config)) & (distance <= config.stand_reach)
    fits = floor.fits(config.base_radius + config.clearance)
    candidates = np.argwhere(within & fits)
    if not len(candidates):
        return StandOff(None, reason=why_no_place(floor, within, config))
    way, doubt = _ways(floor, fits, candidates, T_world_base)
    off = np.abs(distance[tuple(candidates.T)] - config.stand_off)
    order = np.argsort(way + DETOUR * off, kind='stable')
    seen = _first_seen(hit, floor, sight, config, centers[tuple(candidates[order].T)])
    if seen is None:
        return StandOff(None, reason=(
            f'a base has room at {len(candidates)} places within {config.stand_reach:g} m of it, '
            f'but a camera {config.camera_height:g} m above the floor sees it from none of them: '
            'something is in front of it'))
    best = int(order[seen])
    place = centers[tuple(candidates[best])]
    driven = math.nan if doubt or T_world_base is None else float(way[best])
    return StandOff(facing_base(place, floor.height, hit.position),
                    float(distance[tuple(candidates[best])]), driven, doubt=doubt)


def least_distance(config: RobotConfig) -> float:
    """Returns how near to a box the middle of a base may come: not onto it, metres."""
    return min(config.base_radius + config.clearance, config.stand_off)


def _ways(floor: FloorMap, fits: np.ndarray, candidates: np.ndarray,
          T_world_base: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Returns the way (C,) to each candidate (C, 2), metres, and what is not known about it."""
    if T_world_base is None:
        return np.zeros(len(candidates)), ''
    place = T_world_base[:2, 3]
    straight = np.linalg.norm(floor.centers()[tuple(candidates.T)] - place, axis=1)
    ways = floor.ways(fits, place, START_REACH)
    if ways is None:
        return straight, UNSURE_START
    driven = ways[tuple(candidates.T)]
    return (driven, '') if np.isfinite(driven).any() else (straight, UNSURE_WAY)


def _first_seen(hit: Hit, floor: FloorMap, sight: SightLines, config: RobotConfig,
                places: np.ndarray) -> int | None:
    """Returns the first of places (C, 2) from which the hit's middle or top is seen, or None."""
    top = hit.position + np.array([0.0, 0.0, np.ptp(hit.corners()[:, 2]) / 2])
    margin = float(np.linalg.norm(hit.size)) / 2 + OWN_MARGIN
    step = max(1, len(places) // MOST_LOOKS)
    for k in range(0, len(places), step):
        eye = np.append(places[k], floor.height + config.camera_height)
        if sight.visible(eye, np.stack([hit.position, top]), margin).any():
            return k
    return None


def why_no_place(floor: FloorMap, within: np.ndarray, config: RobotConfig) -> str:
    """Returns in words what lies around a thing (within: (X, Y) bool) instead of free floor."""
    count = np.count_nonzero(within)
    around = f'within {config.stand_reach:g} m of it'
    if not count:
        return f'the map shows no floor {around}'
    free, occupied = (np.count_nonzero(cells & within) / count
                      for cells in (floor.free, floor.occupied))
    unknown = max(0.0, 1 - free - occupied)
    cure = ('look at the floor around it' if unknown > occupied
            else 'a smaller base or a longer stand_reach may have room')
    return (f'no room for a base of radius {config.base_radius:g} m {around}: {free:.0%} of the '
            f'floor there is free, {occupied:.0%} is taken, {unknown:.0%} was not seen; {cure}')


def facing_base(place: np.ndarray, height: float, target: np.ndarray) -> np.ndarray:
    """Returns T_world_base (4, 4) at a place (2,) on a floor, its x axis towards a target (3,)."""
    x = np.asarray(target[:2], np.float64) - place
    x = x / max(float(np.linalg.norm(x)), 1e-9)
    T = np.eye(4)
    T[:3, 0], T[:3, 1] = [*x, 0.0], [-x[1], x[0], 0.0]
    T[:3, 3] = [*place, height]
    return T


def box_outline(hit: Hit) -> np.ndarray:
    """Returns the convex outline (V, 2) of a hit's box, seen from above, counter-clockwise."""
    ground = hit.corners()[:, :2]
    # Joggled, so that a box without width is no error.
    return ground[ConvexHull(ground, qhull_options='QJ').vertices]


def outline_distance(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Returns the distances (N,) of points (N, 2) from a convex outline (V, 2); 0 inside of it."""
    nearest = np.full(len(points), np.inf)
    inside = np.ones(len(points), bool)
    for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        side, from_a = b - a, points - a
        part = np.clip(from_a @ side / max(float(side @ side), 1e-18), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(from_a - part[:, None] * side, axis=1))
        inside &= side[0] * from_a[:, 1] - side[1] * from_a[:, 0] >= 0
    return np.where(inside, 0.0, nearest)
