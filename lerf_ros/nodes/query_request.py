# SPDX-License-Identifier: Apache-2.0
"""The request message of lerf/query as a request of the core, checked at the door."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image

from lerf_ros.errors import BadImageError, FrameError, InvalidRequestError
from lerf_ros.nodes.conversions import image_to_rgb, pose_to_matrix
from lerf_ros.query.request import KeyframeCrop, QueryRequest, Region
from lerf_ros.srv import Query

MAX_PIXELS = 2 ** 24            # of a picture: larger ones only cost time
MAX_HITS = 10_000
MAX_FRAME_CHARACTERS = 255


def to_request(msg: Query.Request, T_map_frame: np.ndarray) -> QueryRequest:
    """The request in map coordinates; T_map_frame (4, 4): of the frame that `frame_id` names.

    Raises InvalidRequestError and BadImageError; what is wrong with the phrases is told by
    QueryRequest.check.
    """
    if msg.max_hits > MAX_HITS:
        raise InvalidRequestError(f'max_hits {msg.max_hits}: at most {MAX_HITS} are returned')
    return QueryRequest(
        text=msg.text, texts=tuple(msg.texts), negatives=tuple(msg.negatives),
        rather_than=tuple(msg.rather_than), part=msg.part, image=picture_of(msg.image),
        crop=crop_of(msg), region=region_of(msg, T_map_frame), threshold=float(msg.threshold),
        max_hits=int(msg.max_hits), plan_grasps=bool(msg.plan_grasps))


def check_frame(frame_id: str) -> None:
    """InvalidRequestError for a name that no frame has."""
    if len(frame_id) > MAX_FRAME_CHARACTERS:
        raise InvalidRequestError(f'frame_id has {len(frame_id)} characters: at most '
                                  f'{MAX_FRAME_CHARACTERS} are read')


def picture_of(msg: Image) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB; None for an untouched message. Raises BadImageError."""
    if not (msg.width or msg.height or len(msg.data) or msg.encoding):
        return None
    if msg.width * msg.height > MAX_PIXELS:
        raise BadImageError(f'the picture has {msg.width} x {msg.height} pixels: at most '
                            f'{MAX_PIXELS} pixels are read; shrink it')
    try:
        return image_to_rgb(msg)
    except FrameError as error:
        raise BadImageError(str(error)) from error


def crop_of(msg: Query.Request) -> KeyframeCrop | None:
    """The crop of a keyframe; None when its width or height is 0."""
    roi = msg.keyframe_crop
    if not (roi.width and roi.height):
        return None
    return KeyframeCrop(int(msg.keyframe), int(roi.x_offset), int(roi.y_offset), int(roi.width),
                        int(roi.height))


def region_of(msg: Query.Request, T_map_frame: np.ndarray) -> Region | None:
    """The box to search in, map coordinates; None when its size is 0. Raises InvalidRequestError.

    Whether its numbers are finite and positive is told by QueryRequest.check.
    """
    size = np.array([msg.region_size.x, msg.region_size.y, msg.region_size.z])
    if not size.any():
        return None
    try:
        return Region(T_map_frame @ pose_to_matrix(msg.region_pose), size)
    except FrameError as error:
        raise InvalidRequestError(f'region_pose: {error}') from error
