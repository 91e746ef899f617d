# SPDX-License-Identifier: Apache-2.0
"""What everybody sees of an answer: the topics of the query node, always in the map frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from lerf_ros.errors import DatasetError
from lerf_ros.keyframes.captures.transforms_json import posed_images
from lerf_ros.nodes import detections, qos_overrides, topics
from lerf_ros.nodes.conversions import answer_to_cloud, coarse_note
from lerf_ros.nodes.markers import to_markers
from lerf_ros.nodes.query_messages import grasp_poses, target_pose
from lerf_ros.query.answer import Answer, Presence
from lerf_ros.query.outlines import keyframe_outlines

MAX_KEYFRAMES = 200     # drawn at most, evenly chosen
WARN_PERIOD_S = 60.0


class AnswerPublisher:
    """The publishers, and the keyframes that are drawn with every answer."""

    def __init__(self, node: Node) -> None:
        self._cloud = qos_overrides.publisher(
            node, PointCloud2, topics.RELEVANCY, topics.RELEVANCY_QOS)
        self.target = qos_overrides.publisher(
            node, PoseStamped, topics.TARGET_POSE, topics.TARGET_POSE_QOS)
        self._grasps = qos_overrides.publisher(
            node, PoseArray, topics.GRASPS, topics.GRASPS_QOS)
        self._markers = qos_overrides.publisher(
            node, MarkerArray, topics.MARKERS, topics.MARKERS_QOS)
        kind = detections.message_type()
        self._detections = kind and qos_overrides.publisher(
            node, kind, topics.DETECTIONS, topics.DETECTIONS_QOS)
        self._frusta = keyframe_outlines(())
        self._frame_id = ''     # of what is on display
        self._logger = node.get_logger()

    def publish(self, answer: Answer, stamp: Time, query_id: int,
                cloud: PointCloud2 | None = None) -> None:
        """Publishes the answer on every topic; cloud: the answer's, where it is there already."""
        self._frame_id = answer.frame_id
        self._cloud.publish(cloud or answer_to_cloud(answer, stamp))
        if note := coarse_note(answer):
            self._logger.warning(note, throttle_duration_sec=WARN_PERIOD_S)
        self._markers.publish(to_markers(answer, stamp, query_id, self._frusta))
        self._grasps.publish(grasp_poses(answer, stamp))
        if answer.T_world_target is not None:
            self.target.publish(target_pose(answer, stamp))
        if self._detections is not None:
            self._detections.publish(detections.to_detections(answer, stamp))

    def clear(self, frame_id: str, stamp: Time) -> None:
        """Takes everything off the display that was drawn of a map that is gone.

        The last cloud and the last markers would stay for viewers that come late.
        """
        self._frusta = keyframe_outlines(())
        if not self._frame_id:      # nothing was drawn yet
            return
        self.publish(Answer('', Presence.ABSENT, 0.0, (), np.zeros((0, 3)), np.zeros(0),
                            np.zeros((0, 3), np.uint8), None, frame_id or self._frame_id, True, 0,
                            0), stamp, 0)

    def read_keyframes(self, map_directory: Path) -> None:
        """Looks up from where the map's keyframes were taken; without them none are drawn."""
        try:
            images = posed_images(map_directory, MAX_KEYFRAMES)
            self._frusta = keyframe_outlines([(i.camera, i.T_world_camera) for i in images])
        except DatasetError as error:
            self._logger.debug(f'no keyframes to draw: {error}')
            self._frusta = np.zeros((0, 2, 3))
