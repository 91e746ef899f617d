# SPDX-License-Identifier: Apache-2.0
"""The standing prompt of lerf/prompts."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import String

from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.query.messages import prompt_to_request
from lerf_ros.query.request import QueryRequest


class StandingPrompt:
    """The last prompt on lerf/prompts, which is answered again after each snapshot.

    request: None when there is no prompt. due: the prompt waits for an answer.
    """

    def __init__(self, node: Node, on_change: Callable[[], None]) -> None:
        """on_change: called after another prompt has arrived."""
        self.request: QueryRequest | None = None
        self.due = False
        self._on_change, self._logger = on_change, node.get_logger()
        qos_overrides.subscribe(node, String, topics.PROMPTS, self.on_prompt, topics.PROMPTS_QOS)

    def on_prompt(self, msg: String) -> None:
        """Takes a prompt; a blank one ends it."""
        request = prompt_to_request(msg)
        if request == self.request:
            return
        self.request, self.due = request, request is not None
        self._logger.info(f'standing prompt: {msg.data!r}' if request else 'no standing prompt')
        if request is not None:
            self._on_change()
