# SPDX-License-Identifier: Apache-2.0
"""An answer of the core as the response of the query service."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseArray, PoseStamped
from std_msgs.msg import Header

from lerf_ros.errors import LerfError
from lerf_ros.msg import GraspCandidate, QueryHit
from lerf_ros.nodes.conversions import coarse_note, matrix_to_pose, ns_to_stamp, stamp_to_ns
from lerf_ros.query.answer import Answer, Grasp, Hit
from lerf_ros.query.wording import summary
from lerf_ros.srv import Query


def error_code(error: LerfError) -> int:
    """The constant of srv/Query for a named error; INTERNAL for one that has none there."""
    return getattr(Query.Response, error.code, Query.Response.INTERNAL)


def fill_error(response: Query.Response, code: int, message: str) -> Query.Response:
    """A response that says why there is no answer."""
    response.success, response.error_code, response.message = False, code, message
    return response


def fill_response(response: Query.Response, answer: Answer, stamp: Time) -> Query.Response:
    """The response of an answer given at `stamp`, without the cloud."""
    response.success, response.error_code = True, Query.Response.NONE
    response.message = '; '.join(filter(None, [summary(answer), coarse_note(answer)]))
    response.metric = answer.metric
    response.found = int(answer.presence)
    response.probability, response.observed = float(answer.probability), float(answer.observed)
    response.hits = [to_hit(hit) for hit in answer.hits]
    response.grasps = [to_grasp(grasp) for grasp in answer.grasps]
    response.has_target = answer.T_world_target is not None
    response.target_pose = target_pose(answer, stamp)
    response.no_target_reason = answer.no_target_reason
    response.learning = bool(answer.learning)
    response.snapshot_stamp = ns_to_stamp(answer.snapshot_stamp_ns)
    response.map_age = age(answer.snapshot_stamp_ns, stamp)
    response.encode_time = float(answer.timing.encode)
    response.search_time = float(answer.timing.search)
    response.grasp_time = float(answer.timing.grasp)
    return response


def age(snapshot_stamp_ns: int, stamp: Time) -> Duration:
    """Time from the snapshot to `stamp`; 0 for a snapshot of a clock that was ahead."""
    elapsed_ns = max(stamp_to_ns(stamp) - snapshot_stamp_ns, 0)
    # The message holds 68 years; a clock that starts at 0 beside one that does not has more.
    return Duration(sec=min(elapsed_ns // 10**9, 2**31 - 1), nanosec=elapsed_ns % 10**9)


def box_pose(hit: Hit) -> np.ndarray:
    """T_world_box (4, 4): centre and axes of a hit's box."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = hit.rotation, hit.position
    return T


def to_hit(hit: Hit) -> QueryHit:
    """One place as a message."""
    msg = QueryHit(label=hit.label, pose=matrix_to_pose(box_pose(hit)),
                   relevancy=float(hit.relevancy), probability=float(hit.probability),
                   scale=float(hit.scale), points=int(hit.points), keyframes=int(hit.keyframes))
    msg.size.x, msg.size.y, msg.size.z = (float(v) for v in hit.size)
    return msg


def to_grasp(grasp: Grasp) -> GraspCandidate:
    """One grasp as a message."""
    return GraspCandidate(
        pose=matrix_to_pose(grasp.T_world_grasp),
        pregrasp_pose=matrix_to_pose(grasp.T_world_pregrasp),
        gripper_pose=matrix_to_pose(grasp.T_world_gripper),
        opening_width=float(grasp.opening_width), score=float(grasp.score),
        semantic_score=float(grasp.semantic_score),
        geometric_score=float(grasp.geometric_score))


def target_pose(answer: Answer, stamp: Time) -> PoseStamped:
    """The target in the answer's frame; the header alone when there is none."""
    msg = PoseStamped(header=Header(stamp=stamp, frame_id=answer.frame_id))
    if answer.T_world_target is not None:
        msg.pose = matrix_to_pose(answer.T_world_target)
    return msg


def grasp_poses(answer: Answer, stamp: Time) -> PoseArray:
    """The poses of all grasps, best first; empty when there is none."""
    return PoseArray(header=Header(stamp=stamp, frame_id=answer.frame_id),
                     poses=[matrix_to_pose(grasp.T_world_grasp) for grasp in answer.grasps])
