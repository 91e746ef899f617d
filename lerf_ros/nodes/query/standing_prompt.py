# SPDX-License-Identifier: Apache-2.0
"""The prompt on lerf/prompts: the node keeps the last one and answers it after each snapshot."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import String

from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.query.request import QueryRequest, split_phrases


class StandingPrompt:
    """request: what is asked now, None when nothing is. due: it waits for an answer."""

    def __init__(self, node: Node, changed: Callable[[], None]) -> None:
        """changed: called when another prompt has come."""
        self.request: QueryRequest | None = None
        self.due = False
        self._changed, self._logger = changed, node.get_logger()
        qos_overrides.subscribe(node, String, topics.PROMPTS, self.on_prompt, topics.PROMPTS_QOS)

    def on_prompt(self, msg: String) -> None:
        """Takes in a prompt; an empty one ends it."""
        request = prompt_request(msg.data)
        if request == self.request:
            return
        self.request, self.due = request, request is not None
        self._logger.info(f'standing prompt: {msg.data!r}' if request else 'no standing prompt')
        if request is not None:
            self._changed()


def prompt_request(text: str) -> QueryRequest | None:
    """The request of a prompt: one phrase, or several with `;` between them; None for a blank."""
    phrases = split_phrases(text)
    if not phrases:
        return None
    return QueryRequest(phrases[0]) if len(phrases) == 1 else QueryRequest(texts=phrases)
