# SPDX-License-Identifier: Apache-2.0
"""TF look-up of the newest transform, with tf2_ros where it is installed."""

from __future__ import annotations

import threading
import time

import numpy as np
import yaml
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import FrameError, NoTransformError
from lerf_ros.nodes.common import qos_overrides
from lerf_ros.nodes.common.conversions import transform_to_matrix
from lerf_ros.nodes.common.topics import TF_QOS, TF_STATIC_QOS

try:
    from tf2_ros import Buffer, TransformException
except ImportError:
    from lerf_ros.nodes.tf.python_buffer import Buffer, TransformException

__all__ = ['Buffer', 'FrameLookup', 'TransformException', 'known_frames']

POLL_S = 0.02


def known_frames(buffer: Buffer) -> list[str]:
    """Returns the names of all frames in a buffer, sorted."""
    tree = yaml.safe_load(buffer.all_frames_as_yaml() or '{}') or {}
    if not isinstance(tree, dict):      # tf2 answers '[]' while it knows no frame
        return []
    return sorted(set(tree) | {edge['parent'] for edge in tree.values()})


class FrameLookup:
    """Looks up where a frame is now; subscribes to TF when it is first needed.

    Messages arrive in the executor's thread; look-ups are for another thread.
    """

    def __init__(self, node: Node, timeout_s: float) -> None:
        """timeout_s: how long the first look-up may wait for transforms to arrive."""
        self._node, self._timeout_s = node, timeout_s
        self._buffer, self._lock = Buffer(), threading.Lock()
        self._listening_since = 0.0

    def listen(self) -> None:
        """Subscribes to TF, unless it has done so before."""
        if self._listening_since:
            return
        self._listening_since = time.monotonic()
        qos_overrides.subscribe(
            self._node, TFMessage, '/tf', lambda msg: self._add(msg, static=False), TF_QOS)
        qos_overrides.subscribe(
            self._node, TFMessage, '/tf_static', lambda msg: self._add(msg, static=True),
            TF_STATIC_QOS)

    def T_frame_map(self, frame_id: str, map_frame: str) -> np.ndarray:
        """Returns the newest transform (4, 4) from map coordinates to coordinates of a frame.

        Waits for transforms only when TF has just been subscribed to. Raises NoTransformError,
        which names the known frames.
        """
        deadline = self._listening_since + self._timeout_s
        while True:
            with self._lock:
                try:
                    msg = self._buffer.lookup_transform(frame_id, map_frame, Time())
                    return transform_to_matrix(msg.transform)
                except TransformException as error:
                    reason, frames = str(error), known_frames(self._buffer)
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        known = f'frames on /tf: {", ".join(frames)}' if frames else 'nothing arrived on /tf'
        raise NoTransformError(
            f'frame_id {frame_id!r} is not connected to the map frame {map_frame!r} ({reason}); '
            f'{known}. Leave frame_id empty for the map frame')

    def _add(self, msg: TFMessage, static: bool) -> None:
        with self._lock:
            add = self._buffer.set_transform_static if static else self._buffer.set_transform
            for transform in msg.transforms:
                try:
                    add(transform, 'lerf_ros')
                except FrameError as error:     # tf2 itself drops such transforms with a log line
                    self._node.get_logger().warning(
                        f'transform of {transform.child_frame_id!r} dropped: {error}',
                        throttle_duration_sec=5.0)
