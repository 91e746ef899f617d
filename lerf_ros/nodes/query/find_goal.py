# SPDX-License-Identifier: Apache-2.0
"""Goals of lerf/find: when looking for a thing ends, and what is missing until then."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Header

from lerf_ros.action import Find
from lerf_ros.errors import InvalidRequestError
from lerf_ros.nodes.common.conversions import matrix_to_pose, ns_to_stamp
from lerf_ros.nodes.common.node_config import FindConfig
from lerf_ros.nodes.query.messages import box_pose
from lerf_ros.query.answer import Answer, Hit, Presence
from lerf_ros.srv import Query

Result = Find.Result


class Wanted(NamedTuple):
    """How sure a goal wants to be: probability and observed part (0 to 1), time limit (s)."""

    probability: float
    observed: float
    limit_s: float

    @classmethod
    def of(cls, goal: Find.Goal, config: FindConfig) -> Wanted:
        """Returns what a goal says, or the node's own; raises InvalidRequestError."""
        wanted = cls(float(goal.min_probability) or config.probability,
                     float(goal.min_observed) or config.observed,
                     seconds_of(goal.time_limit) or config.time_limit)
        if not 0 < wanted.probability < 1:
            raise InvalidRequestError(f'min_probability is {wanted.probability:g}: above 0 and '
                                      "below 1 is possible, 0 for the node's own")
        if not 0 < wanted.observed <= 1:
            raise InvalidRequestError(f'min_observed is {wanted.observed:g}: above 0 and at most '
                                      "1 is possible, 0 for the node's own")
        if wanted.limit_s < 0:
            raise InvalidRequestError(f'time_limit is {wanted.limit_s:g} s: it must not be '
                                      "negative; 0 for the node's own")
        return wanted


def seconds_of(duration: Duration) -> float:
    """Returns a duration in seconds."""
    return duration.sec + duration.nanosec * 1e-9


def duration_of(seconds: float) -> Duration:
    """Returns seconds, which must not be negative, as a duration."""
    whole = int(seconds)
    return Duration(sec=whole, nanosec=int((seconds - whole) * 1e9))


def goal_request(goal: Find.Goal) -> Query.Request:
    """Returns the request of lerf/query that a goal asks again and again."""
    return Query.Request(
        text=goal.text, colors=goal.colors, sizes=goal.sizes, relations=goal.relations,
        region_pose=goal.region_pose, region_size=goal.region_size, frame_id=goal.frame_id)


def certainty(hit: Hit) -> float:
    """Returns the probability of a hit, or its relevancy where there is no calibration."""
    return hit.relevancy if math.isnan(hit.probability) else hit.probability


def best_hit(answer: Answer) -> Hit | None:
    """Returns the surest hit; None without any."""
    return max(answer.hits, key=certainty, default=None)


def end_of(answer: Answer, wanted: Wanted) -> int | None:
    """Returns why looking ends with this answer, a constant of Find.Result; None to go on.

    An absence counts once the map holds all of its keyframes and enough of the place was seen.
    """
    best = best_hit(answer)
    if answer.found and best is not None and certainty(best) >= wanted.probability:
        return int(Result.SURE)
    seen = not answer.observed < wanted.observed        # a map without coverage says NaN
    if answer.presence == Presence.ABSENT and seen and not answer.learning:
        return int(Result.ALL_SEEN)
    return None


def missing_of(answer: Answer, wanted: Wanted) -> str:
    """Returns what is missing to be sure, in words."""
    best, parts = best_hit(answer), []
    if best is not None and certainty(best) < wanted.probability:
        kind = 'relevancy' if math.isnan(best.probability) else 'probability'
        parts.append(f'the best place has {kind} {certainty(best):.2f}, {wanted.probability:.2f} '
                     'is wanted')
    elif best is None:
        parts.append('no place was found yet')
    if answer.observed < wanted.observed:
        parts.append(f'{answer.observed:.0%} of the place was seen well enough, '
                     f'{wanted.observed:.0%} is wanted')
    return '; '.join(filter(None, [*parts, answer.too_coarse if best is None else '',
                                   answer.learning]))


def feedback_of(answer: Answer | None, elapsed_s: float, missing: str,
                views: list[PoseStamped], stamp: Time, frame_id: str) -> Find.Feedback:
    """Returns the feedback after an answer in the frame of the goal; None before the first."""
    msg = Find.Feedback(elapsed=duration_of(elapsed_s), missing=missing, next_views=views,
                        presence=int(Presence.NOT_OBSERVED))
    msg.best.header = Header(stamp=stamp, frame_id=frame_id)
    if answer is None:
        return msg
    best = best_hit(answer)
    msg.snapshot_stamp = ns_to_stamp(answer.snapshot_stamp_ns)
    msg.presence, msg.observed = int(answer.presence), float(answer.observed)
    if best is not None:
        msg.best_probability = float(certainty(best))
        msg.best.pose = matrix_to_pose(box_pose(best))
    return msg


def pose_in(T: np.ndarray, stamp: Time, frame_id: str) -> PoseStamped:
    """Returns a pose (4, 4) in a frame."""
    return PoseStamped(header=Header(stamp=stamp, frame_id=frame_id), pose=matrix_to_pose(T))
