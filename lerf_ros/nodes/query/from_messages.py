# SPDX-License-Identifier: Apache-2.0
"""Answers of lerf/query, lerf/answer and lerf/find as the core's types, for those who ask."""

from __future__ import annotations

import math

import numpy as np

from lerf_ros.msg import Answer as AnswerMsg
from lerf_ros.msg import GraspCandidate, KeyframeView, QueryHit
from lerf_ros.msg import PhraseAnswer as PhraseAnswerMsg
from lerf_ros.nodes.common.conversions import pose_to_matrix, stamp_to_ns
from lerf_ros.query.answer import Answer, ConfirmingView, Grasp, Hit, PhraseAnswer, Presence
from lerf_ros.srv import Query


def answer_from_message(text: str, msg: Query.Response | AnswerMsg) -> Answer:
    """Returns what a message says as an Answer without points; its threshold is unknown (NaN)."""
    target = pose_to_matrix(msg.target_pose.pose) if msg.has_target else None
    stand_off = pose_to_matrix(msg.stand_off_pose.pose) if msg.has_stand_off else None
    return Answer(
        text=text, presence=Presence(msg.presence), threshold=math.nan,
        hits=tuple(map(hit_from_message, msg.hits)), points_world=np.zeros((0, 3)),
        relevancy=np.zeros(0), colors=np.zeros((0, 3), np.uint8), T_world_target=target,
        frame_id=msg.header.frame_id, metric=msg.metric, snapshot_id=0,
        snapshot_stamp_ns=stamp_to_ns(msg.snapshot_stamp),
        grasps=tuple(map(grasp_from_message, msg.grasps)), no_target_reason=msg.no_target_reason,
        learning='the map is still learning' if msg.learning else '',
        probability=msg.probability, observed=msg.observed,
        phrases=tuple(map(phrase_from_message, msg.phrases)),
        T_world_stand_off=stand_off, stand_off_note=msg.stand_off_note)


def phrase_from_message(msg: PhraseAnswerMsg) -> PhraseAnswer:
    """Returns the message of what is said of a phrase as the core's PhraseAnswer."""
    return PhraseAnswer(msg.text, Presence(msg.presence), tuple(map(hit_from_message, msg.hits)),
                        msg.probability, msg.not_found_reason, msg.understood, msg.not_understood,
                        tuple(msg.looks_more_like))


def hit_from_message(msg: QueryHit) -> Hit:
    """Returns the message of a hit as the core's Hit."""
    T_world_box = pose_to_matrix(msg.box.center)
    return Hit(T_world_box[:3, 3], T_world_box[:3, :3],
               np.array([msg.box.size.x, msg.box.size.y, msg.box.size.z]), msg.relevancy, msg.scale,
               msg.points, msg.keyframes, msg.label, msg.probability,
               tuple(view_from_message(view) for view in msg.confirmed_by),
               last_seen_ns=stamp_to_ns(msg.last_seen))


def view_from_message(msg: KeyframeView) -> ConfirmingView:
    """Returns the message of a confirming keyframe as the core's ConfirmingView."""
    x, y = msg.roi.x_offset, msg.roi.y_offset
    return ConfirmingView(msg.keyframe, (float(x), float(y), float(x + msg.roi.width),
                                         float(y + msg.roi.height)), msg.relevancy)


def grasp_from_message(msg: GraspCandidate) -> Grasp:
    """Returns the message of a grasp as the core's Grasp."""
    return Grasp(pose_to_matrix(msg.pose), pose_to_matrix(msg.pregrasp_pose),
                 pose_to_matrix(msg.gripper_pose), msg.opening_width, msg.score,
                 msg.semantic_score, msg.geometric_score)
