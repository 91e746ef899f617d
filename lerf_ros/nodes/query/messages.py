# SPDX-License-Identifier: Apache-2.0
"""Requests and responses of the query service from and to the core's types."""

from __future__ import annotations

import math

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseArray, PoseStamped
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header, String
from vision_msgs.msg import BoundingBox3D

from lerf_ros.errors import BadImageError, FrameError, InvalidRequestError, LerfError
from lerf_ros.geometry.region import Region
from lerf_ros.msg import Answer as AnswerMsg
from lerf_ros.msg import ErrorCode, GraspCandidate, KeyframeView, QueryHit
from lerf_ros.msg import PhraseAnswer as PhraseAnswerMsg
from lerf_ros.nodes.common.conversions import (
    image_to_rgb,
    matrix_to_pose,
    ns_to_stamp,
    pose_to_matrix,
    rounding_note,
    stamp_to_ns,
)
from lerf_ros.query.answer import Answer, ConfirmingView, Grasp, Hit, PhraseAnswer, Presence
from lerf_ros.query.phrases.reading import Relation, Viewpoint
from lerf_ros.query.request import KeyframeCrop, QueryRequest, relation, split_phrases
from lerf_ros.show.words import summary
from lerf_ros.srv import Query

MAX_PIXELS = 2 ** 24            # of an image to search for: larger ones only cost time
MAX_HITS = 10_000
MAX_FRAME_CHARACTERS = 255
MAX_RELATIONS = 16


def to_request(msg: Query.Request, T_map_frame: np.ndarray,
               viewpoint: Viewpoint | None = None) -> QueryRequest:
    """Returns a request in map coordinates.

    T_map_frame: (4, 4), of the frame that `frame_id` names. viewpoint: of `view_frame`. Raises
    InvalidRequestError and BadImageError; QueryRequest.check finds what is wrong with the phrases.
    """
    if msg.max_hits > MAX_HITS:
        raise InvalidRequestError(f'max_hits {msg.max_hits}: at most {MAX_HITS} are returned')
    return QueryRequest(
        text=msg.text, texts=tuple(msg.texts), negatives=tuple(msg.negatives),
        rather_than=tuple(msg.rather_than), part=msg.part, image=image_from_message(msg.image),
        crop=crop_from_request(msg), region=region_from_request(msg, T_map_frame),
        threshold=float(msg.threshold), max_hits=int(msg.max_hits),
        plan_grasps=bool(msg.plan_grasps), colors=tuple(msg.colors), sizes=tuple(msg.sizes),
        relations=relations_from_request(msg), viewpoint=viewpoint,
        whole_phrase=bool(msg.whole_phrase))


def relations_from_request(msg: Query.Request) -> tuple[Relation, ...]:
    """Returns the relations of a request; raises InvalidRequestError for one that is unknown."""
    if len(msg.relations) > MAX_RELATIONS:
        raise InvalidRequestError(f'{len(msg.relations)} relations: at most {MAX_RELATIONS}')
    return tuple(relation(asked.kind, *asked.anchors) for asked in msg.relations)


def viewpoint_of(T_map_frame: np.ndarray, frame_id: str) -> Viewpoint:
    """Returns the viewpoint in a frame, whose pose in the map is T_map_frame (4, 4)."""
    ahead = 2 if frame_id.endswith('optical_frame') else 0
    return Viewpoint(T_map_frame[:3, 3], T_map_frame[:3, ahead], frame_id)


def prompt_to_request(msg: String) -> QueryRequest | None:
    """Returns the request of a prompt, whose phrases `;` separates; None for a blank prompt."""
    phrases = split_phrases(msg.data)
    if not phrases:
        return None
    return QueryRequest(phrases[0]) if len(phrases) == 1 else QueryRequest(texts=phrases)


def check_frame(frame_id: str) -> None:
    """Raises InvalidRequestError for a name that is too long for a frame."""
    if len(frame_id) > MAX_FRAME_CHARACTERS:
        raise InvalidRequestError(f'frame_id has {len(frame_id)} characters: at most '
                                  f'{MAX_FRAME_CHARACTERS} are read')


def image_from_message(msg: Image) -> np.ndarray | None:
    """Returns an image as (H, W, 3) uint8 RGB, None for an empty message; raises BadImageError."""
    if not (msg.width or msg.height or len(msg.data) or msg.encoding):
        return None
    if msg.width * msg.height > MAX_PIXELS:
        raise BadImageError(f'the picture has {msg.width} x {msg.height} pixels: at most '
                            f'{MAX_PIXELS} pixels are read; shrink it')
    try:
        return image_to_rgb(msg)
    except FrameError as error:
        raise BadImageError(str(error)) from error


