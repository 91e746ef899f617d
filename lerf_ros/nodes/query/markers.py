# SPDX-License-Identifier: Apache-2.0
"""An answer as markers for RViz: boxes with labels, a legend, the target, the keyframes.

The namespaces are always the same, so that one that was unticked stays so. What an answer shows
replaces what the one before showed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from lerf_ros.nodes.common.conversions import matrix_to_pose
from lerf_ros.nodes.query.messages import box_pose
from lerf_ros.query.answer import Answer, Hit, PhraseAnswer
from lerf_ros.show.colors import TAB10
from lerf_ros.show.outlines import axes_outline, box_outline, target_outline
from lerf_ros.show.rviz_view import SHARE
from lerf_ros.show.words import label_text, legend_text

BOXES, EDGES, LABELS, LEGEND = 'boxes', 'edges', 'labels', 'legend'
TARGET, GRIPPER, KEYFRAMES = 'target', 'gripper', 'keyframes'
NAMESPACES = (BOXES, EDGES, LABELS, LEGEND, TARGET, GRIPPER, KEYFRAMES)

# Of a single phrase: the one hue that the cloud's colour map, turbo, does not have.
SINGLE = (230, 0, 230)
MISSING = (170, 170, 170)           # of a phrase that was not found
WHITE = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
GRIPPER_COLOR = ColorRGBA(r=0.1, g=1.0, b=0.3, a=1.0)
KEYFRAME_COLOR = ColorRGBA(r=0.6, g=0.7, b=0.9, a=0.6)
BOX_OPACITY = 0.2
LABEL_PART = 0.25       # height of a label, as a fraction of the longest edge of its box,
TEXT_PART = 0.02        # but at least this fraction of the extent of the map
LINE_SPACING = 1.4      # heights of the text from one line of the legend to the next
EDGE_PART = 0.002       # width of an edge, as a fraction of the extent of the map
GRIPPER_LINE_M = 0.005
AXIS_M = 0.1            # length of the axes at the target
KEYFRAME_LINE = 0.005   # fraction of the length of an edge of a keyframe's frustum
MIN_SCALE = 1e-6        # RViz refuses to draw what has no thickness


@dataclass(frozen=True)
class Extent:
    """What a map shows in its middle, as its view does: corners low and high (3,), world units."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, hits: Sequence[Hit] = ()) -> Extent:
        """Returns the extent of points (N, 3), and of the hits; a unit cube for none of either."""
        corners = [np.quantile(points, (SHARE, 1 - SHARE), axis=0)] if len(points) else []
        corners += [box_outline(hit).reshape(-1, 3) for hit in hits]
        every = np.concatenate(corners) if corners else np.array([[-0.5] * 3, [0.5] * 3])
        return cls(every.min(0), every.max(0))

    @property
    def size(self) -> float:
        """The length of the diagonal; never 0."""
        return max(float(np.linalg.norm(self.high - self.low)), MIN_SCALE)

    @property
    def center(self) -> np.ndarray:
        """The middle (3,)."""
        return (self.low + self.high) / 2


def to_markers(answer: Answer, stamp: Time, frusta: np.ndarray | None = None) -> MarkerArray:
    """Returns markers that replace those of the answer before.

    frusta: outlines of the keyframes, segments (S, 2, 3) in the answer's frame.
    """
    extent = Extent.of(answer.points_world, answer.hits)
    markers = [Marker(action=Marker.DELETEALL)]
    for number, hit in enumerate(answer.hits):
        color = phrase_color(answer, hit.label)
        markers += [box_marker(hit, number, color), edge_marker(hit, number, color, extent),
                    label_marker(hit, number, hit.label or answer.text, extent)]
    markers += legend_markers(answer, extent)
    markers += target_markers(answer)
    if frusta is not None and len(frusta):
        width = KEYFRAME_LINE * float(np.median(np.linalg.norm(frusta[:, 1] - frusta[:, 0],
                                                               axis=1)))
        markers.append(line_marker(KEYFRAMES, 0, frusta, KEYFRAME_COLOR, width))
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, answer.frame_id
    return MarkerArray(markers=markers)


def phrase_color(answer: Answer, label: str) -> Sequence[int]:
    """Returns the colour (3,) uint8 of the phrase of a label: of several, that of the cloud."""
    for k, text in enumerate(answer.texts if len(answer.texts) > 1 else ()):
        if label == text or label.startswith(f'{text}: '):      # a part of it
            return TAB10[k % len(TAB10)].tolist()
    return SINGLE


