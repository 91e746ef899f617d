# SPDX-License-Identifier: Apache-2.0
"""The main function of every node: clean exit codes, no tracebacks for wrong settings."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from lerf_ros.errors import LerfError

EXIT_FAILED = 1
JOIN_S = 5.0


class TaskNode(Node):
    """`stopping` tells the task to end, `finish` tells the process to end."""

    def __init__(self, name: str, **arguments: Any):
        super().__init__(name, **arguments)
        self.stopping, self.finished = threading.Event(), threading.Event()
        self.exit_code = EXIT_OK
        self._task: threading.Thread | None = None

    def start_task(self, task: Callable[[], None]) -> None:
        """Runs `task` beside the executor; if it fails the node says why and ends with code 1."""
        def guarded() -> None:
            try:
                task()
            except LerfError as error:
                self.get_logger().fatal(str(error))
                self.finish(EXIT_FAILED)
            except Exception:
                self.get_logger().fatal(traceback.format_exc())
                self.finish(EXIT_FAILED)

        self._task = threading.Thread(target=guarded, name=self.get_name(), daemon=True)
        self._task.start()

    def finish(self, exit_code: int) -> None:
        """Ends the process with this code, soon."""
        self.exit_code = exit_code
        self.finished.set()

    def destroy_node(self) -> None:
        """Lets the task finish what it publishes, then destroys the node."""
        self.stopping.set()
        if self._task is not None:
            self._task.join(timeout=JOIN_S)
        super().destroy_node()


EXIT_OK, EXIT_WRONG_SETTINGS = 0, 2
# A signal is seen when a wait ends; this bounds how long that takes.
WAIT_S = 0.2


def run_node(create: Callable[[], Node], name: str, args: Sequence[str] | None = None) -> int:
    """Makes a node and spins it until SIGINT or SIGTERM, or until its event `finished` is set.

    Returns the node's `exit_code` where it has one, else 0; 2 when the settings or the input are
    unusable: the reason is one log line.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        # rclpy's own handlers raise KeyboardInterrupt wherever the program happens to be.
        rclpy.init(args=None if args is None else list(args),
                   signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:   # rcl's errors: arguments that it cannot parse
        print(f'{name}: {error}', file=sys.stderr)
        return EXIT_WRONG_SETTINGS
    node = None
    try:
        node = create()
        spin(node, stop, getattr(node, 'finished', stop))
        return getattr(node, 'exit_code', EXIT_OK)
    except LerfError as error:
        get_logger(name).fatal(str(error))
        return EXIT_WRONG_SETTINGS
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def spin(node: Node, stop: threading.Event, finished: threading.Event) -> None:
    """Serves callbacks in this thread until `stop` or `finished` is set."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while rclpy.ok() and not (stop.is_set() or finished.is_set()):
            executor.spin_once(timeout_sec=WAIT_S)
    finally:
        executor.remove_node(node)
        executor.shutdown()
