# SPDX-License-Identifier: Apache-2.0
"""Lifecycle of the main nodes, with a manager or without, and their logging."""

from __future__ import annotations

import logging
import traceback
import weakref
from collections.abc import Callable
from typing import Protocol

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from lerf_ros.errors import LerfError, StillLoadingError
from lerf_ros.nodes.common.bond import ManagerBond
from lerf_ros.nodes.common.qos_overrides import unused

# A node without a manager configures itself again while its models load.
MAX_LOADING_ATTEMPTS = 20
CORE_LOGGER = 'lerf_ros'


class CoreLogHandler(logging.Handler):
    """Passes records of the core, which uses Python's logging, to a node's logger."""

    def __init__(self, logger: RcutilsLogger) -> None:
        """Adopts the level of the node's logger until `close`."""
        super().__init__()
        self._logger, core = logger, logging.getLogger(CORE_LOGGER)
        self._level_before = core.level
        core.addHandler(self)
        # Severities of rcutils are Python's levels: 10, 20, ...
        core.setLevel(int(logger.get_effective_level()))

    def emit(self, record: logging.LogRecord) -> None:
        """Logs one line at the level of the record."""
        text = f'[{record.name.removeprefix(CORE_LOGGER + ".")}] {self.format(record)}'
        # A call for each level: rclpy allows one severity for each place in the code.
        if record.levelno >= logging.CRITICAL:
            self._logger.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)

    def close(self) -> None:
        """Stops passing records and restores the level of the core."""
        core = logging.getLogger(CORE_LOGGER)
        if self in core.handlers:
            core.removeHandler(self)
            core.setLevel(self._level_before)
        super().close()


class NodeSettings(Protocol):
    """What the settings of a managed node have in common."""

    @property
    def autostart(self) -> bool:
        """Returns whether the node configures and activates itself."""

    @property
    def bond(self) -> str:
        """Returns when the node bonds with a lifecycle manager: auto, always or never."""


class ManagedNode(LifecycleNode):
    """Logs errors of transitions in words; rclpy would drop them.

    Subclasses implement `configure`, `activate`, `deactivate` and `release`. `release` frees what
    `configure` acquired and may be called more than once.
    """

    settings: NodeSettings
    # False also for a node whose constructor failed, which has nothing to free.
    configured = False

    def __init__(self, name: str, **arguments: object) -> None:
        """arguments: those of rclpy.node.Node."""
        super().__init__(name, **arguments)
        self._core_log = CoreLogHandler(self.get_logger())
        # Nobody destroys a node whose constructor fails: its log ends with the object.
        weakref.finalize(self, self._core_log.close)
        self.bond = ManagerBond(self)
        self.active = False
        self.failure = ''   # why the last transition failed
        self.still_loading = False

    def configure(self) -> None:
        """Acquires resources; raises LerfError when it fails."""

    def activate(self) -> None:
        """Starts work."""

    def deactivate(self) -> None:
        """Pauses work."""

    def release(self) -> None:
        """Frees resources."""

    def start_alone(self) -> bool:
        """Configures and activates without a manager; returns False when `failure` says why not."""
        success = TransitionCallbackReturn.SUCCESS
        for _ in range(MAX_LOADING_ATTEMPTS):
            if self.trigger_configure() == success:
                return self.trigger_activate() == success
            if not self.still_loading:
                break
        return False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.configured = True

        def work() -> None:
            self.bond.check(self.settings.bond)
            self.configure()
        return self._transition(work, active=False)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._transition(self.activate, active=True)
        if names := unused(self):
            self.get_logger().warning(
                f'{", ".join(names)}: this node has no such publisher or subscription; the topic '
                'is the full name after remapping')
        if result == TransitionCallbackReturn.SUCCESS:
            self.bond.start(self.settings.bond, managed=not self.settings.autostart)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.bond.end()
        return self._transition(self.deactivate, active=False)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.bond.end()     # before what may take long: the manager shall know
        return self._transition(self.release, active=False)

    on_shutdown = on_error = on_cleanup

    def destroy_node(self) -> None:
        """Frees the resources, in any state, then destroys the node."""
        self.active = False
        self.bond.end()
        if self.configured:
            self.release()
        super().destroy_node()
        self.wait_for_processes()
        self._core_log.close()

    def wait_for_processes(self) -> None:
        """Waits until no process works for the node any more; its log is still shown."""

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
    """Returns the node, configured and active unless its setting `autostart` is off.

    Destroys the node and raises LerfError when it cannot be started.
    """
    if not node.settings.autostart:
        node.get_logger().info('not started: a lifecycle manager configures and activates it')
    elif not node.start_alone():
        failure = node.failure
        node.destroy_node()
        raise LerfError(failure)
    return node