def rgba(color: Sequence[int], opacity: float = 1.0) -> ColorRGBA:
    """Returns a colour (3,) uint8."""
    r, g, b = (float(v) / 255 for v in color)
    return ColorRGBA(r=r, g=g, b=b, a=opacity)


def box_marker(hit: Hit, number: int, color: Sequence[int]) -> Marker:
    """Returns the faces of a hit's box, so clear that one sees what is in it."""
    marker = Marker(ns=BOXES, id=number, type=Marker.CUBE, action=Marker.ADD,
                    pose=matrix_to_pose(box_pose(hit)), color=rgba(color, BOX_OPACITY))
    marker.scale.x, marker.scale.y, marker.scale.z = (max(float(v), MIN_SCALE) for v in hit.size)
    return marker


def edge_marker(hit: Hit, number: int, color: Sequence[int], extent: Extent) -> Marker:
    """Returns the edges of a hit's box."""
    return line_marker(EDGES, number, box_outline(hit), rgba(color), EDGE_PART * extent.size)


def label_marker(hit: Hit, number: int, text: str, extent: Extent) -> Marker:
    """Returns the phrase with probability, or relevancy without a calibration, above a hit."""
    half = float((np.abs(hit.rotation[2]) * hit.size).sum()) / 2
    height = max(LABEL_PART * float(max(hit.size)), TEXT_PART * extent.size)
    at = np.asarray(hit.position) + [0.0, 0.0, half + height]
    return text_marker(LABELS, number, label_text(hit, text), at, height, WHITE)


def legend_markers(answer: Answer, extent: Extent) -> list[Marker]:
    """Returns a line for each of several phrases, and for one that was not found.

    The lines stand above the middle of the map, the first phrase on top.
    """
    phrases = answer.phrases or (PhraseAnswer(answer.text, answer.presence, answer.hits,
                                              answer.probability),)
    told = phrases if len(phrases) > 1 else [p for p in phrases if not p.found and p.text]
    height, top = TEXT_PART * extent.size, float(extent.high[2])
    x, y = extent.center[:2].tolist()
    markers = []
    for number, phrase in enumerate(told):
        line = LINE_SPACING * height * (len(told) - number)
        color = rgba(phrase_color(answer, phrase.text) if phrase.found else MISSING)
        markers.append(text_marker(LEGEND, number, legend_text(phrase), (x, y, top + line), height,
                                   color))
    return markers


def text_marker(namespace: str, number: int, text: str, at: Sequence[float] | np.ndarray,
                height: float, color: ColorRGBA) -> Marker:
    """Returns a text whose middle is at (3,)."""
    marker = Marker(ns=namespace, id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD,
                    text=text, color=color)
    # RViz reads z alone for the letters, but x for the spaces between words.
    marker.scale.x = marker.scale.y = marker.scale.z = max(height, MIN_SCALE)
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = map(float, at)
    marker.pose.orientation.w = 1.0
    return marker


def target_markers(answer: Answer) -> list[Marker]:
    """Returns the axes of the target and the gripper around it; none without a target.

    A display of lerf/target_pose would go on to show the last one.
    """
    gripper = target_outline(answer)
    if answer.T_world_target is None or not len(gripper):
        return []
    axes = line_marker(TARGET, 0, axes_outline(answer.T_world_target, AXIS_M), WHITE,
                       GRIPPER_LINE_M)
    axes.colors = [ColorRGBA(**{name: 1.0}, a=1.0) for name in 'rgb' for _ in range(2)]
    return [axes, line_marker(GRIPPER, 0, gripper, GRIPPER_COLOR, GRIPPER_LINE_M)]


def line_marker(namespace: str, number: int, segments: np.ndarray, color: ColorRGBA,
                width: float) -> Marker:
    """Returns segments (S, 2, 3) as lines; width in map units."""
    marker = Marker(ns=namespace, id=number, type=Marker.LINE_LIST, action=Marker.ADD,
                    color=color)
    marker.scale.x = max(width, MIN_SCALE) if math.isfinite(width) else MIN_SCALE
    marker.pose.orientation.w = 1.0
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in
                     np.asarray(segments, np.float64).reshape(-1, 3).tolist()]
    return marker
