# SPDX-License-Identifier: Apache-2.0
"""A node with one task in a thread beside the executor: camera, replay and demo client."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from lerf_ros.errors import LerfError
from lerf_ros.nodes.running import EXIT_OK

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
