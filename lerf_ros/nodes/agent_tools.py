# SPDX-License-Identifier: Apache-2.0
"""The tools of `lerf_ros mcp --ros`: what agents may ask of a running robot, over its interfaces.

Whatever is asked is shown on the robot's topics too, as with any other question.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from geometry_msgs.msg import Pose, Vector3
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage

from lerf_ros.action import Find
from lerf_ros.agents.question import (
    Json,
    Question,
    answer_data,
    frame_data,
    hit_data,
    nth_hit,
    rounded,
    stand_off_data,
    vector,
    view_data,
)
from lerf_ros.errors import InvalidRequestError, LerfError
from lerf_ros.msg import Answer as AnswerMsg
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import matrix_to_pose, pose_to_matrix
from lerf_ros.nodes.graph import terminal_node
from lerf_ros.nodes.query.find_goal import certainty, duration_of
from lerf_ros.nodes.query.find_server import ENDS
from lerf_ros.nodes.query.from_messages import answer_from_message
from lerf_ros.nodes.query.messages import box_pose, error_name
from lerf_ros.nodes.terminal import who_is_here
from lerf_ros.query.answer import Answer, Hit
from lerf_ros.query.household import NAMES
from lerf_ros.srv import Query

SPIN_S = 0.1
POLL_S = 0.02
LOOK_S = 1e-3           # a goal with this limit asks one snapshot and ends
NEVER_SURE = float(np.nextafter(np.float32(1), np.float32(0)))
NAMES_AT_ONCE = 32      # so that other questions are answered between
MOST_NAMES = 3          # of a thing
MOST_ITEMS = 60         # of an inventory that are told
PICTURE_WAIT_S = 2.0    # before the question is asked again: a subscription takes a moment
MARGIN = 1.2            # times the box of a hit, to ask for this hit alone
CAUTION = ('only what reaches the threshold for one of the names is listed; a name is the best of '
           'many, and right less often than its probability says')


class Found(NamedTuple):
    """A response and what it says."""

    msg: Query.Response
    answer: Answer


@contextlib.contextmanager
def robot_tools(namespace: str, timeout_s: float) -> Iterator[RobotTools]:
    """Yields the tools of the robot in a namespace. timeout_s: how long each answer may take."""
    with terminal_node(namespace) as (node, executor):
        stop = threading.Event()
        # Before the node is spun: an action client is served before it is complete.
        tools = RobotTools(node, timeout_s)

        def spin() -> None:
            while not stop.is_set():
                executor.spin_once(timeout_sec=SPIN_S)

        thread = threading.Thread(target=spin, name='spin', daemon=True)
        thread.start()
        try:
            yield tools
        finally:
            stop.set()
            thread.join()
            tools.close()


class RobotTools:
    """Asks running nodes; another thread spins the node. One call runs at a time."""

    def __init__(self, node: Node, timeout_s: float) -> None:
        self._node, self._timeout_s = node, timeout_s
        self._queries = node.create_client(Query, topics.QUERY, qos_profile=topics.QUERY_QOS)
        self._finds = ActionClient(node, Find, topics.FIND)
        self._lock = threading.RLock()
        self._last = ''     # phrase that was asked

    def close(self) -> None:
        """Frees the action client, which the node does not own."""
        self._finds.destroy()

    def query(self, asked: Question) -> Json:
        """Returns where a phrase is found, whether it is there, and where a base stands for it."""
        found = self._ask(request_of(asked, plan_stand_off=True), asked.text)
        out = answer_data(found.answer, found.msg.message)
        if found.answer.hits:
            out['stand_off'] = stand_off_data(found.answer.T_world_stand_off,
                                              found.answer.stand_off_note)
        return out

    def find(self, asked: Question, seconds: float, probability: float) -> Json:
        """Looks on until a thing is found for sure or surely not there, at most for seconds."""
        if not 0 < seconds < 2**31:
            raise InvalidRequestError(f'seconds is {seconds:g}: say how long to look, above 0')
        result = self._look(goal_of(asked, seconds, probability), seconds)
        return {'end': end_name(result.end),
                **answer_data(answer_from_message(asked.text, result.answer), result.message),
                'next_views': views_of(result)}

    def next_views(self, center: Sequence[float] = (), size: Sequence[float] = ()) -> Json:
        """Returns from where a camera shows most of what was not seen, in a box or everywhere.

        Raises InvalidRequestError where nothing was asked yet: views serve a search.
        """
        if not self._last:
            raise InvalidRequestError('ask for a thing first, with query or find: a robot proposes '
                                      'views of where it may be')
        asked = Question(self._last, center=tuple(center), size=tuple(size))
        result = self._look(goal_of(asked, LOOK_S, NEVER_SURE, 1.0), LOOK_S)
        views, answer = views_of(result), result.answer
        reason = '' if views else result.message.removeprefix(
            f'{ENDS[Find.Result.TIME_LIMIT]}; ')
        return {'text': self._last, **frame_data(answer.header.frame_id, answer.metric),
                'seen': rounded(answer.observed), 'views': views, 'reason': reason}

    def inventory(self, names: Sequence[str] = ()) -> Json:
        """Returns the things that one of the names fits, or one of a list of household things."""
        wanted, hits = tuple(names) or NAMES, list[Hit]()
        with self._lock:
            for start in range(0, len(wanted), NAMES_AT_ONCE):
                part = wanted[start:start + NAMES_AT_ONCE]
                found = self._ask(Query.Request(texts=part, plan_grasps=False), '; '.join(part))
                hits += [hit for phrase in found.answer.phrases for hit in phrase.hits]
        things = same_places(hits)
        return {**frame_data(found.answer.frame_id, found.answer.metric), 'things': len(things),
                'named': len(things), 'caution': CAUTION,
                'left_out': max(len(things) - MOST_ITEMS, 0),
                'items': [thing_data(thing) for thing in things[:MOST_ITEMS]]}

    def picture(self, text: str, rank: int = 1) -> tuple[bytes, Json]:
        """Returns a JPEG of the photograph that shows a hit best, and what it shows.

        Raises InvalidRequestError where there is no such hit.
        """
        pictures: dict[tuple[int, int], bytes] = {}

        def keep(msg: CompressedImage) -> None:
            pictures[msg.header.stamp.sec, msg.header.stamp.nanosec] = bytes(msg.data)

        with self._lock:
            found = self._ask(Query.Request(text=text, max_hits=max(rank, 1), plan_grasps=False),
                              text)
            hit = nth_hit(found.answer, rank, found.msg.message)
            request = Query.Request(text=text, max_hits=1, plan_grasps=False)
            if rank > 1:        # the topic shows the best place: ask about this one alone
                request.region_pose = matrix_to_pose(box_pose(hit))
                request.region_size = vector3(hit.size * MARGIN)
            subscription = self._node.create_subscription(
                CompressedImage, topics.PICTURE, keep, topics.PICTURE_QOS)
            try:
                data = self._pictured(request, text, pictures)
            finally:
                self._node.destroy_subscription(subscription)
        return data, {'text': text, 'rank': rank, **frame_data(
            found.answer.frame_id, found.answer.metric), **hit_data(hit)}

    def _pictured(self, request: Query.Request, text: str,
                  pictures: dict[tuple[int, int], bytes]) -> bytes:
        """Asks until the picture of an answer arrives; raises LerfError where none does in time."""
        end = time.monotonic() + self._timeout_s
        while time.monotonic() < end:
            stamp = self._ask(request, text).msg.header.stamp
            key = stamp.sec, stamp.nanosec
            if wait_for(partial(pictures.__contains__, key), PICTURE_WAIT_S):
                return pictures[key]
        raise LerfError(f'no picture on {topics.PICTURE} within {self._timeout_s:g} s: the log of '
                        'query_node says why')

    def _ask(self, request: Query.Request, text: str) -> Found:
        """Returns the answer; raises LerfError where no node answers, and with what it says."""
        with self._lock:
            if not self._queries.wait_for_service(self._timeout_s):
                raise LerfError(f'no service {self._queries.srv_name} '
                                f'{who_is_here(self._node, self._timeout_s)}')
            future = self._queries.call_async(request)
            self._wait(future, self._timeout_s, self._queries.srv_name)
            response = future.result()
            if not response.success:
                raise refusal(response)
            self._last = request.text or self._last
            return Found(response, answer_from_message(text, response))

    def _look(self, goal: Find.Goal, limit_s: float) -> Find.Result:
        """Returns the result of a goal; raises LerfError where it could not be asked."""
        with self._lock:
            if not self._finds.wait_for_server(self._timeout_s):
                raise LerfError(f'no action {topics.FIND} '
                                f'{who_is_here(self._node, self._timeout_s)}')
            sent = self._finds.send_goal_async(goal)
            self._wait(sent, self._timeout_s, topics.FIND)
            if not sent.result().accepted:
                raise LerfError(f'{topics.FIND} did not accept the goal: look at the log of '
                                'query_node')
            ended = sent.result().get_result_async()
            self._wait(ended, limit_s + self._timeout_s, topics.FIND)
            result = ended.result().result
            if not result.success:
                raise refusal(result)
            self._last = goal.text
            return result

    def _wait(self, future: Future, timeout_s: float, name: str) -> None:
        if not wait_for(future.done, timeout_s):
            raise LerfError(f'{name} gave no answer within {timeout_s:g} s: look at the log of '
                            'query_node')


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Returns whether a condition came true in time; another thread makes it so."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def refusal(msg: Query.Response | Find.Result | AnswerMsg) -> LerfError:
    """Returns why there is no answer, as an error."""
    return LerfError(f'{error_name(msg.error_code)}: {msg.message}')


def request_of(asked: Question, plan_stand_off: bool = False) -> Query.Request:
    """Returns the request of a question; raises InvalidRequestError for its box or max_hits."""
    if not 0 <= asked.max_hits < 2**31:
        raise InvalidRequestError(f'max_hits is {asked.max_hits}: how many places, from 1 on')
    pose, size = box_of(asked)
    return Query.Request(
        text=asked.text, max_hits=asked.max_hits, part=asked.part,
        rather_than=list(asked.rather_than), negatives=list(asked.negatives),
        threshold=asked.threshold, region_pose=pose, region_size=size, frame_id=asked.frame,
        plan_stand_off=plan_stand_off)


def goal_of(asked: Question, seconds: float, probability: float,
            observed: float = 0.0) -> Find.Goal:
    """Returns the goal of a question. seconds: time limit. probability, observed: 0 for the node's.
    """
    pose, size = box_of(asked)
    return Find.Goal(text=asked.text, region_pose=pose, region_size=size, frame_id=asked.frame,
                     min_probability=probability, min_observed=observed,
                     time_limit=duration_of(seconds))


def box_of(asked: Question) -> tuple[Pose, Vector3]:
    """Returns pose and size of the box of a question; all 0 for everywhere."""
    region = asked.region()
    if region is None:
        return Pose(), Vector3()
    return matrix_to_pose(region.T_world_region), vector3(region.size)


def vector3(values: np.ndarray) -> Vector3:
    """Returns three numbers as a message."""
    return Vector3(**dict(zip('xyz', map(float, values), strict=True)))


def views_of(result: Find.Result) -> list[Json]:
    """Returns the proposed views; what each of them gains is not told over ROS."""
    return [view_data(pose_to_matrix(view.pose)) for view in result.next_views]


def end_name(end: int) -> str:
    """Returns the name of a constant of Find.Result."""
    names = ('SURE', 'ALL_SEEN', 'TIME_LIMIT', 'CANCELED', 'FAILED')
    return next(name for name in names if getattr(Find.Result, name) == end)


def same_places(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Returns hits of many names by place, the surest place and the surest name first."""
    things: list[list[Hit]] = []
    for hit in sorted(hits, key=certainty, reverse=True):
        here = next((thing for thing in things if inside(hit, thing[0]) or inside(thing[0], hit)),
                    None)
        if here is None:
            things.append([hit])
        elif hit.label not in [other.label for other in here]:
            here.append(hit)
    return things


def inside(hit: Hit, box: Hit) -> bool:
    """Returns whether the centre of a hit lies in the box of another."""
    local = np.asarray(box.rotation).T @ (hit.position - box.position)
    return bool((np.abs(local) <= box.size / 2).all())


def thing_data(thing: Sequence[Hit]) -> Json:
    """Returns a thing with the names that fit it."""
    best = thing[0]
    return {'kind': 'thing', 'named': True, 'position': vector(best.position),
            'size': vector(best.size), 'names': [
                {'name': hit.label, 'relevancy': rounded(hit.relevancy),
                 'probability': rounded(hit.probability)}
                for hit in thing[:MOST_NAMES]]}
