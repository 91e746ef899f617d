# SPDX-License-Identifier: Apache-2.0
"""Names and QoS of everything that the main nodes advertise; names are relative."""

from __future__ import annotations

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)

STATUS = 'lerf/status'
RELEVANCY = 'lerf/relevancy'
TARGET_POSE = 'lerf/target_pose'
MARKERS = 'lerf/markers'
GRASPS = 'lerf/grasps'
DETECTIONS = 'lerf/detections'
PROMPTS = 'lerf/prompts'
QUERY = 'lerf/query'
SAVE_MAP, LOAD_MAP, LIST_MAPS = 'lerf/save_map', 'lerf/load_map', 'lerf/list_maps'
RESET, PAUSE, RESUME = 'lerf/reset', 'lerf/pause', 'lerf/resume'
UNDO_MOVE = 'lerf/undo_move'


def profile(depth: int, reliable: bool = True, latched: bool = False) -> QoSProfile:
    """Keep the last `depth`; a latched publisher hands the last ones to late subscribers."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, liveliness=LivelinessPolicy.AUTOMATIC,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


# The topic of all robots' diagnostics, whatever the namespace.
DIAGNOSTICS = '/diagnostics'
DIAGNOSTICS_QOS = profile(10)

STATUS_QOS = profile(10)
# The answer stays on display for a viewer that comes late; a target does not stay for an arm.
RELEVANCY_QOS = profile(1, latched=True)
MARKERS_QOS = profile(1, latched=True)
TARGET_POSE_QOS = profile(1)
GRASPS_QOS = profile(1)
DETECTIONS_QOS = profile(1)
# What `ros2 topic pub` offers; a latched subscription would never match it.
PROMPTS_QOS = profile(1)
# At the default depth of 10 a burst of requests is lost without a word.
QUERY_QOS = profile(2000)
COMMAND_QOS = profile(100)

TF_QOS = profile(100)
# Beside large images Fast DDS loses small messages now and then. A reliable subscription then gets
# nothing until the loss is repeated, up to 3 s later; a second, best-effort one goes on.
TF_FAST_QOS = profile(100, reliable=False)
TF_STATIC_QOS = profile(100, latched=True)
POSE_QOS = profile(100, reliable=False)
POSE_UPDATES_QOS = profile(5)
# A best-effort subscription matches every publisher, and these messages are small.
CAMERA_INFO_QOS = profile(5, reliable=False)
IMAGE_DEPTH = 5

PUBLISHED = {STATUS: STATUS_QOS, RELEVANCY: RELEVANCY_QOS, TARGET_POSE: TARGET_POSE_QOS,
             MARKERS: MARKERS_QOS, GRASPS: GRASPS_QOS}