def crop_from_request(msg: Query.Request) -> KeyframeCrop | None:
    """Returns the crop of a keyframe; None when its width or height is 0."""
    roi = msg.keyframe_crop
    if not (roi.width and roi.height):
        return None
    return KeyframeCrop(int(msg.keyframe), int(roi.x_offset), int(roi.y_offset), int(roi.width),
                        int(roi.height))


def region_from_request(msg: Query.Request, T_map_frame: np.ndarray) -> Region | None:
    """Returns the box to search, in map coordinates; None when its size is 0.

    Raises InvalidRequestError for a pose that is none. QueryRequest.check finds sizes that are not
    finite and positive.
    """
    size = np.array([msg.region_size.x, msg.region_size.y, msg.region_size.z])
    if not size.any():
        return None
    try:
        return Region(T_map_frame @ pose_to_matrix(msg.region_pose), size)
    except FrameError as error:
        raise InvalidRequestError(f'region_pose: {error}') from error


def error_code(error: LerfError) -> int:
    """Returns the constant of msg/ErrorCode for an error; INTERNAL for one without a code there.
    """
    return int(getattr(ErrorCode, error.code, ErrorCode.INTERNAL))


def error_name(code: int) -> str:
    """Returns the name of a constant of msg/ErrorCode, or the number where there is none."""
    return next((name for name in dir(type(ErrorCode)) if name.isupper()
                 and getattr(ErrorCode, name) == code), str(code))


def fill_error(response: Query.Response | AnswerMsg, code: int, message: str) -> None:
    """Writes into a response why there is no answer: nothing is said of any thing."""
    response.success, response.error_code, response.message = False, code, message
    response.presence = int(Presence.NOT_OBSERVED)
    response.probability = response.observed = math.nan


def fill_response(response: Query.Response, answer: Answer, stamp: Time) -> None:
    """Writes into a response everything of an answer, given at `stamp`, but the cloud."""
    fill_answer(response, answer, stamp)
    response.map_age = snapshot_age(answer.snapshot_stamp_ns, stamp)
    response.encode_time = float(answer.timing.encode)
    response.search_time = float(answer.timing.search)
    response.grasp_time = float(answer.timing.grasp)


def fill_answer(msg: Query.Response | AnswerMsg, answer: Answer, stamp: Time) -> None:
    """Writes what a response and msg/Answer have in common, of an answer given at `stamp`."""
    msg.success, msg.error_code = True, ErrorCode.NONE
    msg.message = '; '.join(filter(None, [summary(answer), rounding_note(answer)]))
    msg.header = Header(stamp=stamp, frame_id=answer.frame_id)
    msg.metric = answer.metric
    msg.presence = int(answer.presence)
    msg.probability, msg.observed = float(answer.probability), float(answer.observed)
    msg.phrases = [to_phrase(phrase) for phrase in answer.phrases]
    msg.hits = [to_hit(hit) for hit in answer.hits]
    msg.grasps = [to_grasp(grasp) for grasp in answer.grasps]
    msg.has_target = answer.T_world_target is not None
    msg.target_pose = target_pose(answer, stamp)
    msg.no_target_reason = answer.no_target_reason
    msg.has_stand_off = answer.T_world_stand_off is not None
    msg.stand_off_pose = stand_off_pose(answer, stamp)
    msg.stand_off_note = answer.stand_off_note
    msg.learning = bool(answer.learning)
    msg.snapshot_stamp = ns_to_stamp(answer.snapshot_stamp_ns)


def to_answer(answer: Answer, stamp: Time, query_id: int, text: str,
              standing: bool = False) -> AnswerMsg:
    """Returns the message on lerf/answer. text: what was asked. standing: by the prompt."""
    msg = AnswerMsg(query_id=query_id, text=text, standing=standing)
    fill_answer(msg, answer, stamp)
    return msg


def to_refusal(code: int, message: str, header: Header, query_id: int, text: str,
               standing: bool = False) -> AnswerMsg:
    """Returns the message on lerf/answer for a query that was not answered."""
    msg = AnswerMsg(header=header, query_id=query_id, text=text, standing=standing)
    fill_error(msg, code, message)
    return msg


