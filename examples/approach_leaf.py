# SPDX-License-Identifier: Apache-2.0
"""A leaf of a behaviour tree (py_trees) that drives a base to a thing."""

from __future__ import annotations

from typing import Protocol

import py_trees
from navigate_to_thing import TaskResult


class Navigator(Protocol):
    """The part of ThingNavigator that the leaf uses."""

    reason: str

    def goToThing(self, text: str) -> bool: ...
    def isTaskComplete(self) -> bool: ...
    def getResult(self) -> TaskResult: ...
    def cancelTask(self) -> None: ...


class ApproachThing(py_trees.behaviour.Behaviour):
    """SUCCESS before the thing, FAILURE with the reason as feedback message, RUNNING on the way."""

    def __init__(self, text: str, navigator: Navigator) -> None:
        super().__init__(name=f'approach {text}')
        self.text, self.navigator = text, navigator

    def initialise(self) -> None:
        """Asks where to stand."""
        self.feedback_message = ''
        self.navigator.goToThing(self.text)

    def update(self) -> py_trees.common.Status:
        """Goes on for a moment."""
        if not self.navigator.isTaskComplete():
            return py_trees.common.Status.RUNNING
        if self.navigator.getResult() == TaskResult.SUCCEEDED:
            return py_trees.common.Status.SUCCESS
        self.feedback_message = self.navigator.reason
        return py_trees.common.Status.FAILURE

    def terminate(self, new_status: py_trees.common.Status) -> None:
        """Stops the base when the tree turns to something else."""
        if new_status == py_trees.common.Status.INVALID and self.status == \
                py_trees.common.Status.RUNNING:
            self.navigator.cancelTask()
