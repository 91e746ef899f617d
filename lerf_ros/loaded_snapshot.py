# SPDX-License-Identifier: Apache-2.0
"""One snapshot that answers, and what is said of what a search finds in it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lerf_ros.config import GraspConfig, LerfConfig
from lerf_ros.errors import MapUnreadableError
from lerf_ros.frames.frame import Frame
from lerf_ros.grasping.planner import NOT_METRIC, GraspPlan, plan_grasps
from lerf_ros.grasping.seen_surface import Surface, refined, useful_views
from lerf_ros.index.coverage import Coverage
from lerf_ros.index.resolution import Resolution
from lerf_ros.query.answer import PhraseAnswer, transform_grasp
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.mapped_space import MappedSpace
from lerf_ros.query.phrases.reading import Viewpoint
from lerf_ros.query.presence import Calibration, decide_presence
from lerf_ros.query.question import Question
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.search import SearchResult
from lerf_ros.query.text_query import TextQuery
from lerf_ros.show.words import why_not_found
from lerf_ros.storage.keyframe_files import KeyframeFiles
from lerf_ros.storage.map_directory import MapDirectory


@dataclass(frozen=True)
class LoadedSnapshot:
    """One snapshot with what is known of its map. A newer snapshot replaces it as a whole.

    stored: the settings that the map was made with. grasp: the settings that grasps are planned
    with. info: the manifest of the snapshot.
    """

    query: TextQuery
    coverage: Coverage | None
    resolution: Resolution | None
    calibration: Calibration | None
    stored: LerfConfig
    grasp: GraspConfig
    frame_id: str
    metric: bool
    snapshot_id: int
    snapshot_stamp_ns: int
    info: Mapping[str, Any]


def calibration_of(request: QueryRequest, loaded: LoadedSnapshot) -> Calibration | None:
    """Returns the calibration for a request; it is valid for the configured negatives only."""
    as_fitted = request.phrases and not request.negatives and not request.rather_than
    return loaded.calibration if as_fitted else None


def judge(found: SearchResult, request: QueryRequest, threshold: float, place: MappedPlace,
          loaded: LoadedSnapshot) -> tuple[PhraseAnswer, ...]:
    """Returns what is to be said of each phrase about a place."""
    config, calibration = loaded.query.config, calibration_of(request, loaded)
    return tuple(PhraseAnswer(
        p.name, decide_presence(p.hits, p.candidate, place, p.fit), p.hits,
        p.fit * calibration.of_presence(p.candidate, place.known) if calibration else math.nan,
        '' if p.hits else p.reason or why_not_found(p.candidate, threshold, config.min_points),
        looks_more_like=p.looks_more_like, best=p.candidate.relevancy if p.candidate else 0.0)
        for p in found.phrases)


def newest_view(question: Question, directory: MapDirectory) -> Viewpoint | None:
    """Returns from where the newest keyframe was taken; None where no phrase needs that."""
    needed = any(reading.needs_viewer for reading in question.readings)
    T = directory.keyframes.newest_pose() if needed else None
    return None if T is None else Viewpoint(T[:3, 3], T[:3, 2], 'the newest keyframe')


def plan_hit_grasps(request: QueryRequest, found: SearchResult, loaded: LoadedSnapshot,
                    keyframes: KeyframeFiles) -> GraspPlan:
    """Plans grasps of the best hit, or returns why there are none.

    keyframes: of the map; their depth images show the hit more finely than the index.
    """
    if not found.places or not request.plan_grasps:
        return GraspPlan(())
    if not loaded.metric:
        return GraspPlan((), NOT_METRIC)
    index = loaded.query.index
    hit = Surface(index.points, index.normals, found.places[0].members, found.relevancy)
    frames = frames_at(found.places[0].hit.position, keyframes)
    plan = plan_grasps(*refined(hit, index.origin, frames), loaded.grasp)
    T_world_origin = np.eye(4)
    T_world_origin[:3, 3] = index.origin
    return replace(plan, grasps=tuple(transform_grasp(grasp, T_world_origin)
                                      for grasp in plan.grasps))


def frames_at(position: np.ndarray, keyframes: KeyframeFiles) -> Iterator[Frame]:
    """Yields the frames with depth that look at a position (3,), world, the most useful first.

    Keyframes that are damaged or gone are left out.
    """
    poses = {}
    for k in keyframes.indices():
        with contextlib.suppress(MapUnreadableError):
            if keyframes.has_depth(k):
                poses[k] = keyframes.pose(k)[1]
    order = useful_views(np.array(list(poses.values())).reshape(-1, 4, 4), position)
    for k in (list(poses)[i] for i in order):
        with contextlib.suppress(MapUnreadableError):
            yield keyframes.read(k).frame


def space_of(loaded: LoadedSnapshot, keyframes: KeyframeFiles) -> MappedSpace:
    """Returns what a snapshot knows of the space around a robot.

    Poses and camera are those of the keyframes. Raises MapUnreadableError for a damaged one.
    """
    indices = keyframes.indices()
    poses = np.array([keyframes.pose(k)[1] for k in indices]).reshape(-1, 4, 4)
    camera = keyframes.read(indices[-1]).frame.camera if indices else None
    return MappedSpace(loaded.query.index, loaded.coverage, loaded.resolution, poses, camera,
                       loaded.query.config, loaded.metric)