def asked_text(request: Query.Request) -> str:
    """Returns what a request asks for, as a prompt says it; for a picture what kind."""
    if request.text or request.texts:
        return '; '.join(filter(None, [request.text, *request.texts]))
    crop = request.keyframe_crop
    if crop.width and crop.height:
        return f'a crop of keyframe {request.keyframe}'
    return 'a picture' if len(request.image.data) else ''


def to_phrase(phrase: PhraseAnswer) -> PhraseAnswerMsg:
    """Returns the message of what is said of one phrase."""
    return PhraseAnswerMsg(
        text=phrase.text, presence=int(phrase.presence), probability=float(phrase.probability),
        looks_more_like=list(phrase.looks_more_like), understood=phrase.understood,
        not_understood=phrase.not_understood, not_found_reason=phrase.not_found_reason,
        hits=[to_hit(hit) for hit in phrase.hits])


def snapshot_age(snapshot_stamp_ns: int, stamp: Time) -> Duration:
    """Returns the time from a snapshot to `stamp`; 0 when the snapshot's clock was ahead."""
    elapsed_ns = max(stamp_to_ns(stamp) - snapshot_stamp_ns, 0)
    # The message holds 68 years; two clocks of which one starts at 0 differ by more.
    return Duration(sec=min(elapsed_ns // 10**9, 2**31 - 1), nanosec=elapsed_ns % 10**9)


def box_pose(hit: Hit) -> np.ndarray:
    """Returns T_world_box (4, 4), the centre and axes of a hit's box."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = hit.rotation, hit.position
    return T


def to_box(hit: Hit) -> BoundingBox3D:
    """Returns the oriented box of a hit."""
    box = BoundingBox3D(center=matrix_to_pose(box_pose(hit)))
    box.size.x, box.size.y, box.size.z = (float(v) for v in hit.size)
    return box


def to_hit(hit: Hit) -> QueryHit:
    """Returns the message of a hit."""
    return QueryHit(
        label=hit.label, box=to_box(hit), relevancy=float(hit.relevancy),
        probability=float(hit.probability), scale=float(hit.scale), points=int(hit.points),
        keyframes=int(hit.keyframes), last_seen=ns_to_stamp(hit.last_seen_ns),
        confirmed_by=[to_view(view) for view in hit.confirmed_by])


def to_view(view: ConfirmingView) -> KeyframeView:
    """Returns the message of a keyframe that confirms a hit, its box in whole pixels."""
    x0, y0 = (max(math.floor(v), 0) for v in view.box[:2])
    x1, y1 = (math.ceil(v) for v in view.box[2:])
    roi = RegionOfInterest(x_offset=x0, y_offset=y0, width=max(x1 - x0, 1), height=max(y1 - y0, 1))
    return KeyframeView(keyframe=view.keyframe, roi=roi, relevancy=float(view.relevancy))


def to_grasp(grasp: Grasp) -> GraspCandidate:
    """Returns the message of a grasp."""
    return GraspCandidate(
        pose=matrix_to_pose(grasp.T_world_grasp),
        pregrasp_pose=matrix_to_pose(grasp.T_world_pregrasp),
        gripper_pose=matrix_to_pose(grasp.T_world_gripper),
        opening_width=float(grasp.opening_width), score=float(grasp.score),
        semantic_score=float(grasp.semantic_score),
        geometric_score=float(grasp.geometric_score))


def target_pose(answer: Answer, stamp: Time) -> PoseStamped:
    """Returns the target in the answer's frame; only a header when there is none."""
    msg = PoseStamped(header=Header(stamp=stamp, frame_id=answer.frame_id))
    if answer.T_world_target is not None:
        msg.pose = matrix_to_pose(answer.T_world_target)
    return msg


def stand_off_pose(answer: Answer, stamp: Time) -> PoseStamped:
    """Returns where a base stands, in the answer's frame; only a header where that is unknown."""
    msg = PoseStamped(header=Header(stamp=stamp, frame_id=answer.frame_id))
    if answer.T_world_stand_off is not None:
        msg.pose = matrix_to_pose(answer.T_world_stand_off)
    return msg


def grasp_poses(answer: Answer, stamp: Time) -> PoseArray:
    """Returns the poses of all grasps, the best first."""
    return PoseArray(header=Header(stamp=stamp, frame_id=answer.frame_id),
                     poses=[matrix_to_pose(grasp.T_world_grasp) for grasp in answer.grasps])
