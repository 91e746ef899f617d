# SPDX-License-Identifier: Apache-2.0
"""Hits as vision_msgs/Detection3DArray, where vision_msgs is installed."""

from __future__ import annotations

import math
from typing import Any

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from lerf_ros.nodes.conversions import matrix_to_pose
from lerf_ros.nodes.query_messages import box_pose
from lerf_ros.query.answer import Answer, Hit

try:
    from vision_msgs import msg as vision_msgs
except ImportError:
    vision_msgs = None


def message_type() -> Any:
    """Detection3DArray, or None where vision_msgs is not installed."""
    return None if vision_msgs is None else vision_msgs.Detection3DArray


def to_detections(answer: Answer, stamp: Time) -> Any:
    """The hits as detections: oriented box, phrase as class, probability or relevancy as score."""
    header = Header(stamp=stamp, frame_id=answer.frame_id)
    return vision_msgs.Detection3DArray(header=header, detections=[
        to_detection(hit, hit.label or answer.text, header) for hit in answer.hits])


def to_detection(hit: Hit, label: str, header: Header) -> Any:
    """One hit."""
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
