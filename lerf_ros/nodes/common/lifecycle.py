# SPDX-License-Identifier: Apache-2.0
"""The life of the main nodes: managed as ROS 2 defines it, or started by themselves."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from lerf_ros.errors import LerfError, StillLoadingError
from lerf_ros.nodes.common import core_logging
from lerf_ros.nodes.common.qos_overrides import unused

# A node that starts alone has nobody who would configure it again while its models load.
LOADING_ATTEMPTS = 20


class ManagedNode(LifecycleNode):
    """Turns errors of a transition into words; rclpy alone would drop them.

    Subclasses fill in `configure`, `activate`, `deactivate` and `release`; `release` frees what
    `configure` made and may be called more than once.
    """

    settings: Any   # the node's own dataclass; has `autostart`
    # A node whose constructor refused its parameters is destroyed too; it has nothing to free.
    configured = False

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self._core_log = core_logging.hand_on(self.get_logger())
        self.active = False
        self.failure = ''   # why the last transition failed
        self.still_loading = False

    def configure(self) -> None:
        """Acquires resources; raises LerfError when it cannot."""

    def activate(self) -> None:
        """Starts work."""

    def deactivate(self) -> None:
        """Pauses work."""

    def release(self) -> None:
        """Frees resources."""

    def start_alone(self) -> bool:
        """Configures and activates without a manager; False when `failure` says why not."""
        success = TransitionCallbackReturn.SUCCESS
        for _ in range(LOADING_ATTEMPTS):
            if self.trigger_configure() == success:
                return self.trigger_activate() == success
            if not self.still_loading:
                break
        return False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.configured = True
        return self._transition(self.configure, active=False)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._transition(self.activate, active=True)
        if names := unused(self):
            self.get_logger().warning(
                f'{", ".join(names)}: this node has no such publisher or subscription; the topic '
                'is the full name after remapping')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.deactivate, active=False)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.release, active=False)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.release, active=False)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.release, active=False)

    def destroy_node(self) -> None:
        """Frees the resources of whatever state the node is in, then the node."""
        self.active = False
        if self.configured:
            self.release()
        super().destroy_node()
        self.wait_for_others()
        core_logging.stop(self._core_log)

    def wait_for_others(self) -> None:
        """Returns when nothing works for the node any more; what is logged until then is shown."""

    def _transition(self, work: Callable[[], None], active: bool) -> TransitionCallbackReturn:
        self.still_loading = False
        try:
            work()
        except LerfError as error:
            self.failure = str(error)
            self.still_loading = isinstance(error, StillLoadingError)
            self.get_logger().error(self.failure)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.failure = f'{type(error).__name__}: {error}'
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        self.active = active
        return TransitionCallbackReturn.SUCCESS


def started(node: ManagedNode) -> ManagedNode:
    """The node, configured and active unless its setting `autostart` is off.

    Raises LerfError, after destroying the node, when it cannot be started.
    """
    if not node.settings.autostart:
        node.get_logger().info('not started: a lifecycle manager configures and activates it')
    elif not node.start_alone():
        failure = node.failure
        node.destroy_node()
        raise LerfError(failure)
    return node
