# SPDX-License-Identifier: Apache-2.0
"""Publishes an answer: cloud, target, grasps, detections, and markers for RViz."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseArray, PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.transforms_json import posed_images
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.conversions import answer_to_cloud, matrix_to_pose, rounding_note
from lerf_ros.nodes.query.messages import box_pose, grasp_poses, target_pose
from lerf_ros.query.answer import Answer, Hit, Presence
from lerf_ros.show.colors import level_colors
from lerf_ros.show.outlines import keyframe_outlines, target_outline
from lerf_ros.show.words import label_text

try:
    from vision_msgs import msg as vision_msgs
except ImportError:
    vision_msgs = None


BOX_OPACITY = 0.35
LABEL_COLOR = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
GRIPPER_COLOR = ColorRGBA(r=0.1, g=1.0, b=0.3, a=1.0)
KEYFRAME_COLOR = ColorRGBA(r=0.6, g=0.7, b=0.9, a=0.6)
LABEL_HEIGHT = 0.25     # fraction of the longest edge of the box
GRIPPER_LINE_M = 0.005
KEYFRAME_LINE = 0.02    # fraction of the length of an edge of a keyframe's frustum
MIN_SCALE = 1e-6        # RViz refuses to draw what has no thickness
MAX_KEYFRAMES = 200     # that are drawn, evenly chosen
WARN_PERIOD_S = 60.0


def to_detections(answer: Answer, stamp: Time) -> vision_msgs.Detection3DArray:
    """Returns the hits as detections; needs vision_msgs.

    A detection has the oriented box of a hit, its phrase as class, and its probability as score, or
    its relevancy where there is no probability.
    """
    header = Header(stamp=stamp, frame_id=answer.frame_id)
    return vision_msgs.Detection3DArray(header=header, detections=[
        to_detection(hit, hit.label or answer.text, header) for hit in answer.hits])


def to_detection(hit: Hit, label: str, header: Header) -> vision_msgs.Detection3D:
    """Returns the detection of a hit, with its label as class."""
    pose = matrix_to_pose(box_pose(hit))
    detection = vision_msgs.Detection3D(header=header)
    detection.bbox.center = pose
    box = detection.bbox.size
    box.x, box.y, box.z = (float(v) for v in hit.size)
    result = vision_msgs.ObjectHypothesisWithPose()
    result.hypothesis.class_id = label
    result.hypothesis.score = float(
        hit.relevancy if math.isnan(hit.probability) else hit.probability)
    result.pose.pose = pose
    detection.results.append(result)
    return detection


def to_markers(answer: Answer, stamp: Time, query_id: int,
               frusta: np.ndarray | None = None) -> MarkerArray:
    """Returns markers that replace those of the query before.

    They are boxes with labels, the gripper at the target, and keyframes. frusta: outlines of the
    keyframes, segments (S, 2, 3) in the answer's frame.
    """
    colors = level_colors(np.array([hit.relevancy for hit in answer.hits]), answer.relevancy)
    markers = [Marker(action=Marker.DELETEALL)]
    for number, (hit, color) in enumerate(zip(answer.hits, colors)):
        markers += [box_marker(hit, number, color),
                    label_marker(hit, number, hit.label or answer.text)]
    gripper = target_outline(answer)
    if len(gripper):
        markers.append(line_marker('gripper', gripper, GRIPPER_COLOR, GRIPPER_LINE_M))
    if frusta is not None and len(frusta):
        width = KEYFRAME_LINE * float(np.median(np.linalg.norm(frusta[:, 1] - frusta[:, 0],
                                                               axis=1)))
        markers.append(line_marker('keyframes', frusta, KEYFRAME_COLOR, width))
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, answer.frame_id
        marker.ns = marker.ns and f'query_{query_id}_{marker.ns}'
    return MarkerArray(markers=markers)


def box_marker(hit: Hit, number: int, color: Sequence[int]) -> Marker:
    """Returns the box of a hit in the colour (3,) uint8 of its relevancy."""
    r, g, b = (float(v) / 255 for v in color)
    marker = Marker(ns='box', id=number, type=Marker.CUBE, action=Marker.ADD,
                    pose=matrix_to_pose(box_pose(hit)),
                    color=ColorRGBA(r=r, g=g, b=b, a=BOX_OPACITY))
    marker.scale.x, marker.scale.y, marker.scale.z = (max(float(v), MIN_SCALE) for v in hit.size)
    return marker


def label_marker(hit: Hit, number: int, text: str) -> Marker:
    """Returns the phrase with probability, or relevancy without a calibration, above a hit."""
    marker = Marker(ns='label', id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD,
                    text=label_text(hit, text), color=LABEL_COLOR)
    extent = float(max(hit.size))
    marker.scale.z = max(LABEL_HEIGHT * extent, MIN_SCALE)
    x, y, z = (float(v) for v in hit.position)
    marker.pose.position.x, marker.pose.position.y = x, y
    marker.pose.position.z = z + extent / 2 + marker.scale.z
    marker.pose.orientation.w = 1.0
    return marker


def line_marker(namespace: str, segments: np.ndarray, color: ColorRGBA, width: float) -> Marker:
    """Returns segments (S, 2, 3) as lines; width in map units."""
    marker = Marker(ns=namespace, type=Marker.LINE_LIST, action=Marker.ADD, color=color)
    marker.scale.x = max(width, MIN_SCALE)
    marker.pose.orientation.w = 1.0
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in
                     np.asarray(segments, np.float64).reshape(-1, 3).tolist()]
    return marker


class AnswerPublisher:
    """Publishes answers, each with the keyframes of the map as markers."""

    def __init__(self, node: Node) -> None:
        self._cloud = qos_overrides.publisher(
            node, PointCloud2, topics.RELEVANCY, topics.RELEVANCY_QOS)
        self.target = qos_overrides.publisher(
            node, PoseStamped, topics.TARGET_POSE, topics.TARGET_POSE_QOS)
        self._grasps = qos_overrides.publisher(
            node, PoseArray, topics.GRASPS, topics.GRASPS_QOS)
        self._markers = qos_overrides.publisher(
            node, MarkerArray, topics.MARKERS, topics.MARKERS_QOS)
        self._detections = None if vision_msgs is None else qos_overrides.publisher(
            node, vision_msgs.Detection3DArray, topics.DETECTIONS, topics.DETECTIONS_QOS)
        self._frusta = keyframe_outlines(())
        self._frame_id = ''     # of the newest markers
        self._logger = node.get_logger()

    def publish(self, answer: Answer, stamp: Time, query_id: int,
                cloud: PointCloud2 | None = None) -> None:
        """Publishes an answer on every topic. cloud: its cloud, when that exists already."""
        self._frame_id = answer.frame_id
        self._cloud.publish(cloud or answer_to_cloud(answer, stamp))
        if note := rounding_note(answer):
            self._logger.warning(note, throttle_duration_sec=WARN_PERIOD_S)
        self._markers.publish(to_markers(answer, stamp, query_id, self._frusta))
        self._grasps.publish(grasp_poses(answer, stamp))
        if answer.T_world_target is not None:
            self.target.publish(target_pose(answer, stamp))
        if self._detections is not None:
            self._detections.publish(to_detections(answer, stamp))

    def clear(self, frame_id: str, stamp: Time) -> None:
        """Publishes an empty answer, because the map is gone.

        Viewers that come late would still get the last cloud and the last markers.
        """
        self._frusta = keyframe_outlines(())
        if not self._frame_id:      # nothing was drawn yet
            return
        self.publish(Answer('', Presence.ABSENT, 0.0, (), np.zeros((0, 3)), np.zeros(0),
                            np.zeros((0, 3), np.uint8), None, frame_id or self._frame_id, True, 0,
                            0), stamp, 0)

    def read_keyframes(self, map_directory: Path) -> None:
        """Reads where the map's keyframes were taken; draws none when they cannot be read."""
        try:
            images = posed_images(map_directory, MAX_KEYFRAMES)
            self._frusta = keyframe_outlines([(i.camera, i.T_world_camera) for i in images])
        except DatasetError as error:
            self._logger.debug(f'no keyframes to draw: {error}')
            self._frusta = np.zeros((0, 2, 3))
