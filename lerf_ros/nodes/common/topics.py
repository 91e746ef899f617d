# SPDX-License-Identifier: Apache-2.0
"""Names and QoS of the topics and services of the main nodes; the names are relative."""

from __future__ import annotations

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo

STATUS = 'lerf/status'
RELEVANCY = 'lerf/relevancy'
TARGET_POSE = 'lerf/target_pose'
TARGET_CLOUD = 'lerf/target_cloud'
MARKERS = 'lerf/markers'
GRASPS = 'lerf/grasps'
DETECTIONS = 'lerf/detections'
ANSWER = 'lerf/answer'
PICTURE = 'lerf/picture'
MAP = 'lerf/map'
FIND, STAND_OFF_POSE = 'lerf/find', 'lerf/stand_off_pose'
RVIZ_CONFIG = 'lerf/rviz_config'
PROMPTS = 'lerf/prompts'
QUERY = 'lerf/query'
SAVE_MAP, LOAD_MAP, LIST_MAPS = 'lerf/save_map', 'lerf/load_map', 'lerf/list_maps'
RESET, PAUSE, RESUME = 'lerf/reset', 'lerf/pause', 'lerf/resume'
UNDO_MOVE = 'lerf/undo_move'


def profile(depth: int, reliable: bool = True, latched: bool = False) -> QoSProfile:
    """Returns the QoS that keeps the last `depth` messages.

    latched: a publisher hands them to late subscribers (transient local).
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, liveliness=LivelinessPolicy.AUTOMATIC,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


def publisher_name(endpoint: TopicEndpointInfo) -> str:
    """Returns the full name of the node behind an endpoint."""
    return f'{endpoint.node_namespace.rstrip("/")}/{endpoint.node_name}'


# One topic for the diagnostics of all robots, whatever the namespace.
DIAGNOSTICS = '/diagnostics'
DIAGNOSTICS_QOS = profile(10)

STATUS_QOS = profile(10)
# A viewer that comes late still sees the answer; an arm must not act on an old target.
RELEVANCY_QOS = profile(1, latched=True)
MARKERS_QOS = profile(1, latched=True)
MAP_QOS = profile(1, latched=True)
TARGET_POSE_QOS = profile(1)
TARGET_CLOUD_QOS = profile(1)
GRASPS_QOS = profile(1)
DETECTIONS_QOS = profile(1)
PICTURE_QOS = profile(1)
# Volatile as the target is: what an old answer says may be done no more.
ANSWER_QOS = profile(10)
# As `ros2 topic pub` offers it; a latched subscription would never match.
PROMPTS_QOS = profile(1)
# At the default depth of 10 a burst of requests would be lost silently.
QUERY_QOS = profile(2000)
COMMAND_QOS = profile(100)

TF_QOS = profile(100)
# Beside large images Fast DDS sometimes loses small messages. A reliable subscription then gets
# nothing until the lost one is repeated, up to 3 s later; a second, best-effort one goes on.
TF_FAST_QOS = profile(100, reliable=False)
TF_STATIC_QOS = profile(100, latched=True)
POSE_QOS = profile(100, reliable=False)
POSE_UPDATES_QOS = profile(5)
# A best-effort subscription matches every publisher, and these messages are small.
CAMERA_INFO_QOS = profile(5, reliable=False)
IMAGE_DEPTH = 5
