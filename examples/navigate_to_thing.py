# SPDX-License-Identifier: Apache-2.0
"""Drives a base to a thing: asks lerf/query where to stand, and sends that to Nav2.

    python3 examples/navigate_to_thing.py "red mug"

`ThingNavigator` has the manners of nav2_simple_commander's BasicNavigator: it returns at once, and
is asked whether it is done. Nav2 plans the way and watches for what moved since the map was made.
"""

from __future__ import annotations

import enum
import sys
import time

import rclpy
from action_msgs.msg import GoalStatus
from nav2_msgs.action import NavigateToPose
from rclpy.action import ActionClient
from rclpy.node import Node

from lerf_ros.msg import Presence
from lerf_ros.srv import Query

QUERY, NAVIGATE = 'lerf/query', 'navigate_to_pose'
POLL_S = 0.1
PRESENCE = {Presence.ABSENT: 'is not there', Presence.NOT_OBSERVED: 'was not found, and not all '
            'was seen: look around first (action lerf/find)'}


class TaskResult(enum.Enum):
    """How a task ended, as in nav2_simple_commander."""

    UNKNOWN = 0
    SUCCEEDED = 1
    CANCELED = 2
    FAILED = 3


class ThingNavigator(Node):
    """Drives to things by name. Call `isTaskComplete` until it is true; it spins the node."""

    def __init__(self) -> None:
        super().__init__('thing_navigator')
        self._query = self.create_client(Query, QUERY)
        self._navigate = ActionClient(self, NavigateToPose, NAVIGATE)
        self._answer = self._sent = self._done = self._goal = None
        self._feedback = None
        self._canceled = False
        self.result, self.reason = TaskResult.UNKNOWN, ''

    def goToThing(self, text: str) -> bool:
        """Asks where to stand before a thing, and drives there; returns whether it was asked."""
        self._answer = self._sent = self._done = self._goal = self._feedback = None
        self._canceled, self.result, self.reason = False, TaskResult.UNKNOWN, ''
        for server, ready in ((QUERY, self._query.service_is_ready),
                              (NAVIGATE, self._navigate.server_is_ready)):
            if not ready():
                return self._fail(f'{server} is not there')
        self._answer = self._query.call_async(Query.Request(text=text, plan_stand_off=True))
        return True

    def isTaskComplete(self) -> bool:
        """Goes on with the task for a moment; returns whether it is over."""
        if self.result != TaskResult.UNKNOWN:
            return True
        rclpy.spin_once(self, timeout_sec=POLL_S)
        if self._sent is None and self._answer is not None and self._answer.done():
            self._send(self._answer.result())
        elif self._sent is not None and self._goal is None and self._sent.done():
            self._accepted(self._sent.result())
        elif self._done is not None and self._done.done():
            self._over(self._done.result().status)
        return self.result != TaskResult.UNKNOWN

    def getFeedback(self) -> object:
        """Returns the newest feedback of navigate_to_pose; None before the first."""
        return self._feedback

    def getResult(self) -> TaskResult:
        """Returns how the task ended; `reason` says why it failed."""
        return self.result

    def cancelTask(self) -> None:
        """Stops the base, or forgets the question."""
        self._canceled = True
        if self._goal is not None and self.result == TaskResult.UNKNOWN:
            self._goal.cancel_goal_async()
        elif self._sent is None and self.result == TaskResult.UNKNOWN:
            self.result = TaskResult.CANCELED

    def _send(self, answer: Query.Response) -> None:
        if not answer.success:
            self._fail(answer.message)
        elif answer.presence != Presence.PRESENT:
            self._fail(f'it {PRESENCE[answer.presence]}')
        elif not answer.has_stand_off:
            self._fail(f'there is no place to stand before it: {answer.stand_off_note}')
        else:
            goal = NavigateToPose.Goal()
            goal.pose = answer.stand_off_pose
            self._sent = self._navigate.send_goal_async(goal, self._hear)

    def _hear(self, message: object) -> None:
        self._feedback = message.feedback

    def _accepted(self, goal: object) -> None:
        if not goal.accepted:
            self._fail(f'{NAVIGATE} refused the place')
            return
        self._goal, self._done = goal, goal.get_result_async()
        if self._canceled:      # while the goal was on its way
            goal.cancel_goal_async()

    def _over(self, status: int) -> None:
        if status == GoalStatus.STATUS_SUCCEEDED:
            self.result = TaskResult.SUCCEEDED
        elif status == GoalStatus.STATUS_CANCELED:
            self.result = TaskResult.CANCELED
        else:
            self._fail(f'{NAVIGATE} ended with status {status}')

    def _fail(self, reason: str) -> bool:
        self.result, self.reason = TaskResult.FAILED, reason
        return False


def main() -> int:
    """Drives to the thing of the command line; returns 1 where it did not get there."""
    rclpy.init()
    navigator = ThingNavigator()
    time.sleep(1.0)     # servers are found
    navigator.goToThing(' '.join(sys.argv[1:]))
    try:
        while not navigator.isTaskComplete():
            pass
    except KeyboardInterrupt:
        navigator.cancelTask()
    print(navigator.getResult().name.lower(), navigator.reason)
    return 0 if navigator.getResult() == TaskResult.SUCCEEDED else 1


if __name__ == '__main__':
    sys.exit(main())
