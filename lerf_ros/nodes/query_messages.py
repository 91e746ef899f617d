# SPDX-License-Identifier: Apache-2.0
"""An answer of the core as the messages of the query node."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from lerf_ros.errors import LerfError
from lerf_ros.msg import QueryHit
from lerf_ros.nodes.conversions import matrix_to_pose, ns_to_stamp
from lerf_ros.query.answer import Answer, Hit
from lerf_ros.srv import Query

BOX_COLOR = ColorRGBA(r=1.0, g=0.55, b=0.0, a=0.35)
LABEL_COLOR = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
LABEL_HEIGHT = 0.25     # part of the largest edge of the box
NOT_METRIC = 'the map is not metric: lengths are map units, not metres'


def error_code(error: LerfError) -> int:
    """The constant of srv/Query for a named error; INTERNAL for one that has none there."""
    return getattr(Query.Response, error.code, Query.Response.INTERNAL)


def fill_error(response: Query.Response, code: int, message: str) -> Query.Response:
    """A response that says why there is no answer."""
    response.success, response.error_code, response.message = False, code, message
    return response


def fill_response(response: Query.Response, answer: Answer, stamp: Time) -> Query.Response:
    """The response of an answer, without the cloud."""
    response.success, response.error_code = True, Query.Response.NONE
    response.found, response.metric = int(answer.presence), answer.metric
    response.message = summary(answer)
    response.hits = [to_hit(hit) for hit in answer.hits]
    response.has_target = answer.T_world_target is not None
    response.target_pose = target_pose(answer, stamp)
    response.snapshot_stamp = ns_to_stamp(answer.snapshot_stamp_ns)
    return response


def summary(answer: Answer) -> str:
    """One line for people."""
    unit = 'm' if answer.metric else 'map units'
    if answer.found:
        best = answer.hits[0]
        x, y, z = best.position
        places = '1 place' if len(answer.hits) == 1 else f'{len(answer.hits)} places'
        text = (f'{answer.text!r}: {places}, best at ({x:.2f}, {y:.2f}, {z:.2f}) {unit} in '
                f'{answer.frame_id!r} with relevancy {best.relevancy:.2f}')
    else:
        best_relevancy = max(answer.relevancy, default=0.0)
        text = (f'{answer.text!r} was not found: relevancy reaches {best_relevancy:.2f}, '
                f'threshold {answer.threshold:.2f}')
    return text if answer.metric else f'{text}; {NOT_METRIC}'


def box_pose(hit: Hit) -> np.ndarray:
    """T_world_box (4, 4): centre and axes of a hit's box."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = hit.rotation, hit.position
    return T


def to_hit(hit: Hit) -> QueryHit:
    """One place as a message."""
    msg = QueryHit(pose=matrix_to_pose(box_pose(hit)), relevancy=float(hit.relevancy),
                   scale=float(hit.scale), points=int(hit.points), keyframes=int(hit.keyframes))
    msg.size.x, msg.size.y, msg.size.z = (float(v) for v in hit.size)
    return msg


def target_pose(answer: Answer, stamp: Time) -> PoseStamped:
    """The target in the map frame; the header alone when there is none."""
    msg = PoseStamped()
    msg.header.stamp, msg.header.frame_id = stamp, answer.frame_id
    if answer.T_world_target is not None:
        msg.pose = matrix_to_pose(answer.T_world_target)
    return msg


def to_markers(answer: Answer, stamp: Time, query_id: int) -> MarkerArray:
    """A translucent box and a label for every hit; those of the query before are deleted."""
    markers = [Marker(action=Marker.DELETEALL)]
    for number, hit in enumerate(answer.hits):
        markers += [box_marker(hit, number), label_marker(hit, number, answer.text)]
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, answer.frame_id
        marker.ns = marker.ns and f'query_{query_id}_{marker.ns}'
    return MarkerArray(markers=markers)


def box_marker(hit: Hit, number: int) -> Marker:
    """The box of a hit."""
    marker = Marker(ns='box', id=number, type=Marker.CUBE, action=Marker.ADD,
                    pose=matrix_to_pose(box_pose(hit)), color=BOX_COLOR)
    # RViz refuses to draw a box without thickness.
    marker.scale.x, marker.scale.y, marker.scale.z = (max(float(v), 1e-6) for v in hit.size)
    return marker


def label_marker(hit: Hit, number: int, text: str) -> Marker:
    """Phrase and relevancy above a hit."""
    marker = Marker(ns='label', id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD,
                    text=f'{text} {hit.relevancy:.2f}', color=LABEL_COLOR)
    extent = float(max(hit.size))
    marker.scale.z = max(LABEL_HEIGHT * extent, 1e-6)
    x, y, z = (float(v) for v in hit.position)
    marker.pose.position.x, marker.pose.position.y = x, y
    marker.pose.position.z = z + extent / 2 + marker.scale.z
    marker.pose.orientation.w = 1.0
    return marker
