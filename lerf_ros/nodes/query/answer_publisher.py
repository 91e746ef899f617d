# SPDX-License-Identifier: Apache-2.0
"""Publishes an answer: whole, and as cloud, target, grasps, detections and markers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import MarkerArray

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.transforms_json import posed_images
from lerf_ros.frames.selection import motion
from lerf_ros.msg import Answer as AnswerMsg
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.conversions import (
    answer_to_cloud,
    colored_cloud,
    matrix_to_pose,
    rounding_note,
)
from lerf_ros.nodes.query.markers import to_markers
from lerf_ros.nodes.query.messages import (
    box_pose,
    grasp_poses,
    stand_off_pose,
    target_pose,
    to_answer,
    to_box,
    to_refusal,
)
from lerf_ros.query.answer import Answer, Hit, Presence
from lerf_ros.show.outlines import keyframe_outlines

MAX_KEYFRAMES = 200     # that are drawn, evenly chosen
WARN_PERIOD_S = 60.0


# How far a target must have moved to be sent again for a standing prompt.
TARGET_MOVED_M, TARGET_TURNED_DEG = 0.01, 5.0


class Asked(NamedTuple):
    """What an answer answers: its number, the words, and whether the standing prompt asked."""

    query_id: int
    text: str
    standing: bool = False


def to_detections(answer: Answer, stamp: Time) -> Detection3DArray:
    """Returns the hits as detections.

    A detection has the oriented box of a hit, its phrase as class, and its probability as score, or
    its relevancy where there is no probability.
    """
    header = Header(stamp=stamp, frame_id=answer.frame_id)
    return Detection3DArray(header=header, detections=[
        to_detection(hit, hit.label or answer.text, header) for hit in answer.hits])


def to_detection(hit: Hit, label: str, header: Header) -> Detection3D:
    """Returns the detection of a hit, with its label as class."""
    detection = Detection3D(header=header, bbox=to_box(hit))
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = label
    result.hypothesis.score = float(
        hit.relevancy if math.isnan(hit.probability) else hit.probability)
    result.pose.pose = matrix_to_pose(box_pose(hit))
    detection.results.append(result)
    return detection


def best_hit_cloud(answer: Answer, stamp: Time) -> PointCloud2:
    """Returns the points of the best hit alone, in their own colours, for planners of grasps.

    There are none where nothing was found.
    """
    members = answer.hit_numbers == 1 if len(answer.hit_numbers) else slice(0)
    return colored_cloud(answer.points_world[members], answer.colors[members], answer.frame_id,
                         stamp)


class AnswerPublisher:
    """Publishes answers, each with the keyframes of the map as markers."""

    def __init__(self, node: Node) -> None:
        self._cloud = qos_overrides.publisher(
            node, PointCloud2, topics.RELEVANCY, topics.RELEVANCY_QOS)
        self.target = qos_overrides.publisher(
            node, PoseStamped, topics.TARGET_POSE, topics.TARGET_POSE_QOS)
        self._grasps = qos_overrides.publisher(
            node, PoseArray, topics.GRASPS, topics.GRASPS_QOS)
        self._target_cloud = qos_overrides.publisher(
            node, PointCloud2, topics.TARGET_CLOUD, topics.TARGET_CLOUD_QOS)
        self._markers = qos_overrides.publisher(
            node, MarkerArray, topics.MARKERS, topics.MARKERS_QOS)
        self._detections = qos_overrides.publisher(
            node, Detection3DArray, topics.DETECTIONS, topics.DETECTIONS_QOS)
        self._answers = qos_overrides.publisher(
            node, AnswerMsg, topics.ANSWER, topics.ANSWER_QOS)
        self._stand_off = qos_overrides.publisher(
            node, PoseStamped, topics.STAND_OFF_POSE, topics.TARGET_POSE_QOS)
        self._map = qos_overrides.publisher(node, PointCloud2, topics.MAP, topics.MAP_QOS)
        self._sent: tuple[str, np.ndarray] | None = None    # standing prompt and its last target
        self._frusta = keyframe_outlines(())
        self._frame_id = ''     # of the newest markers
        self._logger = node.get_logger()

    def publish(self, answer: Answer, stamp: Time, asked: Asked,
                cloud: PointCloud2 | None = None) -> None:
        """Publishes an answer on every topic. cloud: its cloud, when that exists already.

        The target of a standing prompt is sent when it is another one than before: an arm must not
        be sent somewhere because a map was written.
        """
        self._show(answer, stamp, cloud)
        self._answers.publish(to_answer(answer, stamp, *asked))
        target = answer.T_world_target
        if target is not None and not self._was_sent(asked, target):
            self.target.publish(target_pose(answer, stamp))
        if answer.T_world_stand_off is not None:
            self._stand_off.publish(stand_off_pose(answer, stamp))
        if asked.standing:
            self._sent = None if target is None else (asked.text, target)

    def refuse(self, code: int, message: str, stamp: Time, asked: Asked) -> None:
        """Publishes that a query was not answered. code: of msg/ErrorCode."""
        header = Header(stamp=stamp, frame_id=self._frame_id)
        self._answers.publish(to_refusal(code, message, header, *asked))

    def _was_sent(self, asked: Asked, target: np.ndarray) -> bool:
        """Returns whether the last target of this standing prompt was about here, (4, 4)."""
        if not asked.standing or self._sent is None or self._sent[0] != asked.text:
            return False
        moved, turned = motion(self._sent[1], target)
        return moved <= TARGET_MOVED_M and turned <= TARGET_TURNED_DEG

    def _show(self, answer: Answer, stamp: Time, cloud: PointCloud2 | None = None) -> None:
        """Publishes what is displayed of an answer."""
        self._frame_id = answer.frame_id
        self._cloud.publish(cloud or answer_to_cloud(answer, stamp))
        if note := rounding_note(answer):
            self._logger.warning(note, throttle_duration_sec=WARN_PERIOD_S)
        self._markers.publish(to_markers(answer, stamp, self._frusta))
        self._grasps.publish(grasp_poses(answer, stamp))
        self._target_cloud.publish(best_hit_cloud(answer, stamp))
        self._detections.publish(to_detections(answer, stamp))

    def clear(self, frame_id: str, stamp: Time) -> None:
        """Shows an empty answer, because the map is gone.

        Viewers that come late would still get the last cloud and the last markers.
        """
        self._frusta = keyframe_outlines(())
        if not self._frame_id:      # nothing was drawn yet
            return
        self._sent = None
        self.publish_map(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), frame_id or self._frame_id,
                         stamp)
        self._show(Answer('', Presence.ABSENT, 0.0, (), np.zeros((0, 3)), np.zeros(0),
                          np.zeros((0, 3), np.uint8), None, frame_id or self._frame_id, True, 0, 0),
                   stamp)

    def publish_map(self, points: np.ndarray, colors: np.ndarray, frame_id: str,
                    stamp: Time) -> None:
        """Publishes the points (N, 3) of a snapshot in their colours (N, 3) uint8."""
        self._map.publish(colored_cloud(points, colors, frame_id, stamp))

    def read_keyframes(self, map_directory: Path) -> None:
        """Reads where the map's keyframes were taken; draws none when they cannot be read."""
        try:
            images = posed_images(map_directory, MAX_KEYFRAMES)
            self._frusta = keyframe_outlines([(i.camera, i.T_world_camera) for i in images])
        except DatasetError as error:
            self._logger.debug(f'no keyframes to draw: {error}')
            self._frusta = np.zeros((0, 2, 3))
