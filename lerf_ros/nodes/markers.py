# SPDX-License-Identifier: Apache-2.0
"""An answer as markers for RViz: boxes with their labels, the gripper at the target, keyframes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from lerf_ros.evaluation.colors import level_colors
from lerf_ros.nodes.conversions import matrix_to_pose
from lerf_ros.nodes.query_messages import box_pose
from lerf_ros.query.answer import Answer, Hit
from lerf_ros.query.outlines import target_outline
from lerf_ros.query.wording import label_text

BOX_OPACITY = 0.35
LABEL_COLOR = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
GRIPPER_COLOR = ColorRGBA(r=0.1, g=1.0, b=0.3, a=1.0)
KEYFRAME_COLOR = ColorRGBA(r=0.6, g=0.7, b=0.9, a=0.6)
LABEL_HEIGHT = 0.25     # part of the largest edge of the box
GRIPPER_LINE_M = 0.005
KEYFRAME_LINE = 0.02    # part of the length of a keyframe's edge
SMALLEST = 1e-6         # RViz refuses to draw what has no thickness


def to_markers(answer: Answer, stamp: Time, query_id: int,
               frusta: np.ndarray | None = None) -> MarkerArray:
    """Replaces what the query before has drawn.

    frusta: the outlines of the keyframes, segments (S, 2, 3) in the answer's frame.
    """
    colors = level_colors(np.array([hit.relevancy for hit in answer.hits]), answer.relevancy)
    markers = [Marker(action=Marker.DELETEALL)]
    for number, (hit, color) in enumerate(zip(answer.hits, colors)):
        markers += [box_marker(hit, number, color),
                    label_marker(hit, number, hit.label or answer.text)]
    gripper = target_outline(answer)
    if len(gripper):
        markers.append(lines('gripper', gripper, GRIPPER_COLOR, GRIPPER_LINE_M))
    if frusta is not None and len(frusta):
        width = KEYFRAME_LINE * float(np.median(np.linalg.norm(frusta[:, 1] - frusta[:, 0],
                                                               axis=1)))
        markers.append(lines('keyframes', frusta, KEYFRAME_COLOR, width))
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, answer.frame_id
        marker.ns = marker.ns and f'query_{query_id}_{marker.ns}'
    return MarkerArray(markers=markers)


def box_marker(hit: Hit, number: int, color: Sequence[int]) -> Marker:
    """The box of a hit in the colour (3,) uint8 of its relevancy."""
    r, g, b = (float(v) / 255 for v in color)
    marker = Marker(ns='box', id=number, type=Marker.CUBE, action=Marker.ADD,
                    pose=matrix_to_pose(box_pose(hit)),
                    color=ColorRGBA(r=r, g=g, b=b, a=BOX_OPACITY))
    marker.scale.x, marker.scale.y, marker.scale.z = (max(float(v), SMALLEST) for v in hit.size)
    return marker


def label_marker(hit: Hit, number: int, text: str) -> Marker:
    """Phrase and probability, or relevancy where there is no calibration, above a hit."""
    marker = Marker(ns='label', id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD,
                    text=label_text(hit, text), color=LABEL_COLOR)
    extent = float(max(hit.size))
    marker.scale.z = max(LABEL_HEIGHT * extent, SMALLEST)
    x, y, z = (float(v) for v in hit.position)
    marker.pose.position.x, marker.pose.position.y = x, y
    marker.pose.position.z = z + extent / 2 + marker.scale.z
    marker.pose.orientation.w = 1.0
    return marker


def lines(namespace: str, segments: np.ndarray, color: ColorRGBA, width: float) -> Marker:
    """Segments (S, 2, 3) as one marker of lines; width in map units."""
    marker = Marker(ns=namespace, type=Marker.LINE_LIST, action=Marker.ADD, color=color)
    marker.scale.x = max(width, SMALLEST)
    marker.pose.orientation.w = 1.0
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in
                     np.asarray(segments, np.float64).reshape(-1, 3).tolist()]
    return marker
