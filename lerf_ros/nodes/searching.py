# SPDX-License-Identifier: Apache-2.0
"""Sends a goal to lerf/find for a person at a terminal, and prints how the search goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future

from lerf_ros.action import Find
from lerf_ros.errors import LerfError
from lerf_ros.msg import Presence
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.graph import terminal_node
from lerf_ros.nodes.query.find_goal import duration_of, seconds_of
from lerf_ros.nodes.query.messages import error_name
from lerf_ros.nodes.terminal import answer_lines, who_is_here

CANCEL_S = 5.0      # how long to wait for the result of a goal that Ctrl-C cancels


def find(fields: Mapping[str, object], limit_s: float, namespace: str, timeout_s: float) -> int:
    """Looks for a thing until the goal ends, or Ctrl-C cancels it; returns 0 if it is sure.

    fields: of the goal of action/Find by name. limit_s: its time limit, 0 for the node's own.
    Raises LerfError where no node answers in time.
    """
    shown = Progress()
    with terminal_node(namespace) as (node, executor):
        client = ActionClient(node, Find, topics.FIND)
        if not client.wait_for_server(timeout_s):
            raise LerfError(f'no action {topics.FIND} {who_is_here(node, timeout_s)}')
        goal = Find.Goal(time_limit=duration_of(limit_s), **fields)
        sent = client.send_goal_async(goal, lambda msg: shown.show(msg.feedback))
        executor.spin_until_future_complete(sent, timeout_sec=timeout_s)
        if not sent.done() or not sent.result().accepted:
            raise LerfError(f'{topics.FIND} did not accept the goal within {timeout_s:g} s: look '
                            'at the log of query_node')
        future = sent.result().get_result_async()
        try:
            executor.spin_until_future_complete(future)
        except KeyboardInterrupt:
            cancel(executor, sent.result().cancel_goal_async(), future)
        if not future.done():
            raise LerfError(f'the cancelled goal gave no result within {CANCEL_S:g} s')
        result = future.result().result
        client.destroy()
    print('\n'.join(result_lines(result)), flush=True)
    return int(result.end != Find.Result.SURE)


def cancel(executor: SingleThreadedExecutor, cancelled: Future, result: Future) -> None:
    """Waits until a goal was cancelled and has its result, at most CANCEL_S for each."""
    executor.spin_until_future_complete(cancelled, timeout_sec=CANCEL_S)
    executor.spin_until_future_complete(result, timeout_sec=CANCEL_S)


class Progress:
    """Prints feedback that says something new."""

    def __init__(self) -> None:
        self._last = ''

    def show(self, feedback: Find.Feedback) -> None:
        """Prints a line, unless it says what the line before said."""
        words = feedback_words(feedback)
        if words != self._last:
            print(f'{seconds_of(feedback.elapsed):.0f} s: {words}', flush=True)
            self._last = words


def feedback_words(feedback: Find.Feedback) -> str:
    """Returns what is missing, and from where more would be seen."""
    parts = [feedback.missing or ('sure' if feedback.presence == Presence.PRESENT
                                  else 'sure that it is not there')]
    for pose in feedback.next_views[:1]:
        at, count = pose.pose.position, len(feedback.next_views)
        parts.append(f'look from ({at.x:.2f}, {at.y:.2f}, {at.z:.2f}) in '
                     f'{pose.header.frame_id!r}' + (f' ({count} views)' if count > 1 else ''))
    return '; '.join(parts)


def result_lines(result: Find.Result) -> Iterator[str]:
    """Yields the lines of a result for a terminal."""
    if not result.success:
        yield f'not answered ({error_name(result.error_code)}): {result.message}'
        return
    yield result.message
    yield from list(answer_lines(result.answer))[1:]
