# SPDX-License-Identifier: Apache-2.0
"""Plays a nerfstudio folder or a rosbag2 as the topics of a camera."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lerf_ros.errors import ConfigError
from lerf_ros.nodes.common.parameters import declare
from lerf_ros.nodes.common.running import EXIT_OK, TaskNode, run_node
from lerf_ros.nodes.demo.bags import BagPlayer
from lerf_ros.nodes.demo.config import ReplayConfig
from lerf_ros.nodes.demo.folder_player import FolderPlayer

# The last messages must reach reliable subscribers before the publishers go.
LINGER_S = 2.0
# Between the end and the new start, so that a listener sees where one round ends.
LOOP_PAUSE_S = 0.5


class ReplayNode(TaskNode):
    """Plays from a thread of its own and ends at the end."""

    def __init__(self, **kwargs):
        super().__init__('replay_node', **kwargs)
        self._config = declare(self, ReplayConfig())
        if bool(self._config.folder) == bool(self._config.bag):
            raise ConfigError('give one of folder (with a transforms.json) and bag (a rosbag2): '
                              '--ros-args -p folder:=PATH')
        player = FolderPlayer if self._config.folder else BagPlayer
        self._player: Any = player(self, self._config)
        self.get_logger().info(
            f'{self._config.folder or self._config.bag}: {self._player.description}')
        self.start_task(self._play)

    def _play(self) -> None:
        if self._config.wait_for_subscriber:
            self.get_logger().info('waiting for a subscriber of the images')
            while not self._player.heard():
                if self.stopping.wait(0.1):
                    return
        if self.stopping.wait(self._config.start_delay):
            return
        count = self._play_once()
        while self._config.loop and not self.stopping.wait(LOOP_PAUSE_S):
            count += self._play_once()
        if not self.stopping.is_set():
            self.get_logger().info(f'replay complete: {count} messages or images')
            self.stopping.wait(LINGER_S)
        self.finish(EXIT_OK)

    def _play_once(self) -> int:
        """One round at the rate asked for, slower where reading is; returns what was played."""
        started, count = time.monotonic(), 0
        for due_s, item in self._player.steps():
            if self.stopping.wait(max(0.0, due_s - (time.monotonic() - started))):
                break
            self._player.publish(item)
            count += 1
        return count


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node; returns its exit code, 2 for a folder or bag that cannot be played."""
    return run_node(ReplayNode, 'replay_node', args)


if __name__ == '__main__':
    raise SystemExit(main())
