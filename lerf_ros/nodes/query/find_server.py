# SPDX-License-Identifier: Apache-2.0
"""The action lerf/find: asks every snapshot until the thing is found for sure, or surely not there.

Each goal has a thread, so that the executor's thread goes on. rclpy runs a coroutine that waits
over and over again, so the goal is executed when its result is known; until then a client sees it
as accepted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from lerf_ros.action import Find
from lerf_ros.errors import EmptyTextError, NoSnapshotError
from lerf_ros.msg import ErrorCode
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.node_config import FindConfig
from lerf_ros.nodes.query.find_goal import (
    Wanted,
    end_of,
    feedback_of,
    goal_request,
    missing_of,
    pose_in,
)
from lerf_ros.nodes.query.messages import fill_error, to_answer
from lerf_ros.query.answer import Answer, in_frame
from lerf_ros.srv import Query

POLL_S = 0.05
MOST_GOALS = 4      # at a time
ENDS = {Find.Result.SURE: 'found for sure', Find.Result.ALL_SEEN: 'everything was seen, and it is '
        'not there', Find.Result.TIME_LIMIT: 'the time is up', Find.Result.CANCELED: 'cancelled'}


@dataclass(frozen=True)
class Asking:
    """One answer in the map frame. frame_id and T_frame_map (4, 4): of the goal, None for the map.

    views: T_map_camera (4, 4) each, the best first; why_none: why there are none.
    """

    answer: Answer
    frame_id: str
    T_frame_map: np.ndarray | None
    views: tuple[np.ndarray, ...] = ()
    why_none: str = ''


class Asker(Protocol):
    """The part of the query node that a search needs; every call may raise LerfError."""

    def snapshot(self) -> object:
        """Returns what differs from snapshot to snapshot; raises while there is none to ask."""

    def ask_for(self, request: Query.Request, propose: bool) -> Asking:
        """Returns the answer of the newest snapshot, with views if those are to be proposed."""

    def publish(self, answer: Answer, text: str) -> int:
        """Publishes the last answer on all topics; returns its number."""

    def reason(self, error: Exception) -> tuple[int, str]:
        """Returns code and words for an error."""


class FindServer:
    """Serves lerf/find for a query node."""

    def __init__(self, node: Node, asker: Asker, config: FindConfig,
                 clock_s: Callable[[], float] = time.monotonic) -> None:
        """clock_s: seconds of any origin."""
        self._node, self._asker, self._config, self._clock_s = node, asker, config, clock_s
        self._closing, self._running = threading.Event(), 0
        self._lock = threading.Lock()
        self.server = ActionServer(
            node, Find, topics.FIND, self._never, callback_group=ReentrantCallbackGroup(),
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            handle_accepted_callback=self._begin)

    def close(self) -> None:
        """Ends all goals without a result, because the node ends; another call does nothing."""
        if not self._closing.is_set():
            self._closing.set()
            self.server.destroy()

    def _never(self, handle: ServerGoalHandle) -> Find.Result:
        """Stands in for the callback that every goal brings itself."""
        raise AssertionError(f'goal {handle.goal_id} has no search')

    def _begin(self, handle: ServerGoalHandle) -> None:
        search = Search(handle, self._node, self._asker, self._config, self._clock_s)
        threading.Thread(target=self._run, args=(handle, search), name='find', daemon=True).start()

    def _run(self, handle: ServerGoalHandle, search: Search) -> None:
        with self._lock:
            busy = self._running >= MOST_GOALS
            self._running += not busy
        try:
            if busy:
                search.fail(int(ErrorCode.BUSY), f'{MOST_GOALS} goals are being worked on: send '
                            'it again later')
            else:
                search.run(self._closing)
        finally:
            with self._lock:
                self._running -= not busy
        if not self._closing.is_set():
            handle.execute(lambda _: search.finish())


class Search:
    """Looks for the thing of one goal."""

    def __init__(self, handle: ServerGoalHandle, node: Node, asker: Asker, config: FindConfig,
                 clock_s: Callable[[], float]) -> None:
        self._handle, self._node, self._asker, self._config = handle, node, asker, config
        self._clock_s, self._start_s = clock_s, clock_s()
        self._asked: Asking | None = None
        self._missing = ''
        self.result = Find.Result(end=Find.Result.FAILED)

    def run(self, closing: threading.Event) -> None:
        """Asks every new snapshot until the goal ends; the result then says how."""
        try:
            wanted = Wanted.of(self._handle.request, self._config)
            request = goal_request(self._handle.request)
            if not request.text.strip():
                raise EmptyTextError('text is empty: say what to look for, a phrase in words')
            end = self._until_end(request, wanted, closing)
        except Exception as error:      # the node's log has what is not foreseen
            self.fail(*self._asker.reason(error))
            return
        if end is not None:
            self._conclude(end)

    def _until_end(self, request: Query.Request, wanted: Wanted,
                   closing: threading.Event) -> int | None:
        """Returns a constant of Find.Result; None when the node is closing."""
        newest, told_s = None, -float('inf')
        while not closing.wait(POLL_S):
            if self._handle.is_cancel_requested:
                return int(Find.Result.CANCELED)
            end, news = None, False
            try:
                snapshot = self._asker.snapshot()
                news = snapshot != newest
                if news:
                    newest = snapshot
                    end = self._ask(request, wanted)
            except NoSnapshotError as error:        # the mapper will write one
                self._missing = str(error)
            now_s = self._clock_s()
            if news or now_s - told_s >= self._config.feedback_period:
                told_s = now_s
                self._tell(now_s - self._start_s)
            if end is not None:
                return end
            if now_s - self._start_s >= wanted.limit_s:
                return int(Find.Result.TIME_LIMIT)
        return None

    def _ask(self, request: Query.Request, wanted: Wanted) -> int | None:
        asked = self._asker.ask_for(request, self._handle.request.propose_views)
        end = end_of(asked.answer, wanted)
        self._asked = asked
        self._missing = '' if end is not None else '; '.join(filter(None, [
            missing_of(asked.answer, wanted), asked.why_none]))
        return end

    def _tell(self, elapsed_s: float) -> None:
        frame_id, answer = '', None
        if self._asked is not None:
            frame_id, answer = self._asked.frame_id, in_goal_frame(self._asked)
        self._handle.publish_feedback(feedback_of(
            answer, elapsed_s, self._missing, self._views(), self._node.get_clock().now().to_msg(),
            frame_id))

    def _views(self) -> list[PoseStamped]:
        """Returns the proposed views in the frame of the goal; none once it is sure."""
        if self._asked is None or not self._missing:
            return []
        stamp, asked = self._node.get_clock().now().to_msg(), self._asked
        T_frame_map = np.eye(4) if asked.T_frame_map is None else asked.T_frame_map
        return [pose_in(T_frame_map @ T, stamp, asked.frame_id) for T in asked.views]

    def _conclude(self, end: int) -> None:
        """Fills the result from the last answer, and publishes that."""
        result, text = self.result, self._handle.request.text
        result.end = end
        words = [ENDS[end], self._missing]
        if self._asked is None:
            fill_error(result.answer, int(ErrorCode.NO_SNAPSHOT), self._missing)
            result.error_code = ErrorCode.NO_SNAPSHOT
        else:
            number = self._asker.publish(self._asked.answer, text)
            result.success, result.error_code = True, ErrorCode.NONE
            result.answer = to_answer(in_goal_frame(self._asked),
                                      self._node.get_clock().now().to_msg(), number, text)
            result.next_views = self._views()
            words.append(result.answer.message)
        result.message = '; '.join(filter(None, words))
        self._node.get_logger().info(f'find {text!r}: {result.message}')

    def fail(self, code: int, message: str) -> None:
        """Fills the result of a goal that could not be asked."""
        self.result.end, self.result.error_code = Find.Result.FAILED, code
        self.result.message = message
        fill_error(self.result.answer, code, message)

    def finish(self) -> Find.Result:
        """Ends the goal in the executor's thread, and returns its result."""
        if self._handle.is_cancel_requested:
            self._handle.canceled()
        elif self.result.end == Find.Result.FAILED:
            self._handle.abort()
        else:
            self._handle.succeed()
        return self.result


def in_goal_frame(asked: Asking) -> Answer:
    """Returns the answer in the frame that the goal names."""
    if asked.T_frame_map is None:
        return asked.answer
    return in_frame(asked.answer, asked.T_frame_map, asked.frame_id)
