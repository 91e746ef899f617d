# SPDX-License-Identifier: Apache-2.0
"""The main function of every node, with clean exit codes and one line for wrong settings."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from lerf_ros.errors import LerfError

EXIT_OK, EXIT_FAILED, EXIT_WRONG_SETTINGS = 0, 1, 2
JOIN_TIMEOUT_S = 5.0
POLL_S = 0.2    # between checks for a signal
CONDITION_POLL_S = 0.1


class TaskNode(Node):
    """A node with a task in its own thread.

    The event `stopping` tells the task to end; the event `finished` ends the process.
    """

    def __init__(self, name: str, **arguments: object) -> None:
        """arguments: those of rclpy.node.Node."""
        super().__init__(name, **arguments)
        self.stopping, self.finished = threading.Event(), threading.Event()
        self.exit_code = EXIT_OK
        self._task: threading.Thread | None = None

    def start_task(self, task: Callable[[], None]) -> None:
        """Runs a task beside the executor; an error in it ends the process with code 1."""
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

    def wait_for(self, condition: Callable[[], object], timeout_s: float = math.inf) -> bool:
        """Waits for a condition, at most timeout_s; returns False when the node is stopped."""
        deadline = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline:
            if self.stopping.wait(CONDITION_POLL_S):
                return False
        return not self.stopping.is_set()

    def finish(self, exit_code: int) -> None:
        """Ends the process with this code within POLL_S seconds."""
        self.exit_code = exit_code
        self.finished.set()

    def destroy_node(self) -> None:
        """Waits for the task to end, then destroys the node."""
        self.stopping.set()
        if self._task is not None:
            self._task.join(timeout=JOIN_TIMEOUT_S)
        super().destroy_node()


def run_node(create: Callable[[], Node], name: str, args: Sequence[str] | None = None) -> int:
    """Creates a node and spins it until SIGINT, SIGTERM or the event `finished` of a TaskNode.

    Returns the exit code: that of a TaskNode, else 0; 2, after one log line, when settings or input
    are unusable.
    """
    return run_nodes([create], name, args)


def run_nodes(creates: Sequence[Callable[[], Node]], name: str,
              args: Sequence[str] | None = None) -> int:
    """Runs several nodes in this process, each with a thread; the last one decides as in run_node.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        # rclpy's own handlers raise KeyboardInterrupt anywhere in the program.
        rclpy.init(args=None if args is None else list(args),
                   signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:   # rcl cannot parse the arguments
        print(f'{name}: {error}', file=sys.stderr)
        return EXIT_WRONG_SETTINGS
    nodes: list[Node] = []
    threads: list[threading.Thread] = []
    try:
        for create in creates:
            # Those before are served while this one loads.
            for node in nodes[len(threads):]:
                threads.append(threading.Thread(target=spin, args=(node, stop, stop)))
                threads[-1].start()
            nodes.append(create())
        spin(nodes[-1], stop, getattr(nodes[-1], 'finished', stop))
        return getattr(nodes[-1], 'exit_code', EXIT_OK)
    except LerfError as error:
        get_logger(name).fatal(str(error))
        return EXIT_WRONG_SETTINGS
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()


def spin(node: Node, stop: threading.Event, finished: threading.Event) -> None:
    """Serves callbacks in this thread until `stop` or `finished` is set."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while rclpy.ok() and not (stop.is_set() or finished.is_set()):
            executor.spin_once(timeout_sec=POLL_S)
    finally:
        executor.remove_node(node)
        executor.shutdown()
